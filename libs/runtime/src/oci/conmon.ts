/**
 * Starting conmon (2.1), the supervisor of one container.
 *
 * conmon forks away from us, makes the container through the runtime, tells the process id over a pipe, and from then on
 * owns the container's stdio, its log and its exit code. Nothing of it depends on the agent (A1).
 *
 * Facts this rests on (conmon.c, parent_pipe_fd.c): with `_OCI_STARTPIPE` it waits for a byte before it forks, so that it
 * can be put into a cgroup; with `--api-version 1` it writes `{"data": PID}` or `{"data": -1, "message": …}` to
 * `_OCI_SYNCPIPE`; it keeps its end of that pipe open, so the end of our reading is the line, not the end of file. The exit
 * code goes to `--persist-dir`/exit first and to `--exit-dir`/id then, each by rename. `oom` is made in its working directory.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import type { Readable, Writable } from "node:stream";
import { StatusError, withSignal } from "@berth/base";
import { binaryUnusable, lastLoggedError, RUNTIME_ENV, runtimeFailed, type RuntimeCommand } from "./command.ts";
import type { ContainerPaths } from "./layout.ts";
import type { ContainerInputMode } from "../runtime.ts";
import { readPid } from "./observe.ts";

export interface ConmonRequest {
  readonly conmonPath: string;
  readonly command: RuntimeCommand;
  readonly root: string;
  readonly id: string;
  readonly bundle: string;
  readonly paths: ContainerPaths;
  readonly exitDir: string;
  readonly logPath: string;
  readonly logMaxBytes?: number;
  readonly terminal: boolean;
  readonly input: ContainerInputMode;
  /** Called with conmon's process id before it forks: the moment to move it into a cgroup. */
  readonly onSpawned: (pid: number) => void;
}

const SYNC_FD = 3;
const START_FD = 4;

export interface StartedContainer {
  readonly initPid: number;
  readonly conmonPid: number;
}

/**
 * Starts conmon and, through it, the container's first process, which then waits to be started.
 * @throws FAILED_PRECONDITION `RUNTIME_FAILED` with the runtime's own words, `RUNTIME_MISSING` without conmon.
 */
export async function startConmon(request: ConmonRequest, signal?: AbortSignal): Promise<StartedContainer> {
  const child = spawn(request.conmonPath, conmonArgs(request), {
    cwd: request.paths.supervisor,
    env: { ...RUNTIME_ENV, _OCI_SYNCPIPE: String(SYNC_FD), _OCI_STARTPIPE: String(START_FD) },
    stdio: ["ignore", "ignore", "pipe", "pipe", "pipe"],
    detached: true,
  });
  const sync = child.stdio[SYNC_FD] as Readable;
  const start = child.stdio[START_FD] as Writable;
  const stderr = collect(child.stderr!);
  const forked = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  try {
    await spawned(child, request.conmonPath);
    request.onSpawned(child.pid!);
    start.on("error", () => {}); // it may be gone already; the sync pipe tells
    start.end("\n");
    const initPid = await withSignal(containerPid(sync, stderr, request), signal);
    await forked; // its parent has then written the pid file
    const conmonPid = readPid(request.paths.conmonPid);
    if (conmonPid === undefined) throw runtimeFailed("conmon", "start", "it wrote no pid file");
    return { initPid, conmonPid };
  } finally {
    sync.destroy();
    start.destroy();
    child.stderr!.destroy();
    child.unref();
  }
}

function conmonArgs(request: ConmonRequest): string[] {
  const { paths, command } = request;
  const runtimeArgs = [
    ...command.globalArgs,
    "--root",
    request.root,
    "--log",
    paths.runtimeLog,
    "--log-format",
    "json",
  ];
  return [
    ["--api-version", "1", "--cid", request.id, "--cuuid", request.id, "--name", request.id],
    ["--runtime", command.binary, runtimeArgs.map((arg) => `--runtime-arg=${arg}`)].flat(),
    ["--bundle", request.bundle, "--container-pidfile", paths.initPid, "--conmon-pidfile", paths.conmonPid],
    ["--persist-dir", paths.supervisor, "--exit-dir", request.exitDir, "--full-attach"],
    // Without the final fsync of the log: an exit is not held up by the disk; A2 does not promise logs.
    ["--log-path", `k8s-file:${request.logPath}`, "--no-sync-log", "--log-level", "error"],
    request.logMaxBytes === undefined ? [] : ["--log-size-max", String(request.logMaxBytes)],
    request.terminal ? ["--terminal"] : [],
    request.input === "none" ? [] : ["--stdin"],
    request.input === "open" ? ["--leave-stdin-open"] : [],
  ].flat();
}

async function spawned(child: ChildProcess, path: string): Promise<void> {
  if (child.pid !== undefined) return;
  const [error] = (await once(child, "error")) as [unknown];
  throw binaryUnusable("conmon", path, error);
}

/** Keeps the first few kilobytes of a stream. */
function collect(stream: Readable): { text: string } {
  const kept = { text: "" };
  stream.on("error", () => {});
  stream.setEncoding("utf8").on("data", (chunk: string) => {
    if (kept.text.length < 8192) kept.text += chunk;
  });
  return kept;
}

async function containerPid(sync: Readable, stderr: { text: string }, request: ConmonRequest): Promise<number> {
  const line = await firstLine(sync);
  const message = line === undefined ? undefined : parseMessage(line);
  if (message !== undefined && message.pid > 0) return message.pid;
  const logged = await lastLoggedError(request.paths.runtimeLog);
  const said = [logged, message?.text, stderr.text].find((text) => text !== undefined && text.trim() !== "");
  throw runtimeFailed(request.command.name, "create", said?.trim() ?? "conmon ended without saying why");
}

function firstLine(stream: Readable): Promise<string | undefined> {
  const { promise, resolve } = Promise.withResolvers<string | undefined>();
  let text = "";
  stream.setEncoding("utf8").on("data", (chunk: string) => {
    text += chunk;
    const end = text.indexOf("\n");
    if (end >= 0) resolve(text.slice(0, end));
  });
  stream.once("end", () => resolve(undefined));
  stream.once("error", () => resolve(undefined));
  stream.once("close", () => resolve(undefined));
  return promise;
}

/** conmon escapes by hand and may cut a message short, so what does not parse is shown as it came. */
function parseMessage(line: string): { readonly pid: number; readonly text?: string } {
  try {
    const { data, pid, message } = JSON.parse(line) as { data?: number; pid?: number; message?: string };
    return { pid: data ?? pid ?? -1, ...(message === undefined ? {} : { text: message }) };
  } catch {
    return { pid: -1, text: line };
  }
}

/** For conmon's control pipe, which takes lines `type height width`: close the log and open it anew. */
export const REOPEN_LOG = "2 0 0\n";

export function resizeTerminal(columns: number, rows: number): string {
  return `1 ${rows} ${columns}\n`;
}

/** @throws INVALID_ARGUMENT: conmon cuts the log path at colons (strtok in parse_log_path). */
export function checkLogPath(path: string): void {
  if (!path.startsWith("/") || path.includes(":")) {
    throw StatusError.invalid([{ field: "logPath", description: "must be an absolute path without ':'" }]);
  }
}
