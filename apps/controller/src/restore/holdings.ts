/**
 * What a node shows of itself after a restore, held against what the store says of it: the store takes over what it has
 * forgotten, and what is missing on the node is begun under a number that was never used.
 *
 * Invariants:
 *  1. A node is believed when it has applied the newest set of this epoch, and all that its journal says up to then is stored.
 *  2. Nothing that runs is ended before an operator has confirmed the store; nothing fenced is begun while it is held.
 *  3. A node is clean when, after the confirmation, what runs there of fenced tasks is what this store wants to run there.
 */
import { hasEnded } from "@berth/model";
import type { Holding, HoldingsRequest } from "@berth/proto";
import {
  announceTasks,
  getStoreMeta,
  insertEvents,
  isNamedBefore,
  journalStates,
  lockNode,
  lockTasksOnOrNamed,
  numberedAfterRestore,
  raiseRevisions,
  setHoldings,
  updateTasks,
  wantsHoldings,
  type NewEvent,
  type NodeRow,
  type StoreMeta,
  type TaskRow,
  type TaskUpdate,
  type Tx,
} from "@berth/store";
import { nextAttempt, placedAgain } from "../reconcile/execution.ts";
import { gaveRoomBack } from "../reconcile/plan-room.ts";

export const STORE_HELD = "StoreHeld";

/** Returns why it was not taken; empty: it was. */
export async function takeHoldings(tx: Tx, node: string, request: HoldingsRequest): Promise<string> {
  const meta = await getStoreMeta(tx);
  if (meta.storeEpoch !== request.storeEpoch) return "it is of another store epoch";
  const rows = await lockTasksOnOrNamed(tx, node, request.holdings.map(({ taskUid }) => taskUid)); // prettier-ignore
  const row = await lockNode(tx, node);
  if (row === undefined || !wantsHoldings(row, meta)) return "";
  const early = await whyTooEarly(tx, row, request);
  if (early !== "") return early;
  const held = new Map(request.holdings.map((holding) => [holding.taskUid, holding]));
  const moves = rows.flatMap((task): Move[] => {
    const move = moveOf(task, held.get(task.uid), node, meta);
    return move === undefined ? [] : [{ before: task, ...move }];
  });
  const updated = await updateTasks(tx, await numbered(tx, moves));
  await announceTasks(tx, updated.filter((_, index) => isNews(moves[index]!))); // prettier-ignore
  // What is placed anew, the node is to let go of.
  if (updated.some((task) => task.node === null)) await raiseRevisions(tx, [node]);
  await insertEvents(tx, moves.map((move) => eventOf(move, node))); // prettier-ignore
  const after = new Map([...rows, ...updated].map((task) => [task.uid, task]));
  const clean = request.holdings.every((holding) => isWanted(holding, after.get(holding.taskUid), node));
  if (row.holdings === "wanted") await setHoldings(tx, [node], "shown");
  else if (!meta.held) await setHoldings(tx, [node], "");
  else if (clean) await setHoldings(tx, [node], "clean");
  return "";
}

async function whyTooEarly(tx: Tx, { name, assignmentRevision }: NodeRow, request: HoldingsRequest): Promise<string> {
  if (Number(request.revision) < assignmentRevision) return "its set is not the newest";
  const states = await journalStates(tx, [name]);
  const stored = states.find(({ epoch }) => epoch === request.journalEpoch)?.storedSeq ?? 0;
  return stored < Number(request.journalHeadSeq) ? "its journal is not stored yet" : "";
}

/** Does what the node is to have change? */
const isNews = ({ patch }: Move): boolean => patch.attempt !== undefined;

interface Move extends TaskUpdate {
  readonly why: string;
  /** It has its number already. */
  readonly takenOver?: true;
}

async function numbered(tx: Tx, moves: readonly Move[]): Promise<TaskUpdate[]> {
  const anew = moves.filter(({ takenOver }) => takenOver !== true);
  const updates = new Map((await numberedAfterRestore(tx, anew)).map((update) => [update.before, update]));
  return moves.map((move) => updates.get(move.before) ?? move);
}

