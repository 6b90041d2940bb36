/**
 * What is true of a container right now, read from files and /proc alone: no process is started, so it may be asked often.
 *
 * Truth is, in this order: the exit code that conmon wrote; the first process and conmon, each known by pid, start ticks and
 * boot (never by pid alone). With conmon gone and no code written, the exit is unknown for good (A1): that is noted in the
 * bundle, so that every later question gets the same answer.
 */
import { readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import { bootId, cgroupOomKills, isAlive, processStartTicks, processStat, type CgroupLayout } from "@berth/linux";
import type { ContainerExit } from "../runtime.ts";
import type { ContainerPaths } from "./layout.ts";

interface ProcessIdentity {
  readonly pid: number;
  readonly startTicks: number;
}

/** Which processes belong to the container; written once by `create`. */
export interface Identity {
  readonly bootId: string;
  readonly conmon: ProcessIdentity;
  /** For a sandboxed runtime (gVisor) the process of its sandbox. */
  readonly init: ProcessIdentity;
}

export type Observation =
  | { readonly kind: "absent" }
  | { readonly kind: "alive"; readonly identity: Identity; readonly supervised: true }
  /** The first process runs on, but nobody will learn its exit code. */
  | { readonly kind: "alive"; readonly identity: Identity; readonly supervised: false; readonly exit: ContainerExit }
  /** The first process has ended; conmon is about to write how. */
  | { readonly kind: "ending"; readonly identity: Identity }
  | { readonly kind: "ended"; readonly pid: number; readonly exit: ContainerExit };

export interface ObserveDeps {
  readonly cgroups: CgroupLayout;
  readonly nowMs: () => number;
}

/** Files are read synchronously: each is a few bytes, and a thread pool round trip costs more. */
export function observe(deps: ObserveDeps, paths: ContainerPaths, cgroupPath: string): Observation {
  const identity = loadIdentity(paths);
  const exited = readExit(deps, paths, cgroupPath);
  if (exited !== undefined) return { kind: "ended", pid: identity?.init.pid ?? 0, exit: exited };
  if (identity === undefined) return { kind: "absent" };
  const running = sameBoot(identity) && isAlive(identity.init.pid, identity.init.startTicks);
  if (supervisorAlive(identity)) {
    return running ? { kind: "alive", identity, supervised: true } : { kind: "ending", identity };
  }
  // It may have written the code between the two looks.
  const late = readExit(deps, paths, cgroupPath);
  if (late !== undefined) return { kind: "ended", pid: identity.init.pid, exit: late };
  const exit = unknownExit(deps, paths, running ? identity.init.pid : undefined);
  if (running) return { kind: "alive", identity, supervised: false, exit };
  return { kind: "ended", pid: identity.init.pid, exit };
}

export function supervisorAlive(identity: Identity): boolean {
  return sameBoot(identity) && isAlive(identity.conmon.pid, identity.conmon.startTicks);
}

/** Notes who the processes are. Either may have ended already; its pid then names nobody (start ticks -1). */
export function saveIdentity(paths: ContainerPaths, initPid: number, conmonPid: number): Identity {
  const identify = (pid: number): ProcessIdentity => ({ pid, startTicks: processStartTicks(pid) ?? -1 });
  const identity: Identity = { bootId: bootId(), conmon: identify(conmonPid), init: identify(initPid) };
  writeAtomically(paths.identity, JSON.stringify(identity));
  return identity;
}

export function loadIdentity(paths: ContainerPaths): Identity | undefined {
  const text = readText(paths.identity);
  return text === undefined ? adopt(paths) : (JSON.parse(text) as Identity);
}

/** The pid in a file that conmon wrote; undefined when there is none. */
export function readPid(path: string): number | undefined {
  const pid = Number(readText(path)?.trim());
  return Number.isSafeInteger(pid) && pid > 0 ? pid : undefined;
}

/**
 * The pid of this container's conmon, if it runs, also while a creation is under way: it is believed by its command line,
 * which names the pid file.
 */
export function findConmon(paths: ContainerPaths): number | undefined {
  const pid = readPid(paths.conmonPid);
  if (pid === undefined) return undefined;
  return readText(`/proc/${pid}/cmdline`)?.split("\0").includes(paths.conmonPid) === true ? pid : undefined;
}

/**
 * The agent died between conmon's start and writing the identity: the pid files are there, and are believed only as far as
 * /proc confirms them, the first process as conmon's child.
 */
function adopt(paths: ContainerPaths): Identity | undefined {
  const conmonPid = findConmon(paths);
  const initPid = readPid(paths.initPid);
  if (conmonPid === undefined || initPid === undefined) return undefined;
  if (processStat(initPid)?.parentPid !== conmonPid) return undefined;
  return saveIdentity(paths, initPid, conmonPid);
}

function readExit(deps: ObserveDeps, paths: ContainerPaths, cgroupPath: string): ContainerExit | undefined {
  const text = readText(paths.exitCode);
  if (text === undefined || !/^-?\d+$/.test(text.trim())) {
    const unknown = readText(paths.unknownExit);
    return unknown === undefined || stillUnsupervised(paths) ? undefined : (JSON.parse(unknown) as ContainerExit);
  }
  const oomKilled = readText(paths.oomMark) !== undefined || (cgroupOomKills(deps.cgroups, cgroupPath) ?? 0) > 0;
  return { kind: "exited", exitCode: Number(text), oomKilled, atMs: Math.trunc(statSync(paths.exitCode).mtimeMs) };
}

/** The unknown exit was noted while the first process ran on; as long as it does, the container has not ended. */
function stillUnsupervised(paths: ContainerPaths): boolean {
  const identity = loadIdentity(paths);
  return identity !== undefined && sameBoot(identity) && isAlive(identity.init.pid, identity.init.startTicks);
}

function unknownExit(deps: ObserveDeps, paths: ContainerPaths, runningPid: number | undefined): ContainerExit {
  const known = readText(paths.unknownExit);
  if (known !== undefined) return JSON.parse(known) as ContainerExit;
  const rest = runningPid === undefined ? "" : `; process ${runningPid} runs on without it`;
  const reason = `the supervisor (conmon) ended without writing an exit code${rest}`;
  const exit: ContainerExit = { kind: "unknown", reason, atMs: deps.nowMs() };
  writeAtomically(paths.unknownExit, JSON.stringify(exit));
  return exit;
}

let thisBoot: string | undefined;

function sameBoot(identity: Identity): boolean {
  thisBoot ??= bootId();
  return identity.bootId === thisBoot;
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ESRCH" || code === "ENOTDIR") return undefined;
    throw error;
  }
}

function writeAtomically(path: string, text: string): void {
  writeFileSync(`${path}.new`, text, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}
