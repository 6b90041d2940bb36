/**
 * One look at one workload: read, plan, carry out, in one transaction that locks the workload. What is due, and since when, goes
 * by the clock of Postgres: a controller whose own is wrong rolls nothing back and waits for nothing too long.
 */
import { randomInt } from "node:crypto";
import { StatusError, uuidv7 } from "@berth/base";
import { durationMs } from "@bufbuild/protobuf/wkt";
import type { WorkloadSpec } from "@berth/proto";
import {
  announceTasks,
  insertEvents,
  insertTasks,
  KeptTasks,
  lockTasksByUid,
  lockWorkloadAndTime,
  lockHold,
  lockWorkloadByUid,
  numberedAfterRestore,
  removeTasks,
  removeWorkload,
  revisionsOf,
  together,
  updateTasks,
  updateWorkload,
  workloadSpec,
  workloadStatus,
  type RevisionRow,
  type TaskRow,
  type TaskUpdate,
  type Tx,
  type WorkloadRow,
} from "@berth/store";
import { FleetViews, type EvictionConfig, type FleetView } from "./fleet.ts";
import { evaluateJob, jobBounds, jobEvents, type JobState } from "./job.ts";
import { planWorkload, type Plan, type PlanInput } from "./plan.ts";
import { evaluateView, rolloutEvents } from "./rollout-status.ts";
import type { RolloutState } from "./rollout.ts";
import { sameWorkloadStatus, workloadStatusOf } from "./status.ts";

export interface WorkloadOutcome {
  /** In how long to look again though nothing changes. */
  readonly wakeMs: number | undefined;
  readonly created: number;
  /** How many tasks were looked at. */
  readonly seen: number;
  /** Tasks that were told to stop or to leave. */
  readonly moved: number;
  /** The workload was looked at for the first time, this long after it was made. */
  readonly reactedMs: number | undefined;
}

const NOTHING: WorkloadOutcome = { wakeMs: undefined, seen: 0, created: 0, moved: 0, reactedMs: undefined };

interface Kept {
  readonly history: string;
  readonly fleet: FleetViews;
  readonly tasks: KeptTasks;
}

/** What looks read, kept from one to the next, while it is the same history that the store tells. */
export class Sight {
  readonly #config: EvictionConfig;
  #kept: Kept | undefined;

  constructor(config: EvictionConfig) {
    this.#config = config;
  }

  of(history: string): Pick<Kept, "fleet" | "tasks"> {
    if (this.#kept?.history !== history) {
      this.#kept = { history, fleet: new FleetViews(this.#config), tasks: new KeptTasks() };
    }
    return this.#kept;
  }
}

export async function reconcileWorkload(tx: Tx, uid: string, sight: Sight): Promise<WorkloadOutcome> {
  const locked = await lockWorkloadAndTime(tx, uid);
  if (locked === undefined) return NOTHING;
  const { workload, now, history } = locked;
  const kept = sight.of(history);
  const [tasks, fleet, revisions] = await together(
    kept.tasks.ofWorkload(tx, uid),
    kept.fleet.read(tx, now),
    revisionsOf(tx, uid),
  );
  const spec = workloadSpec(workload);
  const status = workloadStatus(workload);
  const live = tasks.filter((row) => row.desired === "Run");
  const rollout = evaluateView({ workload, spec, status, revisions, live, nodes: fleet.nodes, now });
  const neverTwo = spec.onNodeLoss === "stopThenReplace" || tasks.some((row) => row.fence);
  const held = neverTwo && (await lockHold(tx));
  const view = { workload, spec, rollout: rollout.plan, tasks, nodes: fleet.nodes, now, held };
  const plan = planWorkload({ ...view, newUid: uuidv7, newSuffix });
  const job = jobOf(view, live);
  plan.events.push(...(job ? jobEvents(workload, status.job, job) : rolloutEvents(workload, status, rollout.state)));
  const after = await carryOut(tx, tasks, plan);
  if (workload.deletedAt !== null && after.length === 0) {
    await removeWorkload(tx, workload);
    return NOTHING;
  }
  const generation = newestGeneration(workload, revisions);
  const reacted = await writeStatus(tx, workload, after, { rollout: rollout.state, job, generation }, now);
  const expiresAt = await expire(tx, workload, spec, job, now);
  const wakeAt = [plan.wakeAt, rollout.wakeAt, expiresAt, wakeForLoss(tasks, fleet)].reduce(earliest, undefined);
  return {
    wakeMs: wakeAt === undefined ? undefined : Math.max(0, wakeAt.getTime() - now.getTime()),
    seen: tasks.length,
    created: plan.create.length,
    moved: plan.update.filter(({ patch }) => patch.desired !== undefined).length,
    reactedMs: reacted && workload.generation === 1 ? now.getTime() - workload.createdAt.getTime() : undefined,
  };
}

