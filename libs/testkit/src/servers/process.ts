/**
 * Processes known by pid and start time, so that a recycled pid is never mistaken for the process one started.
 *
 * Leaves logs, readiness and restarts to daemon.ts. Everything here works for processes that are not our children,
 * because `npm run down` ends what an earlier `npm run up` began.
 */
import { readdirSync, readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { StatusError } from "@berth/base";

/** A process, unmistakably: the kernel never gives a pid out twice with the same start time (field 22 of its stat). */
export interface ProcessIdentity {
  readonly pid: number;
  readonly startTicks: string;
}

/** The identity of a living process; undefined when there is none of that pid, or only its zombie. */
export function identify(pid: number): ProcessIdentity | undefined {
  const [state, startTicks] = statFields(pid, 0, 19);
  if (state === "Z" || state === "X" || startTicks === undefined) return undefined;
  return { pid, startTicks };
}

/** The living children of a process. */
export function childrenOf(pid: number): ProcessIdentity[] {
  return readdirSync("/proc")
    .map(Number)
    .filter((other) => Number.isInteger(other) && statFields(other, 1)[0] === String(pid))
    .map(identify)
    .filter((child) => child !== undefined);
}

/** Fields of /proc/PID/stat, counted from the state; none when there is no such process. */
function statFields(pid: number, ...indexes: number[]): (string | undefined)[] {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The command may hold blanks and brackets, hence the search from the end: the state comes right after it.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return indexes.map((index) => fields[index]);
  } catch {
    return [];
  }
}

/** Does exactly this process still run? */
export function isAlive(identity: ProcessIdentity): boolean {
  return identify(identity.pid)?.startTicks === identity.startTicks;
}

/** Sends a signal to exactly this process; false when it is gone. */
export function signalProcess(identity: ProcessIdentity, signal: NodeJS.Signals): boolean {
  if (!isAlive(identity)) return false;
  try {
    process.kill(identity.pid, signal);
    return true;
  } catch {
    return false;
  }
}

/** Waits until a process has ended; false when it still runs after `timeoutMs`. */
export async function waitForExit(identity: ProcessIdentity, timeoutMs: number): Promise<boolean> {
  const deadline = performance.now() + timeoutMs;
  for (let waitMs = 2; isAlive(identity); waitMs = Math.min(waitMs * 2, 50)) {
    if (performance.now() > deadline) return false;
    await delay(waitMs);
  }
  return true;
}

export interface EndOptions {
  /** What asks it politely. Default SIGTERM. */
  readonly signal?: NodeJS.Signals;
  /** How long it may take before SIGKILL. Default 10 s. */
  readonly graceMs?: number;
}

/** Ends a process: asks, waits, forces. Resolves once it is gone, at once when it already was. */
export async function endProcess(identity: ProcessIdentity, options: EndOptions = {}): Promise<void> {
  const { signal = "SIGTERM", graceMs = 10_000 } = options;
  if (!signalProcess(identity, signal)) return;
  if (await waitForExit(identity, graceMs)) return;
  signalProcess(identity, "SIGKILL");
  if (await waitForExit(identity, 10_000)) return;
  throw new StatusError("DEADLINE_EXCEEDED", `process ${identity.pid} does not end, not even by SIGKILL`);
}
