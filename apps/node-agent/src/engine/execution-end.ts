/**
 * Ends executions: records how one ended, stops one that is not wanted or not well, and takes from the host what it had. Called
 * in the task's turn, under its lock.
 *
 * Invariants:
 *  1. An end is recorded once, by whoever is first: the wait or the stop.
 *  2. What the stopper ended, or its health, is told as that, whatever the exit code says.
 *  3. Nothing of an ended execution stays on the host but its log (A6), and that only until it is removed.
 */
import { rm, rmdir } from "node:fs/promises";
import { dirname } from "node:path";
import { hasCode, type Clock, type Logger } from "@berth/base";
import type { Journal } from "@berth/journal";
import type { ContainerExit, Runtime } from "@berth/runtime";
import type { Stopper } from "../stopper/stopper.ts";
import { containerOf, logDirectoryOf, type Container, type EnginePaths } from "./container.ts";
import type { ContainerRunner } from "./container-runner.ts";
import { describeKey, type Execution } from "./execution.ts";
import { waitForExit } from "./execution-watch.ts";
import { exitFacts, fencedFacts } from "./exits.ts";
import { taskEntry, type TaskFacts, type TaskStep } from "./journal-entries.ts";
import type { LogReaders } from "./logs.ts";
import { observed, type OperationObserver } from "./operations.ts";
import { changeExecution, deleteContainer, type EngineRows } from "./rows.ts";
import { stopContainer } from "./stop.ts";

export interface ExecutionEndDeps {
  readonly journal: Journal;
  readonly rows: EngineRows;
  readonly runner: ContainerRunner;
  readonly runtime: (handler: string) => Runtime;
  readonly paths: EnginePaths;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly observer: OperationObserver;
  readonly logReaders: LogReaders;
  readonly fence: { readonly stopper: Stopper };
  /** Called after the last container of a namespace has gone. */
  readonly onNamespaceEmpty: (namespace: string) => void;
}

/** The reason of a removal that makes room for a newer execution; its log stays as the previous one. */
export const SUPERSEDED = "Superseded";

/** How long readers of a removed task's log may take to its end. */
const LOG_GRACE_MS = 5_000;

export class ExecutionEnder {
  readonly #deps: ExecutionEndDeps;
  readonly #closing: AbortSignal;

  constructor(deps: ExecutionEndDeps, closing: AbortSignal) {
    this.#deps = deps;
    this.#closing = closing;
  }

