/**
 * Leads each task's executions from what is wanted to what is: the only place that moves `state`.
 *
 * It is driven by level: `kick(task)` looks at the task's rows and does what is missing, so a crash at any place is mended by
 * looking again (flow D). One turn at a time per task, under its lock:
 *
 *  1. Every execution but the newest is ended, fully, before the newest goes on (D2).
 *  2. Every change of state is one transaction with its journal entry; what is on the host by then is named by the row.
 *  3. An exited or failed execution is cleaned at once and stays, with its log, until it is superseded or removed.
 *  4. One whose health is `failed` is stopped, and its end is recorded as that failure, whatever its exit code says.
 *  5. A turn that fails (an unmount, a CNI plugin) is taken again, with backoff, until it succeeds.
 *
 * Leaves to others: who wants what (`engine.ts`), how a container is made (`steps/`), and whether it is well (`health/`).
 */
import { rm, rmdir } from "node:fs/promises";
import { dirname } from "node:path";
import { anySignal, backoffMs, hasCode, KeyedLock, Semaphore, StatusError, type Clock, type Logger } from "@berth/base";
import type { Journal, NewEntry } from "@berth/journal";
import type { ContainerExit, Runtime } from "@berth/runtime";
import type { LeaseGate } from "../stopper/lease-gate.ts";
import type { Stopper } from "../stopper/stopper.ts";
import { containerOf, logDirectoryOf, type Container, type EnginePaths } from "./container.ts";
import { StartFailure, type ContainerRunner } from "./container-runner.ts";
import { describeKey, type Execution, type ExecutionKey } from "./execution.ts";
import type { HealthKeeper } from "./health/keeper.ts";
import { healthAtStart } from "./health/probe-plan.ts";
import { exitFacts, fencedFacts, fencedReason } from "./exits.ts";
import { agentEntry, taskEntry, type TaskFacts, type TaskStep } from "./journal-entries.ts";
import { keepLatestLogs, type LogReaders } from "./logs.ts";
import { observed, type OperationObserver } from "./operations.ts";
import { changeExecution, deleteContainer, insertContainer, insertTask, type EngineRows } from "./rows.ts";
import { LEASE_NOT_HELD, stopSignalOf } from "./steps/fence.ts";
import type { StartFacts } from "./steps/index.ts";
import { stopContainer } from "./stop.ts";

export interface LifecycleDeps {
  readonly journal: Journal;
  readonly rows: EngineRows;
  readonly runner: ContainerRunner;
  readonly health: HealthKeeper;
  readonly runtime: (handler: string) => Runtime;
  readonly paths: EnginePaths;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly observer: OperationObserver;
  readonly bootId: string;
  readonly logReaders: LogReaders;
  /** What ends fenced containers, and when one may be started. */
  readonly fence: { readonly stopper: Stopper; readonly gate: LeaseGate };
  /** Called after the last container of a namespace has gone. */
  readonly onNamespaceEmpty: (namespace: string) => void;
  /** Starts at a time: each costs some tens of milliseconds of CPU. */
  readonly maxStarts: number;
}

/** The reason of a removal that makes room for a newer execution; its log stays as the previous one. */
const SUPERSEDED = "Superseded";

/** How long readers of a removed task's log may take to its end. */
const LOG_GRACE_MS = 5_000;

/** Why a start is called off: told apart from a failure and from the end of the agent. */
const CALLED_OFF = new StatusError("ABORTED", "the start was called off", { reason: "START_CALLED_OFF" });

interface Watched {
  /** Fires when the execution has ended (or the agent ends). */
  readonly ended: AbortController;
  exit: ContainerExit | undefined;
}

export class TaskLifecycle implements AsyncDisposable {
  readonly #deps: LifecycleDeps;
  readonly #lock = new KeyedLock();
  readonly #starts: Semaphore;
  readonly #closing = new AbortController();
  readonly #turns = new Set<Promise<void>>();
  readonly #failures = new Map<string, number>();
  /** The start under way of each task. */
  readonly #starting = new Map<string, AbortController>();
  readonly #watched = new Map<string, Watched>();

  constructor(deps: LifecycleDeps) {
    this.#deps = deps;
    this.#starts = new Semaphore(deps.maxStarts);
  }

