/**
 * How far the drain of a node is: what is still there, and what each task waits for. Pure: it is told by the same plan that
 * moves the tasks, so that what is shown and what is done cannot differ.
 */
import { create } from "@bufbuild/protobuf";
import { timestampDate, timestampFromDate } from "@bufbuild/protobuf/wkt";
import { DrainingTaskSchema, NodeDrainStatusSchema, type DrainingTask, type NodeDrainStatus } from "@berth/proto";
import { drainOf, drainStatusOf, workloadSpec, type NodeRow, type TaskRow, type WorkloadRow } from "@berth/store";
import { heldRollout, planWorkload, type DrainWait, type FleetNode } from "../reconcile/plan.ts";
import { drainDeadline } from "./mode.ts";

export interface DrainInput {
  readonly row: NodeRow;
  /** Those with tasks on the node, and all tasks of theirs. */
  readonly workloads: readonly WorkloadRow[];
  readonly tasks: readonly TaskRow[];
  readonly nodes: ReadonlyMap<string, FleetNode>;
  readonly now: Date;
}

/** So many are named; the number of all is told. */
const MOST_NAMED = 20;

export function drainReport(input: DrainInput): NodeDrainStatus {
  const { row, now } = input;
  const before = drainStatusOf(row);
  const waits = waitsOf(input);
  const named = waits.slice(0, MOST_NAMED).map(messageOf);
  const total = Math.max(before?.total ?? 0, waits.length);
  const phase = phaseOf(row, waits.length, now);
  const deadline = drainDeadline(row);
  // What held it up when it gave up is more to the point than what it would do now.
  const lasting = phase === "GaveUp" ? named.map((task) => before?.tasks.find(isSame(task)) ?? task) : named;
  const ended = phase === "Drained" || phase === "GaveUp";
  const finished = before?.phase === phase && before.finishedAt ? timestampDate(before.finishedAt) : now;
  return create(NodeDrainStatusSchema, {
    phase,
    startedAt: timestampFromDate(row.drainStartedAt ?? now),
    ...(deadline === undefined ? {} : { deadlineAt: timestampFromDate(deadline) }),
    total,
    remaining: waits.length,
    tasks: lasting,
    ...(ended ? { finishedAt: timestampFromDate(finished) } : {}),
  });
}

const isSame =
  ({ namespace, name }: DrainingTask) =>
  (other: DrainingTask): boolean =>
    other.namespace === namespace && other.name === name;

function phaseOf(row: NodeRow, remaining: number, now: Date): string {
  if (remaining === 0) return "Drained";
  const deadline = drainDeadline(row);
  if (deadline === undefined || now < deadline) return "Draining";
  return drainOf(row)?.onDeadline === "force" ? "Forcing" : "GaveUp";
}

/** Those that hold the drain up come first. */
const RANKS = ["Blocked", "Moving", "Stopping"];

function waitsOf({ row, workloads, tasks, nodes, now }: DrainInput): DrainWait[] {
  // Also after the drain has given up, what is still there is told as if it went on.
  const node = nodes.get(row.name);
  const asked = node === undefined ? nodes : new Map(nodes).set(row.name, { ...node, drain: node.drain ?? "moving" });
  const waits = workloads.flatMap((workload) => {
    const spec = workloadSpec(workload);
    const own = tasks.filter((task) => task.workloadUid === workload.uid);
    if (spec.everyNode && workload.deletedAt === null) return [];
    const plan = planWorkload({
      workload,
      spec,
      rollout: heldRollout(workload, spec),
      tasks: own,
      nodes: asked,
      now,
      newUid: () => "",
      newSuffix: () => "?",
    });
    const told = [...plan.waits.values()].filter((wait) => wait.row.node === row.name);
    // What the plan moves at once has not told yet what it waits for.
    return told.length > 0 || workload.deletedAt === null
      ? told
      : own.filter((task) => task.node === row.name && !task.removed).map(goingAway);
  });
  return waits.sort((a, b) => RANKS.indexOf(a.state) - RANKS.indexOf(b.state) || (a.row.name < b.row.name ? -1 : 1));
}

const goingAway = (row: TaskRow): DrainWait => ({ row, state: "Stopping", message: "its workload was deleted" });

function messageOf({ row, state, message }: DrainWait): DrainingTask {
  const { namespace, name, workload } = row;
  return create(DrainingTaskSchema, { namespace, name, workload, state, message });
}
