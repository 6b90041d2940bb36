/**
 * Waits for the ends of running executions, beside the turns of their tasks: outside any lock, one wait per execution.
 *
 * Invariants:
 *  1. An execution is watched once; watching it again while it is watched does nothing.
 *  2. `ended` fires when the container has ended or the agent ends; only in the first case is there an exit.
 *  3. An end that could not be recorded is not forgotten: the task is looked at again, and watched again.
 *
 * Leaves to others: recording the end (`onEnd`), and what a failed health leads to (`onUnwell`).
 */
import { anySignal, hasCode, type Clock, type Logger } from "@berth/base";
import type { ContainerExit, Runtime } from "@berth/runtime";
import { containerOf, type Container, type EnginePaths } from "./container.ts";
import { describeKey, type Execution, type ExecutionKey } from "./execution.ts";
import type { HealthKeeper } from "./health/keeper.ts";

export interface ExecutionWatchDeps {
  readonly health: HealthKeeper;
  readonly runtime: (handler: string) => Runtime;
  readonly paths: EnginePaths;
  readonly clock: Clock;
  readonly logger: Logger;
}

export interface WatchEvents {
  readonly onEnd: (execution: Execution, exit: ContainerExit) => Promise<void>;
  /** Its probes or its deadline have failed, or its end could not be recorded. */
  readonly onUnwell: (execution: Execution) => void;
  /** Takes what goes on in the background, to be awaited at the end. */
  readonly track: (background: Promise<void>) => void;
}

interface Watched {
  /** Fires when the execution has ended (or the agent ends). */
  readonly ended: AbortController;
  exit: ContainerExit | undefined;
}

export class ExecutionWatch {
  readonly #deps: ExecutionWatchDeps;
  readonly #events: WatchEvents;
  readonly #closing: AbortSignal;
  readonly #watched = new Map<string, Watched>();

  constructor(deps: ExecutionWatchDeps, events: WatchEvents, closing: AbortSignal) {
    this.#deps = deps;
    this.#events = events;
    this.#closing = closing;
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

  watch(execution: Execution): void {
    const key = describeKey(execution);
    if (this.#watched.has(key) || this.#closing.aborted || execution.plan === undefined) return;
    const container = containerOf(execution, execution.plan, this.#deps.paths);
    const watched: Watched = { ended: new AbortController(), exit: undefined };
    this.#watched.set(key, watched);
    this.#watchHealth(execution, container, anySignal(watched.ended.signal, this.#closing));
    this.#events.track(this.#watchEnd(execution, container, watched));
  }

  /** Readers of what runs are told that the agent ends. */
  release(): void {
    for (const { ended } of this.#watched.values()) ended.abort();
  }

  async #watchEnd(execution: Execution, container: Container, watched: Watched): Promise<void> {
    const key = describeKey(execution);
    try {
      const exit = await waitForExit(this.#deps, container, this.#closing);
      watched.exit = exit;
      watched.ended.abort();
      await this.#events.onEnd(execution, exit);
    } catch (error) {
      if (this.#closing.aborted) return;
      this.#deps.logger.error({ taskUid: execution.taskUid, err: error }, "the end of a task could not be recorded");
      this.#watched.delete(key);
      this.#events.onUnwell(execution);
    } finally {
      watched.ended.abort();
      this.#watched.delete(key);
    }
  }

  #watchHealth(execution: Execution, container: Container, signal: AbortSignal): void {
    const watching = this.#deps.health.watch(execution, container, signal).then(
      (failed) => {
        if (failed) this.#events.onUnwell(execution);
      },
      (error: unknown) => {
        const { taskUid, name } = execution;
        this.#deps.logger.error({ taskUid, task: name, err: error }, "a task's health could not be recorded");
      },
    );
    this.#events.track(watching);
  }
}

/** A container that is gone altogether has ended, nobody knows how. */
export async function waitForExit(
  { runtime, clock }: Pick<ExecutionWatchDeps, "runtime" | "clock">,
  container: Container,
  signal: AbortSignal,
): Promise<ContainerExit> {
  try {
    return await runtime(container.plan.handler).wait(container, signal);
  } catch (error) {
    if (signal.aborted || !hasCode(error, "NOT_FOUND")) throw error;
    return { kind: "unknown", reason: "its container is gone", atMs: clock.nowMs() };
  }
}
