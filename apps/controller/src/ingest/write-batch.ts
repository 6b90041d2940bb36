/**
 * Stores entries and what follows from them, in one transaction: events, tasks, campaign targets, watermarks.
 *
 * Invariants: nothing is written unless the shard is still ours (its epoch row is held until the commit); each entry is stored
 * once: compared with the watermark under its row's lock, which is there before the first entry of an epoch (D4); one that does
 * not follow from the entry before it is marked; a task moves only as the execution that the entry names (D3), and only by its
 * own node (D8).
 */
import { create } from "@bufbuild/protobuf";
import { applyTaskStep, isAvailable, type ExecutionStatus } from "@berth/model";
import { JournalBatchSchema, type JournalBatch } from "@berth/proto";
import {
  addJournalEpochs,
  holdShard,
  insertEvents,
  journalStates,
  lockTargets,
  lockTasksByUid,
  setStored,
  targetsAt,
  together,
  touchNodes,
  updateTargets,
  updateTasks,
  type JournalMark,
  type JournalState,
  type NewEvent,
  type TargetRow,
  type TargetUpdate,
  type TaskRow,
  type TaskUpdate,
  type Tx,
  storeTime,
} from "@berth/store";
import { followChain, type ChainedRun } from "./chain.ts";
import { entryTime, eventOf, plain, stepOf, type PlacedEntry } from "./entries.ts";
import { sequence, type Gap } from "./sequence.ts";
import { noteImages } from "./warm-images.ts";

export interface ShardOwnership {
  readonly shard: number;
  readonly epoch: number;
}

export interface WriteOutcome {
  readonly stored: number;
  readonly duplicates: number;
  /** Entries of tasks that speak of an execution that is no more. */
  readonly stale: number;
  readonly gaps: readonly Gap[];
  /** Epochs that follow an earlier one of the same node, seen for the first time; nothing of theirs was stored. */
  readonly succeeding: readonly { readonly node: string; readonly previous: JournalState; readonly epoch: string }[];
}

/**
 * @param batches by node, in the order in which they came
 * @param begun epochs (`<node> <epoch>`) that may begin though an earlier one of the node is known
 * @throws ABORTED `SHARD_TAKEN`
 */
export async function writeBatch(
  tx: Tx,
  owner: ShardOwnership,
  batches: ReadonlyMap<string, readonly JournalBatch[]>,
  begun: ReadonlySet<string>,
): Promise<WriteOutcome> {
  const nodes = [...batches.keys()].sort((a, b) => (a < b ? -1 : 1));
  const [, known] = await together(holdShard(tx, owner.shard, owner.epoch), journalStates(tx, nodes, true));
  const { states, taken, succeeding } = await admit(tx, nodes, { batches, begun, known });
  const entries: PlacedEntry[] = [];
  const marks: JournalMark[] = [];
  const gaps: Gap[] = [];
  let duplicates = 0;
  for (const node of nodes) {
    const known = states.get(node) ?? [];
    // protocol: EntryStored
    const next = sequence(node, taken.get(node)!, known);
    gaps.push(...next.gaps);
    duplicates += next.duplicates;
    for (const [epoch, storedSeq] of next.marks) {
      const ofEpoch = next.entries.filter((each) => each.epoch === epoch);
      const run = followChain(node, epoch, ofEpoch, known.find((state) => state.epoch === epoch)); // prettier-ignore
      entries.push(...run.entries);
      marks.push(markOf(node, epoch, storedSeq, run));
    }
  }
  const broken = marks.filter(({ breaks }) => breaks > 0);
  const [stale] = await together(
    moveTasks(tx, entries),
    insertEvents(tx, [...entries.map(eventOf), ...broken.map(brokenEvent)]),
    setStored(tx, marks),
  );
  await moveTargets(tx, entries);
  await touchNodes(tx, broken.map(({ node }) => node)); // prettier-ignore
  return { stored: entries.length, duplicates, stale, gaps, succeeding };
}

