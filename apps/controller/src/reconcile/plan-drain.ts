/**
 * How tasks leave a node that is drained: within their workload's disruption budget, and where two may run at a time, only when
 * their replacement runs. Pure.
 *
 * A task leaves in one of two ways. With surge it becomes `Leave` and frees its slot: a new task takes the slot and is placed
 * elsewhere; the old one runs until that one does. Without surge (two must not run at a time, or the budget says `maxSurge: 0`)
 * it stops first, and its slot stays taken (`holdsSlot`) until nothing is left of it.
 *
 * Invariants:
 *  1. No plan takes a workload below its budget, but for a forced drain; a slot whose task is down for any other reason (a
 *     silent node, a rollout, a crash) counts. What is down already costs nothing.
 *  2. A task of a silent node is not moved, forced or not: what becomes of it is `onNodeLoss`'s to say (D6).
 *  3. What took a task's place counts only when it is available, as rollouts count it: its probes are well, and have been for
 *     `minReady`. Until then the next task is not taken.
 *  4. Every task that is still on a drained node has a line in `plan.waits` that says what for.
 *
 * Tasks of everyNode workloads stay: they belong to the node. Tasks that are to run to an end (a restart policy other than
 * always) are waited for. When the drain itself is over is `drain/`'s to say.
 */
import { disruptionBudget, hasEnded, shareOf, type DisruptionBudget } from "@berth/model";
import type { TaskRow } from "@berth/store";
import { isUp, newTask, noteWake, restartOf, stop, taskEvent, type Context } from "./plan-context.ts";
import { isGone, replacesLost } from "./plan-loss.ts";

/** Those whose node is drained no more go on in their slots, where what was to replace them has no place yet. */
export function returnStayers(context: Context, live: readonly TaskRow[], leaving: readonly TaskRow[]): TaskRow[] {
  const { plan } = context;
  const bySlot = new Map(live.map((row) => [row.slot, row]));
  return leaving.filter((row) => {
    const successor = bySlot.get(row.slot);
    if (drainOf(context, row) !== undefined || !isUp(row) || (successor !== undefined && successor.node !== null))
      return false;
    if (successor !== undefined) plan.remove.push(successor);
    plan.update.push({ before: row, patch: { desired: "Run" } });
    return true;
  });
}

/** Slots that no new task may have yet, for what had them may still run. */
export function heldSlots({ tasks, nodes }: Context): number[] {
  return tasks.filter((row) => row.desired === "Stop" && row.holdsSlot && !isGone(row, nodes)).map((row) => row.slot);
}

/** Moves what may be moved now. `kept`: the tasks in their slots, after the rest of the plan. */
export function planDrain(context: Context, kept: readonly TaskRow[], leaving: readonly TaskRow[]): void {
  const bySlot = new Map(kept.map((row) => [row.slot, row]));
  const stillLeaving = leaving.filter((row) => !settleLeaving(context, row, bySlot.get(row.slot)));
  for (const row of context.tasks) {
    if (row.desired === "Stop" && !isGone(row, context.nodes)) wait(context, row, "Stopping", stoppingSince(row));
  }
  if (context.spec.everyNode) return;
  const moves = new Moves(context, kept, stillLeaving);
  for (const row of kept) if (drainOf(context, row) !== undefined && !moves.isTouched(row)) moves.consider(row);
}

/** True when it is told to stop. */
function settleLeaving(context: Context, row: TaskRow, successor: TaskRow | undefined): boolean {
  const { plan, spec } = context;
  const why = ((): string | undefined => {
    if (row.slot >= (spec.replicas ?? 1)) return "scaled down";
    if (successor !== undefined && isSettled(context, successor)) return `${successor.name} runs in its place`;
    if (row.certainty === "observed" && row.phase !== "Running") return "it ended while its replacement was started";
    return drainOf(context, row) === "forced" ? "the deadline of the drain has passed" : undefined;
  })();
  if (why === undefined) {
    const state = successor?.health === "unhealthy" ? "Blocked" : "Moving";
    wait(context, row, state, successor === undefined ? "its replacement is being made" : waitsFor(successor));
    return false;
  }
  stop(plan, row, why);
  wait(context, row, "Stopping", why);
  return true;
}

/** Is it up, and has it been for as long as rollouts ask? What is due later wakes the plan. */
function isSettled({ rollout, now, plan }: Context, row: TaskRow): boolean {
  if (!isUp(row)) return false;
  const settledMs = (row.availableSince?.getTime() ?? 0) + rollout.bounds.minReadyMs;
  if (settledMs <= now.getTime()) return true;
  noteWake(plan, new Date(settledMs));
  return false;
}

function waitsFor(row: TaskRow): string {
  if (row.node === null)
    return `its replacement ${row.name} has no node yet${row.message === "" ? "" : `: ${row.message}`}`;
  return `its replacement ${row.name} on ${row.node} ${howItIs(row)}`;
}

