/** Says in answers up to when their observations speak. A node that is far behind, or silent, cannot pass for one that is not. */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { WatermarkSchema, type Watermark, type Node, type Task } from "@berth/proto";
import { nodeWatermarks, type NodeWatermark, type Tx } from "@berth/store";

/** Notes it in each task's status. Undefined when none of them is placed on a node. */
export async function markTasks(tx: Tx, tasks: readonly Task[]): Promise<Watermark | undefined> {
  const known = await nodeWatermarks(tx, [
    ...new Set(tasks.map(({ spec }) => spec!.node).filter((node) => node !== "")),
  ]);
  for (const { spec, status } of tasks) note(status!, known.get(spec!.node));
  return oldest([...known.values()]);
}

export async function markNodes(tx: Tx, nodes: readonly Node[]): Promise<Watermark | undefined> {
  const known = await nodeWatermarks(tx, nodes.map(({ metadata }) => metadata!.name)); // prettier-ignore
  for (const { metadata, status } of nodes) note(status!, known.get(metadata!.name));
  return oldest([...known.values()]);
}

function note(status: { observedUntil?: Watermark["observedUntil"] }, known: NodeWatermark | undefined): void {
  if (known !== undefined) status.observedUntil = timestampFromDate(known.observedUntil);
}

function oldest(known: readonly NodeWatermark[]): Watermark | undefined {
  const [least] = known.toSorted((a, b) => a.observedUntil.getTime() - b.observedUntil.getTime());
  if (least === undefined) return undefined;
  return create(WatermarkSchema, {
    observedUntil: timestampFromDate(least.observedUntil),
    node: least.node,
    journalEpoch: least.journalEpoch,
    journalStoredSeq: BigInt(least.storedSeq),
    journalHeadSeq: BigInt(least.headSeq),
    staleNodes: known.filter(({ stale }) => stale).length,
  });
}