interface Admitted {
  /** By node, locked: whoever stores entries of these epochs next waits for this transaction, and sees its watermarks. */
  readonly states: ReadonlyMap<string, readonly JournalState[]>;
  /** By node: all batches but those of `succeeding`. */
  readonly taken: ReadonlyMap<string, readonly JournalBatch[]>;
  readonly succeeding: WriteOutcome["succeeding"];
}

interface Delivered {
  readonly batches: ReadonlyMap<string, readonly JournalBatch[]>;
  readonly begun: ReadonlySet<string>;
  /** Of the epochs that are known, locked. */
  readonly known: readonly JournalState[];
}

/** Makes the epochs known that may begin, and locks the watermark of each. */
async function admit(
  tx: Tx,
  nodes: readonly string[],
  { batches, begun, known: locked }: Delivered,
): Promise<Admitted> {
  let states = Map.groupBy(locked, (state) => state.node);
  const taken = new Map<string, readonly JournalBatch[]>();
  const epochs = new Map<string, { node: string; epoch: string }>();
  const succeeding: WriteOutcome["succeeding"][number][] = [];
  for (const node of nodes) {
    const known = states.get(node) ?? [];
    const previous = known.at(-1);
    const takes = batches.get(node)!.filter(({ epoch }) => {
      if (known.some((state) => state.epoch === epoch)) return true;
      const key = `${node} ${epoch}`;
      if (previous === undefined || begun.has(key)) {
        epochs.set(key, { node, epoch });
        return true;
      }
      if (!succeeding.some((each) => each.node === node && each.epoch === epoch)) {
        succeeding.push({ node, previous, epoch });
      }
      return false;
    });
    taken.set(node, takes);
  }
  if (epochs.size > 0) {
    await addJournalEpochs(tx, [...epochs.values()]);
    // Another writer may have begun the same epoch and stored of it: only its row, locked, says up to where.
    states = Map.groupBy(await journalStates(tx, nodes, true), (state) => state.node);
  }
  return { states, taken, succeeding };
}

function markOf(node: string, epoch: string, storedSeq: number, { entries, head }: ChainedRun): JournalMark {
  const breaks = entries.filter(({ broken }) => broken !== undefined);
  const last = entries.at(-1)?.entry;
  return {
    node,
    epoch,
    storedSeq,
    ...(last === undefined ? {} : { storedTime: entryTime(last) }),
    headHash: head.hash === null ? null : Buffer.from(head.hash).toString("hex"),
    chainedFromSeq: head.chainedFromSeq,
    breaks: breaks.length,
    ...(breaks.length === 0 ? {} : { lastBreakSeq: breaks.at(-1)!.seq }),
  };
}

function brokenEvent({ node, epoch, breaks, lastBreakSeq }: JournalMark): NewEvent {
  return {
    topic: "/nodes/journal-broken",
    kind: "Node",
    name: node,
    node,
    severity: "Warning",
    reason: "JournalChainBroken",
    message:
      `${breaks === 1 ? `entry ${lastBreakSeq}` : `${breaks} entries up to ${lastBreakSeq}`} of epoch ${epoch} ` +
      `did not follow from what was stored before; kept and marked: see berth journal verify ${node}`,
  };
}

/** Sets an epoch's watermark over entries that no longer exist anywhere, and says so. */
export async function skipLost(tx: Tx, owner: ShardOwnership, gap: Gap): Promise<void> {
  await holdShard(tx, owner.shard, owner.epoch);
  const { node, epoch, fromSeq, toSeq } = gap;
  const event: NewEvent = {
    topic: "/nodes/journal-gap",
    kind: "Node",
    name: node,
    node,
    severity: "Warning",
    reason: "JournalEntriesLost",
    message: `entries ${fromSeq} to ${toSeq} of epoch ${epoch} are no longer kept by the node: what they said is not known`,
  };
  await addJournalEpochs(tx, [{ node, epoch }]);
  const [state] = (await journalStates(tx, [node], true)).filter((each) => each.epoch === epoch);
  const { chainedFromSeq = null } = state ?? {};
  // What follows cannot be proven from what is lost: its hash is no successor of what is stored.
  const breaks = chainedFromSeq === null ? 0 : 1;
  const lost = { node, epoch, storedSeq: toSeq, headHash: null, chainedFromSeq, breaks, lastBreakSeq: toSeq };
  await setStored(tx, [lost]);
  await insertEvents(tx, [event]);
  await touchNodes(tx, breaks > 0 ? [node] : []);
}

