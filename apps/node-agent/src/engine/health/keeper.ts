/**
 * Keeps the health of running executions: asks their probes, writes what changes (row and journal entry in one transaction,
 * D4), and says when one is to be ended: a probe failed for good, or it has run for longer than it may.
 *
 * The health is in the execution's row, so a restarted agent goes on from it and journals nothing that it has journaled. The
 * deadline is counted from the recorded start. A container that is to be ended is marked `failed` before anything is done to
 * it: whoever finds the mark, before or after a crash, ends it and records why (`task-lifecycle.ts`).
 */
import { hasCode, Semaphore, type Clock, type Logger } from "@berth/base";
import type { Journal } from "@berth/journal";
import type { Container } from "../container.ts";
import type { Execution } from "../execution.ts";
import { taskEntry } from "../journal-entries.ts";
import { changeExecution, type EngineRows } from "../rows.ts";
import { watchHealth, type Answer, type HealthReport } from "./watch.ts";
import type { ProbeCheck } from "./probe-plan.ts";

export interface HealthKeeperDeps {
  readonly journal: Journal;
  readonly rows: EngineRows;
  /** Asks a container once; `ask.ts`, or what only pretends. */
  readonly ask: (container: Container, check: ProbeCheck, timeoutMs: number, signal: AbortSignal) => Promise<Answer>;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Commands that are run at a time: each costs some tens of milliseconds of CPU. */
const MAX_EXECS = 4;

export class HealthKeeper {
  readonly #deps: HealthKeeperDeps;
  readonly #execs = new Semaphore(MAX_EXECS);

  constructor(deps: HealthKeeperDeps) {
    this.#deps = deps;
  }

  /** Until the signal fires. Resolves true when the execution was marked as failed and is to be ended. */
  async watch(execution: Execution, container: Container, signal: AbortSignal): Promise<boolean> {
    const { health, activeDeadlineMs } = container.plan;
    if (health === undefined && activeDeadlineMs === undefined) return false;
    const over = new AbortController();
    const ending = AbortSignal.any([signal, over.signal]);
    const watches: Promise<void>[] = [];
    if (health !== undefined) {
      const report = (report: HealthReport): Promise<void> => this.#report(execution, report);
      const ask = (check: ProbeCheck, timeoutMs: number, until: AbortSignal): Promise<Answer> =>
        this.#ask(container, check, timeoutMs, until);
      const from = this.#deps.rows.get(execution)?.health ?? "starting";
      watches.push(watchHealth({ clock: this.#deps.clock, ask, report }, health, from, ending));
    }
    if (activeDeadlineMs !== undefined) watches.push(this.#watchDeadline(execution, activeDeadlineMs, ending));
    try {
      await Promise.race(watches);
      return this.#deps.rows.get(execution)?.health === "failed";
    } catch (error) {
      if (signal.aborted || hasCode(error, "ABORTED")) return false;
      throw error;
    } finally {
      over.abort();
      await Promise.allSettled(watches);
    }
  }

  async #watchDeadline(execution: Execution, deadlineMs: number, signal: AbortSignal): Promise<void> {
    const { clock, rows } = this.#deps;
    const startedAtMs = rows.startedAtMs(execution.namespace, execution.taskUid) ?? clock.nowMs();
    await clock.sleep(Math.max(0, startedAtMs + deadlineMs - clock.nowMs()), signal);
    const message = `it ran for longer than its deadline of ${deadlineMs / 1_000} s`;
    await this.#report(execution, { health: "failed", reason: "DeadlineExceeded", message });
  }

  async #ask(container: Container, check: ProbeCheck, timeoutMs: number, signal: AbortSignal): Promise<Answer> {
    const ask = (): Promise<Answer> => this.#deps.ask(container, check, timeoutMs, signal);
    return check.kind === "exec" ? await this.#execs.run(ask, signal) : await ask();
  }

  /** @throws ABORTED `EXECUTION_MOVED_ON` when it does not run any more */
  async #report(execution: Execution, { health, reason, message }: HealthReport): Promise<void> {
    const { journal, clock, logger } = this.#deps;
    const change = changeExecution(execution, ["running"], { health, healthReason: reason, healthMessage: message }, clock.nowMs()); // prettier-ignore
    // What has failed is told with its end: "failed", and why.
    const entries = health === "failed" ? [] : [taskEntry(execution, "health", { health, reason, message })];
    await journal.transact([change], entries);
    logger.info({ task: execution.name, taskUid: execution.taskUid, health, reason }, "task health changed");
  }
}
