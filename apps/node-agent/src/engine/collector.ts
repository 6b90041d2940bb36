/**
 * Decides when what nobody uses is collected: after the start, soon after something lost its last name or when somebody asks,
 * after many changes or a pull into a namespace with a quota, now and then, and when the disk runs full. What is collected is
 * the image service's to know.
 *
 * Collections that nobody asked for keep their distance, so that the time they take on the event loop stays below a share
 * of all time (containerd's pause_threshold).
 */
import { anySignal, Lifetime, StatusError, systemClock, type Clock, type Logger } from "@berth/base";
import type { AgentConfig } from "@berth/config";
import type { GarbageCollection, GcReport, GcTrigger } from "@berth/images";

export interface CollectorDeps {
  readonly gc: Pick<GarbageCollection, "run" | "changes" | "isDiskPressing" | "isQuotaDue">;
  readonly logger: Logger;
  readonly clock?: Clock;
}

export type CollectorConfig = Omit<AgentConfig["gc"], "watermarks" | "cacheQuotaBytes" | "cacheQuotas">;

/** How often changes are counted. */
const POLL_MS = 1_000;
/** After pressure that could not be relieved, not more often than this. */
const PRESSURE_REST_MS = 300_000;

export interface Collector extends AsyncDisposable {
  /** Collects soon. */
  want(): void;
}

export function startCollector(deps: CollectorDeps, config: CollectorConfig): Collector {
  const { clock = systemClock, logger } = deps;
  const lifetime = new Lifetime();
  const schedule = new Schedule(deps.gc, config, clock);
  let wanted = Promise.withResolvers<void>();

  const collect = async (trigger: GcTrigger, signal: AbortSignal): Promise<void> => {
    try {
      const report = await deps.gc.run({ trigger, signal });
      schedule.ran(report);
      tell(logger, report);
    } catch (error) {
      if (signal.aborted) return;
      schedule.failed();
      logger.error({ err: StatusError.from(error), trigger }, "collecting failed");
    }
  };
  lifetime.loop(
    async (signal) => {
      await clock.sleep(config.startupDelayMs, signal);
      await collect("startup", signal);
      while (!signal.aborted) {
        const asked = await wishWithin(wanted.promise, POLL_MS, signal, clock);
        const trigger = asked ? "request" : schedule.due();
        if (trigger === undefined) continue;
        if (trigger !== "watermark") await clock.sleep(config.scheduleDelayMs, signal);
        // A wish of the delay is part of this collection.
        wanted = Promise.withResolvers<void>();
        await collect(trigger, signal);
      }
    },
    (error) => logger.error({ err: StatusError.from(error) }, "the collector has ended"),
  );
  return {
    want: () => wanted.resolve(),
    [Symbol.asyncDispose]: () => lifetime[Symbol.asyncDispose](),
  };
}

class Schedule {
  readonly #gc: CollectorDeps["gc"];
  readonly #config: CollectorConfig;
  readonly #clock: Clock;
  #endedAtMs: number;
  #notBeforeMs = 0;
  #diskCheckedAtMs: number;
  #pressureNotBeforeMs = 0;

  constructor(gc: CollectorDeps["gc"], config: CollectorConfig, clock: Clock) {
    this.#gc = gc;
    this.#config = config;
    this.#clock = clock;
    this.#endedAtMs = clock.monotonicMs();
    this.#diskCheckedAtMs = Number.NEGATIVE_INFINITY;
  }

  due(): GcTrigger | undefined {
    const nowMs = this.#clock.monotonicMs();
    if (this.#isDiskPressing(nowMs)) return "watermark";
    if (nowMs < this.#notBeforeMs) return undefined;
    if (this.#gc.isQuotaDue()) return "quota";
    const { mutationThreshold, deletionThreshold, intervalMs } = this.#config;
    const { mutations, deletions } = this.#gc.changes();
    if (deletionThreshold > 0 && deletions >= deletionThreshold) return "deletions";
    if (mutationThreshold > 0 && mutations >= mutationThreshold) return "mutations";
    return intervalMs > 0 && nowMs - this.#endedAtMs >= intervalMs ? "schedule" : undefined;
  }

  ran({ busyMs, trigger, shortfall, images }: GcReport): void {
    this.#endedAtMs = this.#clock.monotonicMs();
    this.#notBeforeMs = this.#endedAtMs + busyMs / this.#config.pauseThreshold - busyMs;
    if (trigger === "watermark" && (shortfall !== undefined || images === 0)) {
      this.#pressureNotBeforeMs = this.#endedAtMs + PRESSURE_REST_MS;
    }
  }

  failed(): void {
    this.#endedAtMs = this.#clock.monotonicMs();
    this.#notBeforeMs = this.#endedAtMs + PRESSURE_REST_MS;
    this.#pressureNotBeforeMs = this.#notBeforeMs;
  }

  #isDiskPressing(nowMs: number): boolean {
    if (nowMs - this.#diskCheckedAtMs < this.#config.checkDiskMs || nowMs < this.#pressureNotBeforeMs) return false;
    this.#diskCheckedAtMs = nowMs;
    return this.#gc.isDiskPressing();
  }
}

function tell(logger: Logger, report: GcReport): void {
  const { trigger, shortfall, images, leases, blobs, snapshots, ingests, freedBytes, durationMs } = report;
  if (shortfall !== undefined) logger.warn({ trigger }, `collection could not free enough: ${shortfall}`);
  if (images + leases + blobs + snapshots + ingests === 0) return;
  const figures = {
    trigger,
    images,
    leases,
    blobs,
    snapshots,
    ingests,
    freedBytes,
    durationMs: Math.round(durationMs),
  };
  logger.info(figures, "collected what nobody uses");
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