  /** Looks at a task, soon; returns at once. */
  kick(taskUid: string): void {
    if (this.#closing.signal.aborted) return;
    this.#track(this.#turn(taskUid));
  }

  /** Calls off a start that is under way: what is wanted has changed. */
  interrupt(taskUid: string): void {
    this.#starting.get(taskUid)?.abort(CALLED_OFF);
  }

  /** Fires when this execution has ended; at once when it does not run. */
  ended(execution: ExecutionKey): AbortSignal {
    return this.#watched.get(describeKey(execution))?.ended.signal ?? AbortSignal.abort();
  }

  /** How a running execution ends, once {@link ended} has fired; undefined when it was the agent that ended. */
  exitOf(execution: ExecutionKey): () => ContainerExit | undefined {
    const watched = this.#watched.get(describeKey(execution));
    return () => watched?.exit;
  }

  /** Resolves when no turn is under way or due; for tests and for the start of the agent. */
  async settled(): Promise<void> {
    while (this.#turns.size > 0) await Promise.all(this.#turns);
  }

  /** Containers go on (A1); what is under way is left for the next start. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await Promise.all(this.#turns);
    for (const { ended } of this.#watched.values()) ended.abort();
  }

  #track(turn: Promise<void>): void {
    this.#turns.add(turn);
    void turn.finally(() => this.#turns.delete(turn));
  }

  async #turn(taskUid: string): Promise<void> {
    const { signal } = this.#closing;
    try {
      await this.#lock.run(taskUid, () => this.#reconcile(taskUid), signal);
      this.#failures.delete(taskUid);
    } catch (error) {
      if (signal.aborted) return;
      const failures = (this.#failures.get(taskUid) ?? 0) + 1;
      this.#failures.set(taskUid, failures);
      const waitMs = backoffMs({ initialMs: 200, maxMs: 30_000, factor: 2 }, Math.min(failures, 20));
      const status = StatusError.from(error);
      this.#deps.logger.warn({ taskUid, failures, waitMs, err: status }, `task could not be led on: ${status.message}`);
      await this.#deps.clock.sleep(waitMs, signal).catch(() => {});
      this.kick(taskUid);
    }
  }

  async #reconcile(taskUid: string): Promise<void> {
    const [newest, ...older] = this.#deps.rows.ofTask(taskUid);
    if (newest === undefined) return;
    for (const execution of older.toReversed()) await this.#end(execution, SUPERSEDED);
    if (newest.desired === "stop") {
      await this.#end(newest, "");
      return;
    }
    switch (newest.state) {
      case "accepted":
      case "starting":
        if (!isFirst(newest)) await keepLatestLogs(logDirectoryOf(newest, this.#deps.paths), newest);
        await this.#start(newest);
        return;
      case "running":
        if (newest.health === "failed") await this.#endFailed(newest);
        else this.#watch(newest);
        return;
      case "exited":
      case "failed":
        await this.#clean(newest);
        return;
      case "stopping":
      case "removed":
        return;
    }
  }

  async #start(execution: Execution): Promise<void> {
    const { plan } = execution;
    if (plan === undefined) throw new StatusError("INTERNAL", `execution ${describeKey(execution)} has no plan`);
    const calledOff = new AbortController();
    this.#starting.set(execution.taskUid, calledOff);
    try {
      // What is wanted may have changed between reading the row and being interruptible.
      if (this.#deps.rows.get(execution)?.desired !== "run") return this.kick(execution.taskUid);
      const signal = anySignal(calledOff.signal, this.#closing.signal);
      // Outside the bound on starts: while nobody answers, those that need the lease must not hold up the others.
      if (plan.fence === true) await this.#deps.fence.gate.open(execution, signal);
      await this.#starts.run(
        () => this.#startNow(execution, containerOf(execution, plan, this.#deps.paths), signal),
        signal,
      );
    } catch (error) {
      if (this.#closing.signal.aborted) return;
      if (!calledOff.signal.aborted) throw error;
      this.kick(execution.taskUid);
    } finally {
      this.#starting.delete(execution.taskUid);
    }
  }

  async #startNow(execution: Execution, container: Container, signal: AbortSignal): Promise<void> {
    const { journal, runner, logger, bootId } = this.#deps;
    if (execution.state === "starting" && execution.bootId !== bootId) {
      await this.#fail(execution, "HostRebooted", "the host was started anew while the container was being started");
      return;
    }
    // Waited for only before something can run: the row that names the container's belongings is durable since it was
    // accepted, and transactions become durable in the order of the calls.
    const begun = journal.transact(
      [
        changeExecution(execution, ["accepted", "starting"], { state: "starting", bootId }, this.#nowMs()),
        insertContainer(container, "fleet", this.#nowMs()),
      ],
      [],
    );
    begun.catch(() => {});
    const note = (entry: NewEntry): void => {
      journal.append([entry]).catch((error: unknown) => logger.warn({ err: error }, "a step was not journaled"));
    };
    let facts: StartFacts;
    try {
      // protocol: ContainerStarted
      facts = await runner.start(container, {
        signal,
        onPulling: () => note(taskEntry(execution, "pulling", { message: container.plan.image })),
        onWarning: (reason, message) =>
          note(agentEntry("warning", reason, `task ${execution.namespace}/${execution.name}: ${message}`)),
        onStep: async (step) => {
          if (step === "snapshot") note(taskEntry(execution, "creating"));
          if (step === "create") await begun;
        },
      });
    } catch (error) {
      if (!(error instanceof StartFailure)) throw error;
      if (error.status.reason === LEASE_NOT_HELD) return this.kick(execution.taskUid);
      logger.warn({ task: execution.name, taskUid: execution.taskUid, reason: error.reason }, error.message);
      await this.#fail(execution, error.reason, error.message);
      return;
    }
    await this.#started(execution, container, facts);
  }

  async #started(execution: Execution, container: Container, facts: StartFacts): Promise<void> {
    const addresses = facts.attachment?.addresses ?? [];
    const imageDigest = facts.image?.image.target.digest ?? "";
    const stopSignal = stopSignalOf(container, facts);
    const health = healthAtStart(container.plan.health);
    // protocol: StartJournaled
    await this.#deps.journal.transact(
      [
        changeExecution(execution, ["starting"], { state: "running", imageDigest, stopSignal, health }, this.#nowMs()),
        insertTask(container.namespace, container.id, addresses, this.#nowMs()),
      ],
      [taskEntry(execution, "started", { addresses, imageDigest, health })],
    );
    this.#deps.logger.info({ task: execution.name, taskUid: execution.taskUid, addresses }, "task started");
    this.#watch(execution);
  }

  /** Waits, outside the lock, for the container's end. */
  #watch(execution: Execution): void {
    const key = describeKey(execution);
    if (this.#watched.has(key) || this.#closing.signal.aborted || execution.plan === undefined) return;
    const container = containerOf(execution, execution.plan, this.#deps.paths);
    const watched: Watched = { ended: new AbortController(), exit: undefined };
    const { ended } = watched;
    this.#watched.set(key, watched);
    this.#watchHealth(execution, container, anySignal(ended.signal, this.#closing.signal));
    const watching = (async () => {
      const exit = await this.#wait(container, this.#closing.signal);
      watched.exit = exit;
      ended.abort();
      await this.#lock.run(execution.taskUid, () => this.#exited(execution, exit), this.#closing.signal);
      this.kick(execution.taskUid);
    })();
    this.#track(
      watching
        .catch((error: unknown) => {
          if (this.#closing.signal.aborted) return;
          this.#deps.logger.error(
            { taskUid: execution.taskUid, err: error },
            "the end of a task could not be recorded",
          );
          this.#watched.delete(key);
          this.kick(execution.taskUid);
        })
        .finally(() => {
          ended.abort();
          this.#watched.delete(key);
        }),
    );
  }

  #watchHealth(execution: Execution, container: Container, signal: AbortSignal): void {
    const watching = this.#deps.health.watch(execution, container, signal).then(
      (failed) => {
        if (failed) this.kick(execution.taskUid);
      },
      (error: unknown) => {
        const { taskUid, name } = execution;
        this.#deps.logger.error({ taskUid, task: name, err: error }, "a task's health could not be recorded");
      },
    );
    this.#track(watching);
  }

