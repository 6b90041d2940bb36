/**
 * A task's room on its node, as plans treat it. Pure.
 *
 * Invariant: no plan makes a node fuller; placement alone does, under its lock. What is begun again or changed where it is holds
 * the room for it already (`holdsRoom` of libs/model); what gave its room back, or asks for more than it holds, is placed anew.
 * What asks for less holds all of it until its node has begun the new execution, for until then the one before possibly runs.
 */
import { hasEnded, holdsRoom } from "@berth/model";
import type { TaskRow, TaskUpdate } from "@berth/store";
import type { ContainerColumns } from "./container.ts";
import type { Context } from "./plan-context.ts";

type Patch = TaskUpdate["patch"];
type Room = Pick<ContainerColumns, "cpuMillis" | "memoryBytes" | "hostPorts">;

/** It has ended for good where it was, and somebody else may have its room. */
export function gaveRoomBack(row: TaskRow): boolean {
  return row.node !== null && !holdsRoom(row);
}

/** Would this make a task hold room that may be another's by now? */
export function takesRoom(row: TaskRow, patch: Patch): boolean {
  return gaveRoomBack(row) && holdsRoom({ ...row, ...patch });
}

/** What a task holds while it is changed where it is: enough for what it was and for what it becomes. */
export function roomToChange(row: TaskRow, columns: ContainerColumns): Room {
  const { cpuMillis, memoryBytes, hostPorts } = columns;
  if (hasEnded(row.phase)) return { cpuMillis, memoryBytes, hostPorts };
  return {
    cpuMillis: Math.max(cpuMillis, row.cpuMillis),
    memoryBytes: Math.max(memoryBytes, row.memoryBytes),
    hostPorts: [...new Set([...hostPorts, ...row.hostPorts])],
  };
}

/** Its node ends older executions before it begins on a newer one. */
const HAS_BEGUN: ReadonlySet<string> = new Set(["Pulling", "Starting", "Running"]);

/** What a changed task need not hold any more. */
export function spareRoom({ rollout, columns, freshColumns }: Context, row: TaskRow): Patch {
  const { target, fresh } = rollout;
  const own = [
    { of: target, needs: columns },
    { of: fresh, needs: freshColumns },
  ].find(({ of }) => of.generation === row.workloadGeneration);
  if (own === undefined || !HAS_BEGUN.has(row.phase) || row.observedGeneration !== row.generation) return {};
  const { cpuMillis, memoryBytes, hostPorts } = own.needs;
  return {
    ...(cpuMillis < row.cpuMillis ? { cpuMillis } : {}),
    ...(memoryBytes < row.memoryBytes ? { memoryBytes } : {}),
    ...(hostPorts.length < row.hostPorts.length ? { hostPorts } : {}),
  };
}
