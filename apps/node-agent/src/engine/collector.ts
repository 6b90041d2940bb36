/**
 * Decides when what nobody uses is collected: soon after something lost its last name, when somebody asks, and when the disk
 * runs full. What is collected is the image service's to know.
 */
import { anySignal, Lifetime, StatusError, systemClock, type Clock, type Logger } from "@berth/base";
import type { Images } from "@berth/images";

export interface CollectorDeps {
  readonly images: Pick<Images, "collect">;
  /** Share of the data root's disk that is free. */
  readonly freeShare: () => number;
  readonly logger: Logger;
  readonly clock?: Clock;
}

export interface CollectorConfig {
  /** Wishes within this time are one collection. */
  readonly delayMs: number;
  /** Below this free share the disk is full. */
  readonly lowShare: number;
  readonly checkEveryMs: number;
  /** While the disk is full, not more often than this. */
  readonly pressureEveryMs: number;
}

const DEFAULTS: CollectorConfig = { delayMs: 2_000, lowShare: 0.1, checkEveryMs: 60_000, pressureEveryMs: 300_000 };

export interface Collector extends AsyncDisposable {
  /** Collects soon. */
  want(): void;
}

export function startCollector(deps: CollectorDeps, given: Partial<CollectorConfig> = {}): Collector {
  const config = { ...DEFAULTS, ...given };
  const { clock = systemClock, logger } = deps;
  const lifetime = new Lifetime();
  let wanted = Promise.withResolvers<void>();
  let pressedAtMs = Number.NEGATIVE_INFINITY;

  const isPressing = (): boolean => {
    if (deps.freeShare() >= config.lowShare) return false;
    return clock.monotonicMs() - pressedAtMs >= config.pressureEveryMs;
  };
  const collect = async (): Promise<void> => {
    try {
      const freed = await deps.images.collect();
      if (freed.blobs + freed.snapshots > 0) logger.info({ ...freed }, "collected what nobody uses");
    } catch (error) {
      logger.error({ err: StatusError.from(error) }, "collecting failed");
    }
  };
  lifetime.loop(
    async (signal) => {
      while (!signal.aborted) {
        const asked = await wishWithin(wanted.promise, config.checkEveryMs, signal, clock);
        if (asked) await clock.sleep(config.delayMs, signal);
        wanted = asked ? Promise.withResolvers<void>() : wanted;
        if (!asked && !isPressing()) continue;
        if (!asked) pressedAtMs = clock.monotonicMs();
        await collect();
      }
    },
    (error) => logger.error({ err: StatusError.from(error) }, "the collector has ended"),
  );
  return {
    want: () => wanted.resolve(),
    [Symbol.asyncDispose]: () => lifetime[Symbol.asyncDispose](),
  };
}

async function wishWithin(wish: Promise<void>, ms: number, signal: AbortSignal, clock: Clock): Promise<boolean> {
  const done = new AbortController();
  const sleep = clock.sleep(ms, anySignal(signal, done.signal)).then(
    () => false,
    () => false,
  );
  const asked = await Promise.race([wish.then(() => true), sleep]);
  done.abort();
  await sleep;
  return asked;
}
