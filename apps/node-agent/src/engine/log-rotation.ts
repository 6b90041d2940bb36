/** Keeps container logs from filling the disk: a log beyond the bound is rotated, and a few old ones are kept. */
import { stat } from "node:fs/promises";
import { Lifetime, StatusError, systemClock, type Clock, type Logger } from "@berth/base";
import { rotateLog } from "@berth/runtime";
import type { Engine } from "./engine.ts";

export interface LogRotationDeps {
  readonly engine: Pick<Engine, "running">;
  readonly logger: Logger;
  readonly clock?: Clock;
}

export interface LogRotationConfig {
  readonly maxBytes: number;
  /** Rotated files kept beside the current one. */
  readonly keep: number;
  readonly everyMs: number;
}

const DEFAULTS: LogRotationConfig = { maxBytes: 10 * 1024 * 1024, keep: 3, everyMs: 10_000 };

export function startLogRotation(deps: LogRotationDeps, given: Partial<LogRotationConfig> = {}): AsyncDisposable {
  const config = { ...DEFAULTS, ...given };
  const { clock = systemClock, logger } = deps;
  const lifetime = new Lifetime();
  lifetime.loop(
    async (signal) => {
      for (;;) {
        await clock.sleep(config.everyMs, signal);
        await rotateLarge(deps, config, signal);
      }
    },
    (error) => logger.error({ err: StatusError.from(error) }, "log rotation has ended"),
  );
  return lifetime;
}

async function rotateLarge(
  { engine, logger }: LogRotationDeps,
  config: LogRotationConfig,
  signal: AbortSignal,
): Promise<void> {
  for (const { container, runtime } of engine.running()) {
    if (signal.aborted) return;
    const size = await stat(container.logPath).then(
      (info) => info.size,
      () => 0,
    );
    if (size < config.maxBytes) continue;
    try {
      await rotateLog(container.logPath, { keep: config.keep, reopen: () => runtime.reopenLog(container), signal });
    } catch (error) {
      const status = StatusError.from(error);
      logger.warn({ id: container.id, reason: status.reason }, `log was not rotated: ${status.message}`);
    }
  }
}