function howItIs(row: TaskRow): string {
  const { phase, health, message } = row;
  const why = message === "" ? "" : `: ${message}`;
  if (isUp(row)) return "is ready, and not for long enough yet (rollout.minReady)";
  if (row.certainty === "fenced") return "has been ended by its silent node";
  if (row.certainty === "unreachable") return "possibly runs: its node is silent";
  if (phase !== "Running") return `is ${phase}${why}`;
  return health === "unhealthy" ? `runs and is not ready${why}` : `runs, and its probes have not succeeded yet`;
}

/** The moves of one plan, and what they cost. */
class Moves {
  readonly #context: Context;
  readonly #touched: ReadonlySet<string>;
  readonly #doubles: boolean;
  readonly #surge: number;
  #surging: number;
  #budget: DisruptionBudget;
  #left: number;
  /** One that is down already, for telling why. */
  readonly #down: TaskRow | undefined;

  constructor(context: Context, kept: readonly TaskRow[], leaving: readonly TaskRow[]) {
    const { plan, spec } = context;
    this.#context = context;
    this.#touched = new Set([...plan.update.map(({ before }) => before.uid), ...plan.remove.map((row) => row.uid)]);
    const wanted = spec.replicas ?? 1;
    const covered = new Set(
      [...kept.filter((row) => !this.isTouched(row)), ...leaving]
        .filter((row) => isSettled(context, row))
        .map((row) => row.slot),
    );
    this.#down = kept.find((row) => !covered.has(row.slot) && row.node !== null && row.desired === "Run");
    this.#doubles = replacesLost(spec);
    const surge = spec.disruption?.maxSurge || (this.#doubles ? "25%" : "0");
    // Of a fenced task there are never two (`plan-loss.ts`), whatever the budget allows.
    this.#surge = context.fence ? 0 : shareOf(surge, wanted);
    this.#surging = leaving.length;
    const { maxUnavailable = "", minAvailable = "" } = spec.disruption ?? {};
    this.#budget = disruptionBudget({ maxUnavailable, minAvailable }, wanted, covered.size);
    this.#left = this.#budget.left;
  }

  isTouched(row: TaskRow): boolean {
    return this.#touched.has(row.uid);
  }

  consider(row: TaskRow): void {
    const context = this.#context;
    const forced = drainOf(context, row) === "forced";
    const { policy } = restartOf(context, row.workloadGeneration);
    if (hasEnded(row.phase) && row.nextAttemptAt === null) return;
    if (context.nodes.get(row.node!)?.silent === true) {
      wait(context, row, "Blocked", "its node is silent: it possibly runs, and onNodeLoss says what follows");
    } else if (!isUp(row)) this.#stopFirst(row);
    else if (forced) this.#stopFirst(row);
    else if (policy !== "always") {
      wait(context, row, "Blocked", `it runs to its end (restart policy ${policy})`);
    } else if (this.#surge > 0) this.#surgeOrWait(row);
    else this.#stopFirstOrWait(row);
  }

  #surgeOrWait(row: TaskRow): void {
    const { plan, workload } = this.#context;
    if (this.#surging >= this.#surge) {
      const message = `${this.#surging} of ${workload.name} move already, ${this.#surge} may at a time`;
      return wait(this.#context, row, "Moving", message);
    }
    this.#surging += 1;
    plan.update.push({ before: row, patch: { desired: "Leave" } });
    const successor = newTask(this.#context, row.slot, null);
    plan.create.push(successor);
    const message = `node ${row.node} is drained: it runs until ${successor.name} does`;
    plan.events.push(taskEvent(row, "/tasks/leave", "Draining", message));
    wait(this.#context, row, "Moving", `its replacement ${successor.name} has no node yet`);
  }

  #stopFirstOrWait(row: TaskRow): void {
    const { workload } = this.#context;
    if (this.#left <= 0) {
      const { down, allowed } = this.#budget;
      const why = this.#down === undefined ? "" : `; ${this.#down.name} on ${this.#down.node} ${howItIs(this.#down)}`;
      const message = `budget of ${workload.name} allows 0 more (${down} down, ${allowed} allowed)${why}`;
      return wait(this.#context, row, "Blocked", message);
    }
    this.#left -= 1;
    this.#budget = { ...this.#budget, down: this.#budget.down + 1 };
    this.#stopFirst(row);
  }

  #stopFirst(row: TaskRow): void {
    const { plan } = this.#context;
    stop(plan, row, `node ${row.node} is drained`);
    if (this.#doubles) plan.create.push(newTask(this.#context, row.slot, null));
    else {
      const index = plan.update.findIndex(({ before }) => before.uid === row.uid);
      const update = plan.update[index]!;
      plan.update[index] = { before: row, patch: { ...update.patch, holdsSlot: true } };
    }
    wait(this.#context, row, "Stopping", "");
  }
}

function drainOf({ nodes }: Context, row: TaskRow): "moving" | "forced" | undefined {
  return row.node === null ? undefined : nodes.get(row.node)?.drain;
}

function stoppingSince(row: TaskRow): string {
  return row.deletedAt === null ? "" : `since ${row.deletedAt.toISOString()}`;
}

function wait({ plan }: Context, row: TaskRow, state: "Moving" | "Stopping" | "Blocked", message: string): void {
  plan.waits.set(row.uid, { row, state, message });
}
