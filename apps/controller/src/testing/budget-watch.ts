/** Reads from the change feed whether a workload ever had fewer tasks up than it may: every transaction is looked at. */
import { fromJson } from "@bufbuild/protobuf";
import { TaskSchema, type Task } from "@berth/proto";
import { readChanges, type Change, type Store } from "@berth/store";

/**
 * The fewest slots that had a task which ran and was heard of, from the moment all `replicas` had one. Changes are taken in the
 * order of their ids: whoever acts on another's commit writes after it.
 */
export async function fewestUp(store: Store, workload: string, replicas: number): Promise<number> {
  const tasks = new Map<string, Task>();
  let fewest: number | undefined;
  let last: bigint | undefined;
  const look = (): void => {
    const up = new Set([...tasks.values()].filter(isUp).map((task) => task.spec!.slot)).size;
    if (fewest !== undefined || up >= replicas) fewest = Math.min(fewest ?? up, up);
  };
  for (const change of await taskChanges(store)) {
    if (last !== undefined && change.position.xid !== last) look();
    last = change.position.xid;
    const task = fromJson(TaskSchema, change.object);
    if (task.spec!.workload !== workload) continue;
    if (change.op === "DELETED") tasks.delete(change.uid);
    else tasks.set(change.uid, task);
  }
  look();
  if (fewest === undefined) throw new Error(`${workload} never had ${replicas} tasks up`);
  return fewest;
}

const isUp = ({ spec, status }: Task): boolean =>
  spec?.desired !== "Stop" && status?.phase === "Running" && status.certainty === "observed";

async function taskChanges(store: Store): Promise<Change[]> {
  const all: Change[] = [];
  for (let after = { xid: 0n, id: 0 }; ;) {
    const { items } = await readChanges(store.db, after, 1_000);
    if (items.length === 0) break;
    all.push(...items);
    after = items.at(-1)!.position;
  }
  return all.filter(({ kind }) => kind === "Task").sort((a, b) => a.position.id - b.position.id);
}
