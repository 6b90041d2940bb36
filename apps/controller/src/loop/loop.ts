/**
 * A background loop that does a round of work when its bell rings, and now and then anyway.
 *
 * A round says how long it can wait. A round that fails is logged and tried again with backoff; it never ends the loop.
 */
import { backoffMs, Lifetime, StatusError, systemClock, type Clock, type Logger } from "@berth/base";
import { Bell } from "./bell.ts";

/** `again`: there is more to do now. Otherwise the bell is waited for, at most so many milliseconds. */
export type Round = "again" | number;

export interface LoopDeps {
  readonly logger: Logger;
  readonly clock?: Clock;
}

export interface LoopSpec {
  readonly name: string;
  round(signal: AbortSignal): Promise<Round>;
  /** Called when a round has failed. */
  onFailure?(): void;
}

export interface Loop extends AsyncDisposable {
  ring(): void;
}

const BACKOFF = { initialMs: 100, maxMs: 5_000, factor: 2 };

export function startLoop(deps: LoopDeps, spec: LoopSpec, signal?: AbortSignal): Loop {
  const { logger, clock = systemClock } = deps;
  const lifetime = new Lifetime(signal);
  const bell = new Bell();
  lifetime.loop(
    async (ending) => {
      for (let failures = 0; !ending.aborted;) {
        let waitMs = 0;
        try {
          const round = await spec.round(ending);
          failures = 0;
          if (round === "again") continue;
          waitMs = round;
        } catch (error) {
          if (ending.aborted) return;
          failures += 1;
          spec.onFailure?.();
          const status = StatusError.from(error);
          waitMs = backoffMs(BACKOFF, Math.min(failures, 16));
          logger.warn({ err: status, failures, loop: spec.name }, `${spec.name} failed; it will be tried again`);
          await clock.sleep(waitMs, ending).catch(() => undefined);
          continue;
        }
        await bell.wait(clock, waitMs, ending);
      }
    },
    (error) => logger.error({ err: error, loop: spec.name }, `${spec.name} has ended`),
  );
  return {
    ring: () => bell.ring(),
    [Symbol.asyncDispose]: () => lifetime[Symbol.asyncDispose](),
  };
}