function jobOf(view: Omit<PlanInput, "newUid" | "newSuffix">, live: readonly TaskRow[]): JobState | undefined {
  const { spec, rollout, workload, now } = view;
  if (spec.job === undefined || workload.deletedAt !== null) return undefined;
  const own = live.filter((row) => row.workloadGeneration === rollout.target.generation);
  return evaluateJob(jobBounds(spec.job), workload.revision, own, workloadStatus(workload).job, now);
}

/** A finished job deletes itself when its time has come; returns when that is. */
async function expire(
  tx: Tx,
  workload: WorkloadRow,
  { job: limits }: WorkloadSpec,
  job: JobState | undefined,
  now: Date,
): Promise<Date | undefined> {
  if (limits?.ttlAfterFinished === undefined || job === undefined || job.finishedAt === null) return undefined;
  const dueAt = new Date(job.finishedAt.getTime() + durationMs(limits.ttlAfterFinished));
  if (dueAt > now) return dueAt;
  // With the status that was written just now: the row is read again.
  const row = await lockWorkloadByUid(tx, workload.uid);
  if (row !== undefined && row.deletedAt === null) await updateWorkload(tx, row, { deletedAt: now });
  return now;
}

/** The workload's tasks as they are afterwards. */
async function carryOut(tx: Tx, tasks: readonly TaskRow[], plan: Plan): Promise<TaskRow[]> {
  const touched = [...plan.update.map(({ before }) => before), ...plan.remove];
  await lockUnchanged(tx, touched);
  await removeTasks(tx, plan.remove);
  const updated = await updateTasks(tx, await numberedAfterRestore(tx, plan.update));
  // After the updates: a slot is free once its task is told to stop.
  const created = await insertTasks(tx, plan.create);
  if (created.length < plan.create.length) {
    throw new StatusError("ABORTED", "a task's name or slot was taken meanwhile", { reason: "STORE_CONFLICT" });
  }
  await announceTasks(tx, updated.filter((_, index) => isNews(plan.update[index]!))); // prettier-ignore
  await insertEvents(tx, plan.events);
  const gone = new Set(plan.remove.map((row) => row.uid));
  const changed = new Map(updated.map((row) => [row.uid, row]));
  return [...tasks.filter((row) => !gone.has(row.uid)).map((row) => changed.get(row.uid) ?? row), ...created];
}

/** Locks what the plan was made from. @throws ABORTED when it has changed since: the transaction is run again. */
async function lockUnchanged(tx: Tx, rows: readonly TaskRow[]): Promise<void> {
  if (rows.length === 0) return;
  const locked = await lockTasksByUid(tx, rows.map((row) => row.uid)); // prettier-ignore
  const versions = new Map(locked.map((row) => [row.uid, row.resourceVersion]));
  const moved = rows.filter((row) => versions.get(row.uid) !== row.resourceVersion);
  if (moved.length === 0) return;
  throw new StatusError("ABORTED", `${moved.length} tasks have moved on while they were planned`, {
    reason: "STORE_CONFLICT",
  });
}

/** Does the node have to hear of it? */
function isNews({ before, patch }: TaskUpdate): boolean {
  return (
    patch.generation !== undefined ||
    patch.attempt !== undefined ||
    told(patch.desired ?? before.desired) !== told(before.desired)
  );
}

/** A node is not told that a task leaves: it runs it until it is to stop. */
const told = (desired: string): string => (desired === "Stop" ? "Stop" : "Run");

/** Returns whether this generation was looked at for the first time. */
async function writeStatus(
  tx: Tx,
  workload: WorkloadRow,
  tasks: readonly TaskRow[],
  { rollout, job, generation }: { rollout: RolloutState; job: JobState | undefined; generation: number },
  now: Date,
): Promise<boolean> {
  const before = workloadStatus(workload);
  const status = workloadStatusOf(workload, tasks, rollout, generation, before, now, job);
  if (sameWorkloadStatus(status, before)) return false;
  await updateWorkload(tx, workload, { status });
  return before.observedGeneration !== status.observedGeneration;
}

/** Which tasks have the spec's own revision. */
function newestGeneration({ generation, revision }: WorkloadRow, revisions: readonly RevisionRow[]): number {
  return revisions.find((row) => row.revision === revision)?.generation ?? generation;
}

/** A task on a silent node is looked at again when it may be replaced. */
function wakeForLoss(tasks: readonly TaskRow[], fleet: FleetView): Date | undefined {
  const concerned = tasks.some((row) => row.node !== null && fleet.nodes.get(row.node)?.silent === true);
  return concerned ? fleet.evictAt : undefined;
}

function earliest(a: Date | undefined, b: Date | undefined): Date | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return a < b ? a : b;
}

/** No vowels, so no words. */
const LETTERS = "bcdfghjklmnpqrstvwxz2456789";

function newSuffix(): string {
  return Array.from({ length: 5 }, () => LETTERS[randomInt(LETTERS.length)]).join("");
}
