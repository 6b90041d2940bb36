/**
 * One batch of tasks gets its nodes, in one transaction: the tasks' nodes, the raised revisions of those nodes (D5), the jobs in
 * the outbox, what is told to stop to make room, the events, and the record of why.
 *
 * Invariant: a gang is decided when all of it is locked by this transaction; otherwise it is left for the next look.
 */
import type { Failpoint } from "@berth/base";
import { PlacementBatch, type PlacementDecision, type PlacementTask } from "@berth/model";
import {
  announceTasks,
  insertDecisions,
  insertEvents,
  lockHold,
  numberedAfterRestore,
  PLACEMENT_LOCK,
  tryTransactionLock,
  unplacedOf,
  unplacedTasks,
  updateTasks,
  type NewEvent,
  type TaskRow,
  type TaskUpdate,
  type Tx,
  type UnplacedMark,
} from "@berth/store";
import { readFleet, readRules, type OvercommitConfig } from "./fleet.ts";
import { preempt, type RoomMade } from "./preempt.ts";
import { MOST_NAMED, recordsOf } from "./record.ts";

/** What the batches of one pass share. */
export interface Pass {
  readonly overcommit: OvercommitConfig;
  readonly batchSize: number;
  /** Workloads whose gang has been decided in this pass. */
  readonly gangs: Set<string>;
  /** Passed when all is written and nothing is committed. */
  readonly failpoint: Failpoint;
  /** Is it time to tell the reason of a task that still fits nowhere? */
  shouldTell(row: TaskRow, reason: string): boolean;
}

export interface BatchOutcome {
  readonly placed: number;
  readonly waiting: number;
  /** Where the next batch begins; undefined: this was the last. */
  readonly next: UnplacedMark | undefined;
}

/** Undefined: another controller is at it. */
export async function placeBatch(
  tx: Tx,
  pass: Pass,
  after: UnplacedMark | undefined,
): Promise<BatchOutcome | undefined> {
  if (!(await tryTransactionLock(tx, PLACEMENT_LOCK))) return undefined;
  const found = await unplacedTasks(tx, after, pass.batchSize);
  const last = found.at(-1);
  const next =
    found.length < pass.batchSize || last === undefined ? undefined : { ...last.row, priority: last.priority };
  const wanted = await withWholeGangs(tx, pass, found.map(({ row }) => row)); // prettier-ignore
  // A restore may have been noticed since they were read.
  const held = wanted.some((row) => row.fence) && (await lockHold(tx));
  const rows = held ? wanted.filter((row) => !row.fence) : wanted;
  if (rows.length === 0) return { placed: 0, waiting: 0, next };
  const { fleet, tasks } = await readFleet(tx, rows, pass.overcommit);
  const batch = new PlacementBatch(fleet, { reportMost: MOST_NAMED });
  const decisions = batch.place(tasks);
  const byUid = new Map(rows.map((row) => [row.uid, row]));
  const waiting = tasks.filter((_, index) => decisions[index]!.node === undefined);
  const room = await preempt(tx, batch, waiting, byUid);
  const placed = await assign(tx, batch, tasks, decisions, byUid);
  const refused = refusals(pass, rows, decisions, room);
  // protocol: TaskPlaced
  const updated = await updateTasks(tx, [...(await numberedAfterRestore(tx, placed)), ...room.stops, ...refused]);
  const told = placed.length + room.stops.length;
  await announceTasks(tx, updated.slice(0, told));
  await insertEvents(tx, [
    ...updated.slice(0, placed.length).map((row) => assignedEvent(row)),
    ...room.events,
    ...updated.slice(told).flatMap((row, index) => refusedEvent(refused[index]!.before, row)),
  ]);
  if (placed.length > 0) pass.failpoint("placement.before-commit");
  return { placed: placed.length, waiting: waiting.length, next };
}

/** The rows, with all of each gang in place of a part of it; a gang is looked at once in a pass. */
async function withWholeGangs(tx: Tx, pass: Pass, rows: readonly TaskRow[]): Promise<TaskRow[]> {
  const rules = await readRules(tx, rows);
  const isGang = (row: TaskRow): boolean => rules.of(row).gang;
  const fresh = [...new Set(rows.filter(isGang).map((row) => row.workloadUid))].filter((uid) => !pass.gangs.has(uid));
  const gangs = await unplacedOf(tx, fresh);
  for (const uid of fresh) pass.gangs.add(uid);
  return [...rows.filter((row) => !isGang(row)), ...[...gangs.values()].flat()];
}

async function assign(
  tx: Tx,
  batch: PlacementBatch,
  tasks: readonly PlacementTask[],
  decisions: readonly PlacementDecision[],
  rows: ReadonlyMap<string, TaskRow>,
): Promise<TaskUpdate[]> {
  const records = recordsOf(tasks, decisions, (task) => batch.classOf(task), batch.reports);
  const ids = await insertDecisions(tx, records.map(({ workloadUid, record }) => ({ workloadUid, record }))); // prettier-ignore
  const decisionOf = new Map(records.flatMap(({ uids }, index) => uids.map((uid) => [uid, ids[index]!] as const)));
  return decisions.flatMap(({ uid, node }): TaskUpdate[] => {
    if (node === undefined) return [];
    const patch = {
      node,
      nominatedNode: null,
      decisionId: decisionOf.get(uid)!,
      phase: "Assigned",
      reason: "",
      message: "",
    };
    return [{ before: rows.get(uid)!, patch }];
  });
}

function refusals(
  pass: Pass,
  rows: readonly TaskRow[],
  decisions: readonly PlacementDecision[],
  { nominations }: RoomMade,
): TaskUpdate[] {
  const reasons = new Map(
    decisions.flatMap((each) => (each.node === undefined ? [[each.uid, each.reason] as const] : [])),
  );
  return rows.flatMap((before): TaskUpdate[] => {
    const why = reasons.get(before.uid);
    if (why === undefined) return [];
    const nomination = nominations.get(before.uid);
    const nominatedNode = nomination?.node ?? null;
    const reason = nomination === undefined ? "NoNodeFits" : "MakingRoom";
    const message =
      nomination === undefined ? why : `waits until tasks of lower priority have left node ${nomination.node}`;
    if (nominatedNode === before.nominatedNode && reason === before.reason && !pass.shouldTell(before, message))
      return [];
    return [{ before, patch: { reason, message, nominatedNode } }];
  });
}

function assignedEvent({ namespace, name, uid, node }: TaskRow): NewEvent {
  const about = { namespace, kind: "Task", name, uid, node: node! } as const;
  return { ...about, topic: "/scheduler/assigned", message: `assigned to node ${node}` };
}

/** Once when it begins to wait, not each time its reason is told anew. */
function refusedEvent(before: TaskRow, { namespace, name, uid, reason, message }: TaskRow): NewEvent[] {
  if (reason !== "NoNodeFits" || before.reason === "NoNodeFits") return [];
  return [
    { namespace, topic: "/scheduler/unplaceable", kind: "Task", name, uid, severity: "Warning", reason, message },
  ];
}