export function batchOf(node: string, epoch: string, entries: JournalBatch["entries"]): JournalBatch {
  return create(JournalBatchSchema, { node, epoch, entries });
}

/** Returns how many entries spoke of executions that are no more. */
async function moveTasks(tx: Tx, entries: readonly PlacedEntry[]): Promise<number> {
  const uids = new Set<string>();
  for (const { entry } of entries) {
    if (entry.body.case === "task" && UUID.test(entry.body.value.taskUid)) uids.add(entry.body.value.taskUid);
  }
  const [locked, now] = uids.size === 0 ? [[]] : await together(lockTasksByUid(tx, [...uids]), storeTime(tx));
  const rows = new Map(locked.map((row) => [row.uid, row]));
  const moved = new Map<string, TaskRow>();
  let stale = 0;
  for (const { node, entry } of entries) {
    if (entry.body.case !== "task") continue;
    const { taskUid } = entry.body.value;
    const row = moved.get(taskUid) ?? rows.get(taskUid);
    if (row === undefined || row.node !== node) continue;
    const step = stepOf(entry.body.value, entryTime(entry));
    if (step.generation !== row.generation || step.attempt !== row.attempt) {
      stale += 1;
      continue;
    }
    const next = applyTaskStep(row as TaskRow & ExecutionStatus, step);
    if (next !== row || row.observedGeneration !== row.generation) {
      const availableSince = isAvailable({ ...next, certainty: "observed" }) ? (row.availableSince ?? now!) : null;
      moved.set(taskUid, {
        ...next,
        addresses: [...next.addresses],
        observedGeneration: row.generation,
        availableSince,
      });
    }
  }
  const updates = [...moved.values()].map((row): TaskUpdate => ({ before: rows.get(row.uid)!, patch: row }));
  await together(updateTasks(tx, updates), noteImages(tx, entries, rows));
  return stale;
}

async function moveTargets(tx: Tx, entries: readonly PlacedEntry[]): Promise<void> {
  const speaking = entries.flatMap(({ node, entry }) => {
    const { body } = entry;
    return body.case === "image" && UUID.test(body.value.campaignUid)
      ? [{ node, image: body.value, time: entryTime(entry) }]
      : [];
  });
  if (speaking.length === 0) return;
  const places = speaking.map(({ node, image }) => ({ node, campaignUid: image.campaignUid }));
  const rows = new Map((await lockTargets(tx, targetsAt(places))).map((row) => [keyOf(row), row]));
  const moved = new Map<string, TargetRow>();
  for (const { node, image, time } of speaking) {
    const key = keyOf({ node, image: image.image, campaignUid: image.campaignUid });
    const row = moved.get(key) ?? rows.get(key);
    // Only the attempt that is running moves: what has ended stays as it ended (D3).
    if (row?.phase !== "Pulling" || row.generation !== Number(image.generation) || row.attempt !== image.attempt)
      continue;
    if (image.step === "present") {
      moved.set(key, { ...row, phase: "Succeeded", message: "", imageDigest: plain(image.digest), finishedAt: time });
    } else if (image.step === "failed") {
      const message = plain(image.message || image.reason);
      moved.set(key, { ...row, phase: "Failed", message, finishedAt: time });
    }
  }
  const updates = [...moved].map(([key, row]): TargetUpdate => ({ before: rows.get(key)!, patch: row }));
  await updateTargets(tx, updates);
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

const keyOf = (row: { readonly node: string; readonly image: string; readonly campaignUid: string }): string =>
  `${row.campaignUid} ${row.node} ${row.image}`;