function moveOf(
  row: TaskRow,
  holding: Holding | undefined,
  node: string,
  meta: StoreMeta,
): Omit<Move, "before"> | undefined {
  if (!isNamedBefore(row, meta)) return undefined;
  if (row.node === null) return isSameSpec(row, holding) && mayBeOn(row, node) ? takeOver(holding, node) : undefined;
  if (row.node !== node) return undefined;
  const order = holding === undefined ? -1 : compare(holding, row);
  if (row.desired === "Stop") return order > 0 && meta.stopsConfirmed ? stopNewest(row) : undefined;
  if (order > 0 && isSameSpec(row, holding)) return takeOver(holding, node);
  const held = row.fence && meta.held;
  // It runs something newer than this store knows: that is ended only when the store is confirmed.
  if (order > 0 && isLive(holding!) && !meta.stopsConfirmed) return undefined;
  if (order > 0) return held ? wait(row) : begin(row, "its node has a newer execution of another spec");
  if (hasEnded(row.phase)) return undefined;
  if (order < 0) return held ? wait(row) : begin(row, "its node does not have it");
  if (!isLive(holding!)) return held ? wait(row) : begin(row, "it has ended, and how is forgotten");
  if (holding!.state !== "running" || row.phase === "Running") return undefined;
  return { patch: { phase: "Running", health: holding!.health }, why: "its node runs it" };
}

/** The store follows its node: the execution that runs there is the current one. */
function takeOver({ attempt, state, health }: Holding, node: string): Omit<Move, "before"> {
  const phase = state === "running" ? "Running" : "Assigned";
  const fresh = {
    reason: "",
    message: "",
    exitCode: null,
    finishedAt: null,
    nextAttemptAt: null,
    certainty: "observed",
  };
  return {
    patch: { ...fresh, node, nominatedNode: null, attempt, phase, health, removed: false },
    takenOver: true,
    why: `its node runs attempt ${attempt}, which this store had forgotten`,
  };
}

function begin(row: TaskRow, why: string): Omit<Move, "before"> {
  return { patch: gaveRoomBack(row) ? placedAgain(row) : nextAttempt(row), why: `${why}: begun anew` };
}

/** Another one of it may run elsewhere. */
function wait(row: TaskRow): Omit<Move, "before"> | undefined {
  if (row.reason === STORE_HELD) return undefined;
  const message =
    "its node does not have it; the store was put back, and waits until every node has shown what it runs";
  return { patch: { phase: "Assigned", reason: STORE_HELD, message }, why: message };
}

/** A stop of what this store knows would not reach what is newer. */
function stopNewest(row: TaskRow): Omit<Move, "before"> {
  return { patch: { attempt: row.attempt }, why: "its node has a newer execution: that one is to stop" };
}

function isSameSpec(row: TaskRow, holding: Holding | undefined): holding is Holding {
  return (
    holding !== undefined &&
    row.desired !== "Stop" &&
    isLive(holding) &&
    Number(holding.generation) === row.generation &&
    holding.attempt >= row.attempt
  );
}

const mayBeOn = ({ pinnedNode }: TaskRow, node: string): boolean => pinnedNode === null || pinnedNode === node;

/** Of what must never be two of: is this where and what the store wants to run? */
function isWanted(holding: Holding, row: TaskRow | undefined, node: string): boolean {
  if (!holding.fence || !isLive(holding)) return true;
  return row?.node === node && row.desired !== "Stop" && compare(holding, row) === 0;
}

const isLive = ({ state }: Holding): boolean => state !== "exited" && state !== "failed";

function compare(holding: Holding, { generation, attempt }: TaskRow): number {
  return Number(holding.generation) - generation || holding.attempt - attempt;
}

function eventOf({ before, why }: Move, node: string): NewEvent {
  const { namespace, name, uid } = before;
  return { namespace, topic: "/tasks/restored", kind: "Task", name, uid, node, reason: "StoreRestored", message: why };
}
