/** Processor time that processes have used, with all their threads and children: the servers of a database are children. */
import { readFileSync } from "node:fs";
import { childrenOf } from "@berth/testkit";

/** The kernel's ticks are hundredths of a second wherever Linux runs. */
const MS_PER_TICK = 10;

/** Milliseconds since it began: its own, its living children's, and those of children that it has waited for. */
export function cpuMsOf(pid: number): number {
  const children = childrenOf(pid).reduce((sum, child) => sum + ticksOf(child.pid, [11, 13]), 0);
  return (ticksOf(pid, [11, 15]) + children) * MS_PER_TICK;
}

/** proc(5): fields 14 to 17 (user, system, and of waited-for children), counted from behind the name. */
function ticksOf(pid: number, [from, to]: readonly [number, number]): number {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return fields.slice(from, to).reduce((sum, ticks) => sum + Number(ticks), 0);
  } catch {
    return 0; // it has ended, and its parent counts it
  }
}

export type Usage<Name extends string> = Readonly<Record<Name, number>>;

/** Begins to measure several; ask what it gives for the milliseconds since. */
export function startUsage<Name extends string>(pids: Readonly<Record<Name, number>>): () => Usage<Name> {
  const names = Object.keys(pids) as Name[];
  const before = new Map(names.map((name) => [name, cpuMsOf(pids[name])]));
  const since = (name: Name): number => cpuMsOf(pids[name]) - before.get(name)!;
  return () => Object.fromEntries(names.map((name) => [name, since(name)])) as Record<Name, number>;
}
