/** What simulated nodes have to say of their tasks: the entries of a start, in batches as agents publish them. */
import { create } from "@bufbuild/protobuf";
import { timestampNow } from "@bufbuild/protobuf/wkt";
import { publishJournal } from "@berth/bus";
import { JournalBatchSchema, type Job, type JournalBatch } from "@berth/proto";
import { NAMESPACE, type ControlPlane, type SimulatedNode } from "./control-plane.ts";
import { inParallel } from "./parallel.ts";

/** In the order in which an agent writes them. */
const STEPS = ["accepted", "pulling", "creating", "started"] as const;
export const ENTRIES_PER_TASK = STEPS.length;
/** The agents' own limit. */
const BATCH_ENTRIES = 500;

export interface NodeJob {
  readonly node: string;
  readonly job: Job;
}

/**
 * What each node's journal says of these jobs' tasks, after those that were told of before. The tasks of a node start side
 * by side: all take a step before the first takes the next.
 */
export function journalsOf(
  nodes: readonly SimulatedNode[],
  jobs: readonly NodeJob[],
  before: readonly NodeJob[],
): ReadonlyMap<SimulatedNode, JournalBatch[]> {
  const [now, earlier] = [jobs, before].map((group) => Map.groupBy(group, ({ node }) => node));
  return new Map(
    nodes.map((node) => {
      const written = (earlier!.get(node.name)?.length ?? 0) * ENTRIES_PER_TASK;
      return [node, batchesOf(node, now!.get(node.name) ?? [], written)];
    }),
  );
}

function batchesOf({ name, epoch }: SimulatedNode, jobs: readonly NodeJob[], written: number): JournalBatch[] {
  const values = STEPS.flatMap((step) => jobs.map(({ job }) => ({ step, task: job.task! })));
  const entries = values.map(({ step, task }, index) => ({
    seq: BigInt(written + index + 1),
    time: timestampNow(),
    namespace: NAMESPACE,
    body: {
      case: "task" as const,
      value: {
        taskUid: task.taskUid,
        generation: task.generation,
        attempt: task.attempt,
        name: task.name,
        step,
        ...(step === "started" ? { addresses: ["10.88.0.2"] } : {}),
      },
    },
  }));
  const batches: JournalBatch[] = [];
  for (let from = 0; from < entries.length; from += BATCH_ENTRIES) {
    const part = entries.slice(from, from + BATCH_ENTRIES);
    batches.push(create(JournalBatchSchema, { node: name, epoch, entries: part }));
  }
  return batches;
}

/** Every node publishes its batches one after the other, as agents do; the nodes do so side by side. */
export async function publishAll(
  { bus }: ControlPlane,
  journals: ReadonlyMap<SimulatedNode, JournalBatch[]>,
): Promise<void> {
  const each = [...journals];
  await inParallel(each.length, each.length, async (index) => {
    const [{ shard }, batches] = each[index]!;
    for (const batch of batches) await publishJournal(bus, shard, batch, { timeoutMs: 60_000 });
  });
}
