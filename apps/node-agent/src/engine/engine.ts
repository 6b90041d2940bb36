/**
 * The engine: what this host runs, whichever door asked.
 *
 * An intent is on disk, with its journal entry, before anything acts on it (D2, D4). What then happens is the lifecycle's;
 * a restart begins with {@link recoverEngine}.
 */
import { KeyedLock, noFailpoints, StatusError, type Clock, type Failpoint, type Logger } from "@berth/base";
import type { Journal } from "@berth/journal";
import type { Statement } from "@berth/metadata";
import type { ContainerExit, ExecProcess, ExecRequest, Runtime } from "@berth/runtime";
import { containerOf, logDirectoryOf, type Container, type EnginePaths } from "./container.ts";
import { compareKeys, type Execution, type ExecutionKey } from "./execution.ts";
import type { IntentOutcome, RunIntent, TaskIntent } from "./intent.ts";
import { taskEntry } from "./journal-entries.ts";
import { findLog, type LogReaders } from "./logs.ts";
import { observed, type OperationObserver } from "./operations.ts";
import { unwant, type EngineRows } from "./rows.ts";
import type { TaskLifecycle } from "./task-lifecycle.ts";

export interface EngineDeps {
  readonly journal: Journal;
  readonly rows: EngineRows;
  readonly lifecycle: TaskLifecycle;
  readonly runtime: (handler: string) => Runtime;
  readonly paths: EnginePaths;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly observer: OperationObserver;
  readonly bootId: string;
  readonly logReaders: LogReaders;
  readonly failpoint?: Failpoint;
}

/** A task's log, kept from removal (for a while) until disposed. */
export interface TaskLog extends Disposable {
  readonly path: string;
  /** Fires when no more will be written. */
  readonly ended: AbortSignal;
}

/** The container of a running task, for whoever enters it. */
export interface RunningTask {
  readonly name: string;
  readonly container: Container;
  readonly runtime: Runtime;
}

/** A running task's log and end. */
export interface TaskOutput extends TaskLog {
  /** Once `ended` has fired; undefined when it was the agent that ended. */
  exit(): ContainerExit | undefined;
}

export class Engine {
  readonly #deps: EngineDeps;
  readonly #intents = new KeyedLock();
  readonly #failpoint: Failpoint;

  constructor(deps: EngineDeps) {
    this.#deps = deps;
    this.#failpoint = deps.failpoint ?? noFailpoints;
  }

