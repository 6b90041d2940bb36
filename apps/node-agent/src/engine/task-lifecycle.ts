/**
 * Leads each task's executions from what is wanted to what is: the turns in which `state` is moved, and nothing else moves it.
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
 * Leaves to others: who wants what (`engine.ts`), how an execution begins (`execution-start.ts`), how its end is waited for
 * (`execution-watch.ts`) and brought about and recorded (`execution-end.ts`), and whether it is well (`health/`).
 */
import { backoffMs, KeyedLock, StatusError } from "@berth/base";
import type { ContainerExit } from "@berth/runtime";
import { logDirectoryOf } from "./container.ts";
import type { Execution, ExecutionKey } from "./execution.ts";
import { ExecutionEnder, SUPERSEDED, type ExecutionEndDeps } from "./execution-end.ts";
import { ExecutionStarter, type ExecutionStartDeps } from "./execution-start.ts";
import { ExecutionWatch, type ExecutionWatchDeps } from "./execution-watch.ts";
import { keepLatestLogs } from "./logs.ts";

export interface LifecycleDeps extends ExecutionStartDeps, ExecutionWatchDeps, ExecutionEndDeps {
  /** What ends fenced containers, and when one may be started. */
  readonly fence: ExecutionStartDeps["fence"];
}

export class TaskLifecycle implements AsyncDisposable {
  readonly #deps: LifecycleDeps;
  readonly #lock = new KeyedLock();
  readonly #closing = new AbortController();
  readonly #turns = new Set<Promise<void>>();
  readonly #failures = new Map<string, number>();
  readonly #starter: ExecutionStarter;
  readonly #watch: ExecutionWatch;
  readonly #ender: ExecutionEnder;

  constructor(deps: LifecycleDeps) {
    const { signal } = this.#closing;
    this.#deps = deps;
    this.#starter = new ExecutionStarter(deps);
    this.#ender = new ExecutionEnder(deps, signal);
    const events = {
      onEnd: async (execution: Execution, exit: ContainerExit) => {
        await this.#lock.run(execution.taskUid, () => this.#ender.exited(execution, exit), signal);
        this.kick(execution.taskUid);
      },
      onUnwell: ({ taskUid }: Execution) => this.kick(taskUid),
      track: (background: Promise<void>) => this.#track(background),
    };
    this.#watch = new ExecutionWatch(deps, events, signal);
  }

  /** Looks at a task, soon; returns at once. */
  kick(taskUid: string): void {
    if (this.#closing.signal.aborted) return;
    this.#track(this.#turn(taskUid));
  }

  /** Calls off a start that is under way: what is wanted has changed. */
  interrupt(taskUid: string): void {
    this.#starter.interrupt(taskUid);
  }

  /** Fires when this execution has ended; at once when it does not run. */
  ended(execution: ExecutionKey): AbortSignal {
    return this.#watch.ended(execution);
  }

  /** How a running execution ends, once {@link ended} has fired; undefined when it was the agent that ended. */
  exitOf(execution: ExecutionKey): () => ContainerExit | undefined {
    return this.#watch.exitOf(execution);
  }

  /** Resolves when no turn is under way or due; for tests and for the start of the agent. */
  async settled(): Promise<void> {
    while (this.#turns.size > 0) await Promise.all(this.#turns);
  }

  /** Containers go on (A1); what is under way is left for the next start. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort();
    await Promise.all(this.#turns);
    this.#watch.release();
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
    for (const execution of older.toReversed()) await this.#ender.end(execution, SUPERSEDED);
    if (newest.desired === "stop") {
      await this.#ender.end(newest, "");
      return;
    }
    switch (newest.state) {
      case "accepted":
      case "starting":
        await this.#start(newest);
        return;
      case "running":
        if (newest.health === "failed") await this.#ender.endUnwell(newest);
        else this.#watch.watch(newest);
        return;
      case "exited":
      case "failed":
        await this.#ender.clean(newest);
        return;
      case "stopping":
      case "removed":
        return;
    }
  }

  async #start(execution: Execution): Promise<void> {
    if (!isFirst(execution)) await keepLatestLogs(logDirectoryOf(execution, this.#deps.paths), execution);
    const outcome = await this.#starter.start(execution, this.#closing.signal);
    switch (outcome) {
      case "running":
        this.#watch.watch(execution);
        return;
      case "failed":
        await this.#ender.clean(execution);
        return;
      case "again":
        this.kick(execution.taskUid);
        return;
    }
  }
}

/** Nothing of the task can have been here before. */
function isFirst({ generation, attempt }: Execution): boolean {
  return generation === 1 && attempt === 1;
}
