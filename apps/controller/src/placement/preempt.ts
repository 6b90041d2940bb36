/**
 * Makes room for tasks that fit nowhere: those of lower priority that the model names are told to stop, and the one that waits
 * is nominated for the node. It is placed by a later batch, once their room is free as it is counted: a task holds its room
 * until its node has said that it ended.
 */
import { makeRoom, unitsOf, type Nomination, type PlacementBatch, type PlacementTask } from "@berth/model";
import {
  lockTasksByUid,
  nodeLoads,
  tasksBelow,
  type NewEvent,
  type TaskRow,
  type TaskUpdate,
  type Tx,
} from "@berth/store";
import { stopPatch, victimTerms, type VictimTerms } from "./victim-terms.ts";

/** A look at every node for each of them: so many in one batch, the others have their turn in the next. */
const MOST_UNITS = 32;

export interface RoomMade {
  readonly nominations: ReadonlyMap<string, Nomination>;
  readonly stops: readonly TaskUpdate[];
  readonly events: readonly NewEvent[];
}

export const NO_ROOM_MADE: RoomMade = { nominations: new Map(), stops: [], events: [] };

/** @param waiting fit nowhere; what this transaction has locked of them is in `rows`, by uid */
export async function preempt(
  tx: Tx,
  batch: PlacementBatch,
  waiting: readonly PlacementTask[],
  rows: ReadonlyMap<string, TaskRow>,
): Promise<RoomMade> {
  const able = waiting.filter(({ rules }) => rules.preempts);
  if (able.length === 0) return NO_ROOM_MADE;
  const highest = able.reduce((most, { rules }) => Math.max(most, rules.priority), Number.NEGATIVE_INFINITY);
  const below = (await tasksBelow(tx, highest)).map((row) => ({ ...row, createdAtMs: row.createdAt.getTime() }));
  const nominated = able.some(({ nominatedNode }) => nominatedNode !== null);
  if (!nominated && !below.some(({ leaving }) => !leaving)) return NO_ROOM_MADE;
  const placed = below.filter(({ leaving }) => !leaving);
  const terms = await victimTerms(tx, [...new Set(placed.map(({ workloadUid }) => workloadUid))]);
  const leaving = below.filter((row) => row.leaving);
  const found = makeRoom(batch, unitsOf(able).slice(0, MOST_UNITS), { placed, leaving, allowance: terms.allowance });
  if (await freedSince(tx, batch, able, found)) return NO_ROOM_MADE;
  return await lockVictims(tx, found, rows, terms);
}

/**
 * Has a node on which room is being made freed some of it since the batch read its load? Who has ended meanwhile is no longer among
 * those that leave and still counts in that load, so the node seems lost for who waits for it, and others would be stopped in vain.
 */
async function freedSince(
  tx: Tx,
  batch: PlacementBatch,
  able: readonly PlacementTask[],
  found: readonly Nomination[],
): Promise<boolean> {
  const promised = new Map(able.map(({ uid, nominatedNode }) => [uid, nominatedNode]));
  const nodes = new Set(found.flatMap(({ uid, victims }) => (victims.length > 0 ? (promised.get(uid) ?? []) : [])));
  if (nodes.size === 0) return false;
  const loads = await nodeLoads(tx);
  return batch.candidates.some(
    ({ node: { name, usedTasks } }) => nodes.has(name) && (loads.get(name)?.tasks ?? 0) < usedTasks,
  );
}

/** What has moved on since it was read spares the node its nomination: the next look sees it as it is. */
async function lockVictims(
  tx: Tx,
  found: readonly Nomination[],
  rows: ReadonlyMap<string, TaskRow>,
  { holdsSlot }: VictimTerms,
): Promise<RoomMade> {
  const uids = found.flatMap(({ victims }) => victims.map(({ uid }) => uid));
  const locked = new Map((await lockTasksByUid(tx, uids)).map((row) => [row.uid, row]));
  const isThere = ({ uid, node }: Nomination["victims"][number]): boolean => {
    const row = locked.get(uid);
    return row?.desired === "Run" && row.node === node;
  };
  if (!found.every(({ victims }) => victims.every(isThere))) return NO_ROOM_MADE;
  const stops: TaskUpdate[] = [];
  const events: NewEvent[] = [];
  for (const { uid, node, victims } of found) {
    const winner = rows.get(uid)!;
    for (const { uid: victimUid, priority } of victims) {
      const before = locked.get(victimUid)!;
      stops.push({ before, patch: stopPatch(before, holdsSlot) });
      events.push(victimEvent(before, winner, priority));
    }
    if (victims.length > 0) events.push(winnerEvent(winner, node, victims.map((each) => locked.get(each.uid)!))); // prettier-ignore
  }
  return { nominations: new Map(found.map((each) => [each.uid, each])), stops, events };
}

function victimEvent(row: TaskRow, winner: TaskRow, priority: number): NewEvent {
  const message = `stopped to make room for ${winner.namespace}/${winner.name}, which is above its priority ${priority}`;
  const { namespace, name, uid, node } = row;
  const about = { namespace, kind: "Task", name, uid, node: node! } as const;
  return { ...about, topic: "/tasks/preempt", severity: "Warning", reason: "Preempted", message };
}

function winnerEvent(row: TaskRow, node: string, victims: readonly TaskRow[]): NewEvent {
  const names = victims.slice(0, 5).map((each) => `${each.namespace}/${each.name}`);
  const more = victims.length > names.length ? ` and ${victims.length - names.length} more` : "";
  const message = `room is made on node ${node}: ${names.join(", ")}${more} of lower priority ${victims.length === 1 ? "is" : "are"} stopping`;
  const { namespace, name, uid } = row;
  return { namespace, topic: "/scheduler/preempt", kind: "Task", name, uid, node, reason: "MakingRoom", message };
}