  /** It has ended by itself. A stop that was quicker has recorded the end already. */
  async exited(execution: Execution, exit: ContainerExit): Promise<void> {
    const row = this.#deps.rows.get(execution);
    if (row?.state !== "running") return;
    const { step, facts } = this.#endOf(row, exit);
    // protocol: EndJournaled
    await this.#deps.journal.transact(
      [changeExecution(execution, ["running"], { state: "exited" }, this.#nowMs())],
      [taskEntry(execution, step, facts)],
    );
    this.#deps.logger.info({ task: execution.name, taskUid: execution.taskUid, ...facts }, "task exited");
  }

  /** Its probes or its deadline have failed. */
  async endUnwell(execution: Execution): Promise<void> {
    if (execution.plan === undefined) return;
    const exit = await this.#halt(execution, containerOf(execution, execution.plan, this.#deps.paths));
    await this.exited(execution, exit);
    await this.clean(execution);
  }

  /** Stops what runs, cleans, and leaves a tombstone. */
  async end(execution: Execution, reason: string): Promise<void> {
    if (execution.state === "removed") return;
    const found = execution.state === "starting" ? await this.#asFound(execution) : execution;
    const stops = found.state === "running" || found.state === "stopping";
    if (stops) await this.#stop(found);
    await this.clean(execution);
    if (reason !== SUPERSEDED) await this.#removeLogs(execution);
    const facts = reason === "" ? {} : { reason };
    const from = ["accepted", "starting", "stopping", "exited", "failed"] as const;
    // protocol: ExecutionRemoved
    await this.#deps.journal.transact(
      [changeExecution(execution, from, { state: "removed", cleaned: true }, this.#nowMs())],
      [taskEntry(execution, "removed", facts)],
    );
    this.#deps.logger.info({ task: execution.name, taskUid: execution.taskUid, reason }, "task removed");
  }

  /** Nothing of it stays on the host but its log (A6). */
  async clean(execution: Execution): Promise<void> {
    if (execution.cleaned || this.#deps.rows.get(execution)?.cleaned === true) return;
    const { runner, rows, journal, paths } = this.#deps;
    if (execution.plan !== undefined) await runner.tearDown(containerOf(execution, execution.plan, paths));
    const states = ["accepted", "starting", "running", "stopping", "exited", "failed", "removed"] as const;
    await journal.transact(
      [
        changeExecution(execution, states, { cleaned: true }, this.#nowMs()),
        ...deleteContainer(execution.namespace, execution.taskUid),
      ],
      [],
    );
    if (!rows.hasContainers(execution.namespace)) this.#deps.onNamespaceEmpty(execution.namespace);
  }

  /**
   * An agent that was killed between the start of a container and its record left one that runs: it has started, whatever was
   * wanted since, and has the same right to its signal and its grace.
   */
  async #asFound(execution: Execution): Promise<Execution> {
    const { plan } = execution;
    if (plan === undefined || !(await this.#runs(containerOf(execution, plan, this.#deps.paths)))) return execution;
    const found = { ...execution, state: "running", stopSignal: plan.stopSignal ?? "" } as const;
    const { state, stopSignal } = found;
    // protocol: StartJournaled
    await this.#deps.journal.transact(
      [changeExecution(execution, ["starting"], { state, stopSignal }, this.#nowMs())],
      [taskEntry(execution, "started")],
    );
    return found;
  }

  async #runs(container: Container): Promise<boolean> {
    try {
      const { status } = await this.#deps.runtime(container.plan.handler).state(container);
      return status === "running" || status === "paused";
    } catch (error) {
      if (hasCode(error, "NOT_FOUND")) return false;
      throw error;
    }
  }

  #endOf(row: Execution, exit: ContainerExit): { readonly step: TaskStep; readonly facts: TaskFacts } {
    const mark = this.#deps.fence.stopper.mark(describeKey(row));
    if (mark !== undefined) return { step: "stopped", facts: fencedFacts(exit, mark) };
    if (row.health !== "failed") return { step: "exited", facts: exitFacts(exit) };
    const { healthReason: reason, healthMessage: message } = row;
    return { step: "failed", facts: { ...exitFacts(exit), reason, message } };
  }

  async #stop(execution: Execution): Promise<void> {
    const { journal } = this.#deps;
    if (execution.plan === undefined) return;
    const container = containerOf(execution, execution.plan, this.#deps.paths);
    if (execution.state === "running") {
      await journal.transact(
        [changeExecution(execution, ["running"], { state: "stopping" }, this.#nowMs())],
        [taskEntry(execution, "stopping")],
      );
    }
    const exit = await this.#halt(execution, container);
    await journal.transact(
      [changeExecution(execution, ["stopping"], { state: "exited" }, this.#nowMs())],
      [taskEntry(execution, "stopped", stoppedFacts(exit))],
    );
  }

  #halt(execution: Execution, container: Container): Promise<ContainerExit> {
    // protocol: ContainerStopped
    return observed(this.#deps.observer, "stop_container", () =>
      stopContainer({
        runtime: this.#deps.runtime(container.plan.handler),
        container,
        stopSignal: execution.stopSignal === "" ? "SIGTERM" : execution.stopSignal,
        graceMs: container.plan.stopGraceMs,
        wait: (signal) => waitForExit(this.#deps, container, signal),
        clock: this.#deps.clock,
        signal: this.#closing,
      }),
    );
  }

  async #removeLogs(execution: Execution): Promise<void> {
    await this.#deps.logReaders.done(execution.taskUid, LOG_GRACE_MS, this.#deps.clock);
    const directory = logDirectoryOf(execution, this.#deps.paths);
    await rm(directory, { recursive: true, force: true });
    // The namespace's goes with its last task.
    await rmdir(dirname(directory)).catch(() => {});
  }

  #nowMs(): number {
    return this.#deps.clock.nowMs();
  }
}

function stoppedFacts(exit: ContainerExit): TaskFacts {
  const { reason: _, ...facts } = exitFacts(exit);
  return { ...facts, reason: "Stopped" };
}