  /**
   * Takes on a run; resolves when that is durable.
   * @throws RESOURCE_EXHAUSTED `JOURNAL_FULL`: nothing was taken on, ask again later.
   */
  async run(intent: RunIntent): Promise<IntentOutcome> {
    const outcome = await this.#intents.run(intent.taskUid, async () => {
      const newest = this.#deps.rows.newestStanding(intent.taskUid);
      const order = newest === undefined ? 1 : compareKeys(intent, newest);
      if (order === 0) return "known";
      if (order < 0) return "stale";
      await this.#takeOn(intent);
      return "taken";
    });
    if (outcome === "taken") {
      this.#failpoint("engine.after-intent");
      this.#deps.lifecycle.interrupt(intent.taskUid);
      this.#deps.lifecycle.kick(intent.taskUid);
    }
    return outcome;
  }

  /** Stops and removes what runs of a task, up to the given execution; one that is newer goes on. */
  async stop(intent: TaskIntent): Promise<IntentOutcome> {
    const outcome = await this.#intents.run(intent.taskUid, async () => {
      const newest = this.#deps.rows.newestStanding(intent.taskUid);
      const order = newest === undefined ? 1 : compareKeys(intent, newest);
      if (order < 0) return "stale";
      if (order === 0 && (newest?.desired === "stop" || newest?.state === "removed")) return "known";
      const statements: Statement[] = [unwant(intent)];
      // Never heard of: a record of it keeps a late job from running it, and says "removed" to who asked.
      if (order > 0) statements.push(this.#deps.rows.insert(this.#record(intent, "stop"), this.#deps.clock.nowMs()));
      await this.#deps.journal.transact(statements, []);
      return "taken";
    });
    if (outcome === "taken") {
      this.#deps.lifecycle.interrupt(intent.taskUid);
      this.#deps.lifecycle.kick(intent.taskUid);
    }
    return outcome;
  }

  /** Everything that is here or has to come here, tombstones left out. */
  executions(): readonly Execution[] {
    return this.#deps.rows.open().filter((execution) => execution.state !== "removed");
  }

  /** The containers that run now, with their handlers. */
  running(): readonly { readonly container: Container; readonly runtime: Runtime }[] {
    return this.executions().flatMap((execution) => {
      if (execution.state !== "running" || execution.plan === undefined) return [];
      const container = containerOf(execution, execution.plan, this.#deps.paths);
      return [{ container, runtime: this.#deps.runtime(execution.plan.handler) }];
    });
  }

  /** @throws NOT_FOUND `TASK_MISSING`; FAILED_PRECONDITION `TASK_NOT_RUNNING`. */
  async exec(taskUid: string, request: ExecRequest): Promise<ExecProcess> {
    const { container, runtime } = this.enter(taskUid);
    return await observed(this.#deps.observer, "exec_sync", () => runtime.exec(container, request));
  }

  /** @throws NOT_FOUND `TASK_MISSING`; FAILED_PRECONDITION `TASK_NOT_RUNNING`. */
  enter(taskUid: string): RunningTask {
    const execution = this.#find(taskUid);
    const { name, plan, state } = execution;
    if (state === "running" && plan !== undefined) {
      const container = containerOf(execution, plan, this.#deps.paths);
      return { name, container, runtime: this.#deps.runtime(plan.handler) };
    }
    throw new StatusError("FAILED_PRECONDITION", `task ${name} is not running: it is ${state}`, {
      reason: "TASK_NOT_RUNNING",
    });
  }

  /** The output of what runs now. @throws like {@link enter}. */
  output(taskUid: string): TaskOutput {
    const { container } = this.enter(taskUid);
    const { lifecycle, logReaders } = this.#deps;
    const hold = logReaders.hold(taskUid);
    return {
      path: container.logPath,
      ended: lifecycle.ended(container),
      exit: lifecycle.exitOf(container),
      [Symbol.dispose]: () => hold[Symbol.dispose](),
    };
  }

  /** @throws NOT_FOUND `TASK_MISSING` or `LOG_MISSING`. */
  async log(taskUid: string, previous: boolean): Promise<TaskLog> {
    const execution = this.#find(taskUid);
    const path = await findLog(logDirectoryOf(execution, this.#deps.paths), taskUid, previous);
    const ended = previous ? AbortSignal.abort() : this.#deps.lifecycle.ended(execution);
    const hold = this.#deps.logReaders.hold(taskUid);
    return { path, ended, [Symbol.dispose]: () => hold[Symbol.dispose]() };
  }

  /** Drops tombstones that nobody can need any more. */
  async forgetRemoved(olderThanMs: number): Promise<void> {
    await this.#deps.journal.metadata.transact([this.#deps.rows.forgetRemoved(this.#deps.clock.nowMs() - olderThanMs)]);
  }

  async #takeOn(intent: RunIntent): Promise<void> {
    const nowMs = this.#deps.clock.nowMs();
    const record = this.#record(intent, "run");
    const { plan } = intent;
    const accepted = taskEntry(record, "accepted");
    if (!(plan instanceof StatusError)) {
      await this.#deps.journal.transact(
        [unwant(intent), this.#deps.rows.insert({ ...record, plan }, nowMs)],
        [accepted],
      );
      return;
    }
    const failed = taskEntry(record, "failed", { reason: "InvalidSpec", message: plan.message });
    const row = { ...record, state: "failed", cleaned: true } as const;
    await this.#deps.journal.transact([unwant(intent), this.#deps.rows.insert(row, nowMs)], [accepted, failed]);
  }

  #record(intent: TaskIntent, desired: "run" | "stop"): Execution {
    const key: ExecutionKey = { taskUid: intent.taskUid, generation: intent.generation, attempt: intent.attempt };
    return {
      ...key,
      namespace: intent.namespace,
      name: intent.name,
      desired,
      state: "accepted",
      cleaned: desired === "stop",
      storeEpoch: intent.origin.storeEpoch,
      revision: intent.origin.revision,
      plan: undefined,
      bootId: this.#deps.bootId,
      imageDigest: "",
      stopSignal: "",
      health: "",
      healthReason: "",
      healthMessage: "",
    };
  }

  #find(taskUid: string): Execution {
    const newest = this.#deps.rows.newest(taskUid);
    if (newest !== undefined && newest.state !== "removed") return newest;
    throw new StatusError("NOT_FOUND", `task ${taskUid} is not on this node`, { reason: "TASK_MISSING" });
  }
}