  /** Under the lock: its probes or its deadline have failed. */
  async #endFailed(execution: Execution): Promise<void> {
    if (execution.plan === undefined) return;
    const exit = await this.#halt(execution, containerOf(execution, execution.plan, this.#deps.paths));
    await this.#exited(execution, exit);
    await this.#clean(execution);
  }

  async #wait(container: Container, signal: AbortSignal): Promise<ContainerExit> {
    try {
      return await this.#deps.runtime(container.plan.handler).wait(container, signal);
    } catch (error) {
      if (signal.aborted || !hasCode(error, "NOT_FOUND")) throw error;
      return { kind: "unknown", reason: "its container is gone", atMs: this.#nowMs() };
    }
  }

  /** Under the lock. A stop that was quicker has recorded the end already. */
  async #exited(execution: Execution, exit: ContainerExit): Promise<void> {
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

  /** What the stopper or its health has ended is told so, whatever the code. */
  #endOf(row: Execution, exit: ContainerExit): { readonly step: TaskStep; readonly facts: TaskFacts } {
    const mark = this.#deps.fence.stopper.mark(describeKey(row));
    if (mark !== undefined) return { step: "stopped", facts: fencedFacts(exit, mark) };
    if (row.health !== "failed") return { step: "exited", facts: exitFacts(exit) };
    const { healthReason: reason, healthMessage: message } = row;
    return { step: "failed", facts: { ...exitFacts(exit), reason, message } };
  }

  async #fail(execution: Execution, failure: string, why: string): Promise<void> {
    const mark = this.#deps.fence.stopper.mark(describeKey(execution));
    const { reason, message } = mark === undefined ? { reason: failure, message: why } : fencedReason(mark);
    await this.#deps.journal.transact(
      [changeExecution(execution, ["accepted", "starting"], { state: "failed" }, this.#nowMs())],
      [taskEntry(execution, "failed", { reason, message })],
    );
    await this.#clean(execution);
  }

  /** Stops what runs, cleans, and leaves a tombstone. */
  async #end(execution: Execution, reason: string): Promise<void> {
    if (execution.state === "removed") return;
    const stops = execution.state === "running" || execution.state === "stopping";
    if (stops) await this.#stop(execution);
    await this.#clean(execution);
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
        wait: (signal) => this.#wait(container, signal),
        clock: this.#deps.clock,
        signal: this.#closing.signal,
      }),
    );
  }

  /** Nothing of it stays on the host but its log (A6). */
  async #clean(execution: Execution): Promise<void> {
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

/** Nothing of the task can have been here before. */
function isFirst({ generation, attempt }: Execution): boolean {
  return generation === 1 && attempt === 1;
}

function stoppedFacts(exit: ContainerExit): TaskFacts {
  const { reason: _, ...facts } = exitFacts(exit);
  return { ...facts, reason: "Stopped" };
}
