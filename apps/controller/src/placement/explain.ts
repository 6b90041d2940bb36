/**
 * Why a task is where it is, and why not elsewhere: from the record of its decision, and decided once more now, on one snapshot,
 * with nothing taken. A placed task is taken off its node first, as if it were still to come.
 */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import {
  describeMisfit,
  holdsRoom,
  judgeNodes,
  PlacementBatch,
  type NodeVerdict,
  type PlacementTask,
  type Verdicts,
} from "@berth/model";
import { PlacementVerdictSchema, TaskExplanationSchema, type PlacementVerdict, type TaskExplanation } from "@berth/proto"; // prettier-ignore
import { allNodes, getDecision, getStoreMeta, waitingTasks, type PlacementRecord, type RecordedPoints, type TaskRow, type Tx } from "@berth/store"; // prettier-ignore
import { readFleet, readRules, type OvercommitConfig } from "./fleet.ts";
import { MOST_NAMED, pointsOf, refusedGroups } from "./record.ts";

export interface ExplainOptions {
  /** Everything about this node alone; empty: about none in particular. */
  readonly node: string;
  readonly allNodes: boolean;
}

export async function explainTask(
  tx: Tx,
  row: TaskRow,
  overcommit: OvercommitConfig,
  options: ExplainOptions,
): Promise<TaskExplanation> {
  const decided = await decidedVerdict(tx, row);
  const { task, verdict } = await verdictNow(tx, row, overcommit, options);
  return create(TaskExplanationSchema, {
    namespace: row.namespace,
    task: row.name,
    workload: row.workload,
    priority: task.rules.priority,
    node: row.node ?? "",
    nominatedNode: row.nominatedNode ?? "",
    phase: row.phase,
    reason: row.reason,
    message: row.message,
    createdAt: timestampFromDate(row.createdAt),
    ...(decided === undefined ? {} : { decided }),
    now: verdict,
  });
}

async function decidedVerdict(tx: Tx, row: TaskRow): Promise<PlacementVerdict | undefined> {
  const found = row.decisionId === null ? undefined : await getDecision(tx, row.decisionId);
  if (found === undefined || row.node === null) return undefined;
  const { record, decidedAt } = found;
  return create(PlacementVerdictSchema, {
    at: timestampFromDate(decidedAt),
    nodes: record.nodes,
    fit: record.fit,
    chosen: scored(row.node, record.tasks[row.uid] ?? {}),
    leading: record.leading.map(({ node, points }) => scored(node, points)),
    refused: record.refused.map(refusedMessage),
  });
}

async function verdictNow(
  tx: Tx,
  row: TaskRow,
  overcommit: OvercommitConfig,
  options: ExplainOptions,
): Promise<{ readonly task: PlacementTask; readonly verdict: PlacementVerdict }> {
  const rules = (await readRules(tx, [row])).of(row);
  const gang = row.node === null && rules.gang ? await waitingTasks(tx, row.workloadUid) : [];
  const rows = [row, ...gang.filter(({ uid }) => uid !== row.uid)];
  const { fleet, tasks } = await readFleet(tx, rows, overcommit);
  const [task] = tasks as [PlacementTask, ...PlacementTask[]];
  const batch = new PlacementBatch({ ...fleet, reservations: fleet.reservations.filter(({ uid }) => uid !== row.uid) });
  const own = row.node === null ? undefined : batch.candidate(row.node);
  if (own !== undefined && holdsRoom(row)) batch.giveBack(task, own);
  const verdicts = judgeNodes(batch, task);
  const reason = row.node !== null ? "" : (await whyHeld(tx, row)) || reasonOf(batch, task, tasks);
  return { task, verdict: verdictMessage(task, verdicts, reason, options) };
}

/** A store that was put back begins nothing of which there must never be two. */
async function whyHeld(tx: Tx, row: TaskRow): Promise<string> {
  if (!row.fence || !(await getStoreMeta(tx)).held) return "";
  const waits = (await allNodes(tx)).filter(({ holdings }) => holdings !== "clean").map(({ name }) => name);
  const named = waits.slice(0, MOST_NAMED).join(", ") + (waits.length > MOST_NAMED ? ", …" : "");
  const whom = named === "" ? "it is not released yet" : `not every node has shown what it runs: ${named}`;
  return `the store was put back from a copy and this task must never run twice: ${whom} (berth store status)`;
}

function reasonOf(batch: PlacementBatch, task: PlacementTask, unit: readonly PlacementTask[]): string {
  const decision = batch.place(unit).find(({ uid }) => uid === task.uid)!;
  return decision.node === undefined ? decision.reason : "";
}

function verdictMessage(
  task: PlacementTask,
  { nodes, suggestions }: Verdicts,
  reason: string,
  { node, allNodes }: ExplainOptions,
): PlacementVerdict {
  const fitting = nodes.filter(({ parts }) => parts !== undefined);
  const refused = nodes.flatMap((each) =>
    each.parts === undefined ? [{ name: each.node, misfit: each.misfits[0]! }] : [],
  );
  const asked = nodes.filter((each) => allNodes || each.node === node);
  return create(PlacementVerdictSchema, {
    at: timestampFromDate(new Date()),
    nodes: nodes.length,
    fit: fitting.length,
    leading: fitting.slice(0, MOST_NAMED).map((each) => scored(each.node, pointsOf(each.parts!))),
    refused: refusedGroups(task, refused).map(refusedMessage),
    byNode: asked.map((each) => nodeMessage(task, each)),
    suggestions: [...suggestions],
    reason,
  });
}

function nodeMessage(task: PlacementTask, { node, misfits, parts }: NodeVerdict) {
  const against = misfits.map((misfit) => describeMisfit(misfit, false, task));
  return { node, against, ...(parts === undefined ? {} : { score: scored(node, pointsOf(parts)) }) };
}

function refusedMessage({ why, count, nodes }: PlacementRecord["refused"][number]) {
  return { why, count, nodes: [...nodes] };
}

type Scored = NonNullable<Exclude<MessageInitShape<typeof PlacementVerdictSchema>, PlacementVerdict>["chosen"]>;

function scored(node: string, parts: RecordedPoints): Scored {
  return { node, parts: { ...parts }, points: Object.values(parts).reduce((sum, points) => sum + points, 0) };
}
