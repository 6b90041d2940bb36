/**
 * Processes that are not our children: telling one from a later one with the same pid, and signalling exactly it.
 *
 * A pid alone names nothing for long. (pid, start ticks, boot id) names one process for ever; records keep all three.
 */
import { readFileSync } from "node:fs";
import { fromNodeError, kernelError } from "./errno.ts";
import { lastErrno, libc, SYS, syscalls } from "./libc.ts";
import { signalName, signalNumber } from "./signals.ts";

const ESRCH = 3;
const ENOSYS = 38;
const CLOCK_BOOTTIME = 7;

export interface ProcessStat {
  /** `R`, `S`, `D`, `Z` (ended, not yet reaped), `T`… */
  readonly state: string;
  readonly parentPid: number;
  /** Clock ticks after boot at which it started. */
  readonly startTicks: number;
}

/** What /proc says of a process; undefined when there is none. */
export function processStat(pid: number): ProcessStat | undefined {
  const text = readProc(`/proc/${pid}/stat`);
  if (text === undefined) return undefined;
  // The second field is the command in parentheses, and may hold anything: count from its last parenthesis.
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return { state: fields[0] ?? "", parentPid: Number(fields[1]), startTicks: Number(fields[19]) };
}

/** Field 22 of /proc/pid/stat; undefined when there is no such process. */
export function processStartTicks(pid: number): number | undefined {
  return processStat(pid)?.startTicks;
}

/** Is it running? Zombies are not; with `startTicks`, nor is another process that got the same pid. */
export function isAlive(pid: number, startTicks?: number): boolean {
  const stat = processStat(pid);
  if (stat === undefined || stat.state === "Z" || stat.state === "X") return false;
  return startTicks === undefined || stat.startTicks === startTicks;
}

/**
 * Sends a signal to exactly that process: false when it is gone (also as a zombie's successor with the same pid). The
 * process is pinned by a pidfd before its start ticks are compared, so it cannot be swapped in between (Linux 5.3; before
 * that plain kill(2)).
 * @throws INVALID_ARGUMENT `SIGNAL_UNKNOWN`; PERMISSION_DENIED.
 */
export function killProcess(pid: number, signal: string | number, startTicks?: number): boolean {
  const number = signalNumber(signal);
  const pidfd = syscalls.threeInts(SYS.pidfdOpen, pid, 0, 0);
  if (pidfd < 0) {
    const errno = lastErrno();
    if (errno === ESRCH) return false;
    if (errno === ENOSYS) return killByPid(pid, number, startTicks);
    throw kernelError("pidfd_open", `pid ${pid}`, errno);
  }
  try {
    if (startTicks !== undefined && processStartTicks(pid) !== startTicks) return false;
    if (syscalls.pidfdSendSignal(SYS.pidfdSendSignal, pidfd, number, null, 0) === 0) return true;
    if (lastErrno() === ESRCH) return false;
    throw kernelError("pidfd_send_signal", `${signalName(number)} to pid ${pid}`, lastErrno());
  } finally {
    libc.close(pidfd);
  }
}

function killByPid(pid: number, number: number, startTicks: number | undefined): boolean {
  if (startTicks !== undefined && processStartTicks(pid) !== startTicks) return false;
  try {
    return process.kill(pid, number);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return false;
    throw fromNodeError(error, "kill", `pid ${pid}`);
  }
}

/** Changes with every boot of the host. */
export function bootId(): string {
  return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
}

const timespec = new BigInt64Array(2);
const timespecBytes = new Uint8Array(timespec.buffer);

/** Milliseconds since boot, suspended time included (CLOCK_BOOTTIME): the clock for leases and fences. */
export function boottimeMs(): number {
  if (libc.clockGettime(CLOCK_BOOTTIME, timespecBytes) < 0) throw kernelError("clock_gettime", "BOOTTIME", lastErrno());
  return Number(timespec[0]!) * 1000 + Number(timespec[1]!) / 1e6;
}

/** A file of /proc; undefined once its process is gone. */
function readProc(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === "ENOENT" || code === "ESRCH") return undefined;
    throw fromNodeError(error, "read", path);
  }
}
