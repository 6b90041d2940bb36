/** What a process has cost: processor time with that of its ended children, and the most memory it held at once. */
import { readFileSync, writeFileSync } from "node:fs";

export interface Cost {
  /** User and system, all threads and the children that were waited for. */
  readonly cpuMs: number;
  /** Peak resident set since {@link startCost}, without children. */
  readonly peakBytes: number;
}

/** The kernel's ticks are hundredths of a second wherever Linux runs. */
const MS_PER_TICK = 10;

/** Begins to measure; ask what it gives, once, at the end. */
export function startCost(pid: number): () => Cost {
  writeFileSync(`/proc/${pid}/clear_refs`, "5"); // the peak begins anew
  const before = cpuMs(pid);
  return () => ({ cpuMs: cpuMs(pid) - before, peakBytes: peakBytes(pid) });
}

/** proc(5): fields 14 to 17, counted from behind the name, which may hold blanks. */
function cpuMs(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return fields.slice(11, 15).reduce((sum, ticks) => sum + Number(ticks), 0) * MS_PER_TICK;
}

function peakBytes(pid: number): number {
  const line = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
  return Number(line?.[1] ?? 0) * 1024;
}
