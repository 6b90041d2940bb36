/** What processes hold in memory, by the kernel's own accounts. All in megabytes (10^6 bytes). */
import { readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { StatusError } from "@berth/base";

const MB_PER_KB = 1024 / 1e6;

export interface ProcessMemory {
  /** Its share: pages used by n processes count 1/n. */
  readonly pss: number;
  /** Pages that it alone has. */
  readonly private: number;
}

/** /proc/PID/smaps_rollup. */
export function memoryOf(pid: number): ProcessMemory {
  const text = readFileSync(`/proc/${pid}/smaps_rollup`, "utf8");
  return { pss: field(text, "Pss"), private: field(text, "Private_Clean") + field(text, "Private_Dirty") };
}

export function rssOf(pid: number): number {
  return field(readFileSync(`/proc/${pid}/status`, "utf8"), "VmRSS");
}

function field(text: string, name: string): number {
  const match = new RegExp(`^${name}:\\s+(\\d+) kB$`, "m").exec(text);
  if (match === null) throw new StatusError("INTERNAL", `the kernel tells no ${name} of a process`);
  return Number(match[1]) * MB_PER_KB;
}

export interface SettleOptions {
  /** For so long nothing may move by more than two hundredths. */
  readonly quietMs: number;
  readonly timeoutMs: number;
}

/** Waits until none of these processes' Rss moves any more. True when it came to that. */
export async function settled(pids: readonly number[], { quietMs, timeoutMs }: SettleOptions): Promise<boolean> {
  const deadline = performance.now() + timeoutMs;
  let before = pids.map(rssOf);
  for (let since = performance.now(); performance.now() - since < quietMs;) {
    if (performance.now() > deadline) return false;
    await delay(500);
    const now = pids.map(rssOf);
    if (now.every((rss, index) => Math.abs(rss - before[index]!) <= before[index]! / 50)) continue;
    before = now;
    since = performance.now();
  }
  return true;
}
