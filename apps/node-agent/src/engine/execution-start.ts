/**
 * Begins an execution: from accepted to running, or to why it does not run. Called in the task's turn, under its lock.
 *
 * Invariants:
 *  1. What the start makes on the host is named by a durable row before anything of it can run (A6).
 *  2. A start that is called off, or whose lease went away, leaves the row as it is: the task is looked at again.
 *  3. A container that was being started when the host went down has failed: whether it ran cannot be known.
 *
 * Leaves to others: how a container is made (`steps/`), and what is done about the outcome (`task-lifecycle.ts`).
 */
import { anySignal, Semaphore, StatusError, type Clock, type Logger } from "@berth/base";
import type { Journal, NewEntry } from "@berth/journal";
import type { LeaseGate } from "../stopper/lease-gate.ts";
import type { Stopper } from "../stopper/stopper.ts";
import { containerOf, type Container, type EnginePaths } from "./container.ts";
import { StartFailure, type ContainerRunner } from "./container-runner.ts";
import { describeKey, type Execution } from "./execution.ts";
import { fencedReason } from "./exits.ts";
import { healthAtStart } from "./health/probe-plan.ts";
import { agentEntry, taskEntry, type TaskFacts, type TaskStep } from "./journal-entries.ts";
import { changeExecution, insertContainer, insertTask, type EngineRows } from "./rows.ts";
import { LEASE_NOT_HELD, stopSignalOf } from "./steps/fence.ts";
import type { StartFacts } from "./steps/index.ts";

export interface ExecutionStartDeps {
  readonly journal: Journal;
  readonly rows: EngineRows;
  readonly runner: ContainerRunner;
  readonly paths: EnginePaths;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly bootId: string;
  /** What ends fenced containers, and when one may be started. */
  readonly fence: { readonly stopper: Stopper; readonly gate: LeaseGate };
  /** Starts at a time: each costs some tens of milliseconds of CPU. */
  readonly maxStarts: number;
}

/** `again`: what is wanted, or may be done, has changed meanwhile. */
export type StartOutcome = "running" | "failed" | "again";

/** Why a start is called off: told apart from a failure and from the end of the agent. */
const CALLED_OFF = new StatusError("ABORTED", "the start was called off", { reason: "START_CALLED_OFF" });

export class ExecutionStarter {
  readonly #deps: ExecutionStartDeps;
  readonly #starts: Semaphore;
  /** The start under way of each task. */
  readonly #starting = new Map<string, AbortController>();

  constructor(deps: ExecutionStartDeps) {
    this.#deps = deps;
    this.#starts = new Semaphore(deps.maxStarts);
  }

  /** Calls off a start of this task that is under way. */
  interrupt(taskUid: string): void {
    this.#starting.get(taskUid)?.abort(CALLED_OFF);
  }

  /** @param closing Fires when the agent ends; what is under way is then left for its next start, and this throws. */
  async start(execution: Execution, closing: AbortSignal): Promise<StartOutcome> {
    const { plan } = execution;
    if (plan === undefined) throw new StatusError("INTERNAL", `execution ${describeKey(execution)} has no plan`);
    const calledOff = new AbortController();
    this.#starting.set(execution.taskUid, calledOff);
    try {
      // What is wanted may have changed between reading the row and being interruptible.
      if (this.#deps.rows.standing(execution)?.desired !== "run") return "again";
      const signal = anySignal(calledOff.signal, closing);
      // Outside the bound on starts: while nobody answers, those that need the lease must not hold up the others.
      if (plan.fence === true) await this.#deps.fence.gate.open(execution, signal);
      const container = containerOf(execution, plan, this.#deps.paths);
      return await this.#starts.run(() => this.#startNow(execution, container, signal), signal);
    } catch (error) {
      if (closing.aborted || !calledOff.signal.aborted) throw error;
      return "again";
    } finally {
      this.#starting.delete(execution.taskUid);
    }
  }

  async #startNow(execution: Execution, container: Container, signal: AbortSignal): Promise<StartOutcome> {
    const { journal, runner, logger, bootId } = this.#deps;
    if (execution.state === "starting" && execution.bootId !== bootId) {
      const message = "the host was started anew while the container was being started";
      return await this.#failed(execution, "HostRebooted", message);
    }
    // Waited for only before something can run: the row that names the container's belongings is durable since it was
    // accepted, and transactions become durable in the order of the calls.
    let begun: Promise<unknown> | undefined;
    const begin = (entry: NewEntry): Promise<unknown> =>
      journal.transact(
        [
          changeExecution(execution, ["accepted", "starting"], { state: "starting", bootId }, this.#nowMs()),
          insertContainer(container, "fleet", this.#nowMs()),
        ],
        [entry],
      );
    const note = (entry: NewEntry): void => {
      journal.append([entry]).catch((error: unknown) => logger.warn({ err: error }, "a step was not journaled"));
    };
    /** The first that is told of the start goes with its beginning. */
    const noteStep = (step: TaskStep, facts?: TaskFacts): void => {
      const entry = taskEntry(execution, step, facts);
      if (begun !== undefined) return note(entry);
      begun = begin(entry);
      begun.catch(() => {});
    };
    let facts: StartFacts;
    try {
      // protocol: ContainerStarted
      facts = await runner.start(container, {
        signal,
        onPulling: () => noteStep("pulling", { message: container.plan.image }),
        onWarning: (reason, message) =>
          note(agentEntry("warning", reason, `task ${execution.namespace}/${execution.name}: ${message}`)),
        onStep: async (step) => {
          if (step === "snapshot") noteStep("creating");
          if (step === "create") await begun;
        },
      });
    } catch (error) {
      if (!(error instanceof StartFailure)) throw error;
      if (error.status.reason === LEASE_NOT_HELD) return "again";
      logger.warn({ task: execution.name, taskUid: execution.taskUid, reason: error.reason }, error.message);
      return await this.#failed(execution, error.reason, error.message);
    }
    return await this.#started(execution, container, facts);
  }

  async #started(execution: Execution, container: Container, facts: StartFacts): Promise<StartOutcome> {
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
    return "running";
  }

  async #failed(execution: Execution, failure: string, why: string): Promise<StartOutcome> {
    const mark = this.#deps.fence.stopper.mark(describeKey(execution));
    const { reason, message } = mark === undefined ? { reason: failure, message: why } : fencedReason(mark);
    await this.#deps.journal.transact(
      [changeExecution(execution, ["accepted", "starting"], { state: "failed" }, this.#nowMs())],
      [taskEntry(execution, "failed", { reason, message })],
    );
    return "failed";
  }

  #nowMs(): number {
    return this.#deps.clock.nowMs();
  }
}
