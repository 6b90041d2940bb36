/**
 * A command in a running container, as a child of the agent: `RUNTIME exec` in the foreground, its stdio ours.
 *
 * Without a terminal the runtime copies between our pipes and the process. With one, its stdio is a terminal of ours: it
 * makes another inside the container and copies between the two; SIGWINCH tells it to carry our window size over.
 *
 * Invariants:
 *  1. Nothing of the output is lost: it is taken over at once (Node discards what nobody reads when a child has ended) and
 *     held, bounded by the reader, until the stream has ended.
 *  2. Disposing ends the command inside the container, not only the runtime that waits for it.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { randomUUID } from "node:crypto";
import { closeSync } from "node:fs";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { PassThrough, type Readable } from "node:stream";
import { StatusError, systemClock } from "@berth/base";
import { killProcess, openPty, setWindowSize, signalNumber, type Pty } from "@berth/linux";
import { readSpec } from "../bundle.ts";
import type { ExecProcess, ExecRequest } from "../runtime.ts";
import { imageFileReader } from "../spec/image-file.ts";
import type { OciProcess, OciSpec } from "../spec/oci-spec.ts";
import { mergeEnv } from "../spec/process.ts";
import { resolveUser } from "../spec/user.ts";
import { binaryUnusable, lastLoggedError, RUNTIME_ENV, type RuntimeCommand } from "./command.ts";
import { containerPaths } from "./layout.ts";
import { readPid } from "./observe.ts";
import { masterStreams, resizeTerminalOf } from "./terminal.ts";

export interface ExecTarget {
  readonly command: RuntimeCommand;
  readonly root: string;
  readonly id: string;
  readonly bundle: string;
  /** See `carriesWindowSize`; without it, the terminal in the container is resized directly. */
  readonly carriesWindowSize: boolean;
}

/** @throws INVALID_ARGUMENT for a bad request; FAILED_PRECONDITION when the runtime cannot be started. */
export async function startExec(target: ExecTarget, request: ExecRequest): Promise<ExecProcess> {
  const processSpec = await execProcessSpec(await readSpec(target.bundle), request);
  const directory = join(containerPaths(target.bundle).supervisor, `exec-${randomUUID()}`);
  await mkdir(directory, { mode: 0o700 });
  const files = {
    directory,
    spec: join(directory, "process.json"),
    pid: join(directory, "pid"),
    log: join(directory, "runtime.log"),
  };
  try {
    await writeFile(files.spec, JSON.stringify(processSpec), { mode: 0o600 });
    return request.terminal ? await execInTerminal(target, files, request) : await execWithPipes(target, files);
  } catch (error) {
    await rm(directory, { recursive: true, force: true });
    throw error;
  }
}

interface ExecFiles {
  readonly directory: string;
  readonly spec: string;
  readonly pid: string;
  readonly log: string;
}

/** The container's own process, with what the request changes. */
async function execProcessSpec(spec: OciSpec, request: ExecRequest): Promise<OciProcess> {
  if (request.args.length === 0 || request.args[0] === "") {
    throw StatusError.invalid([{ field: "args", description: "must name a command" }]);
  }
  if (request.cwd !== undefined && !request.cwd.startsWith("/")) {
    throw StatusError.invalid([{ field: "cwd", description: "must be an absolute path" }]);
  }
  const template = spec.process;
  const user =
    request.user === undefined
      ? template.user
      : await resolveUser(request.user, "user", imageFileReader(spec.root.path));
  const { consoleSize: _, ...base } = template;
  const term = request.terminal ? ["TERM=xterm"] : [];
  return {
    ...base,
    user,
    args: request.args,
    env: mergeEnv([...term, ...template.env], request.env ?? []),
    cwd: request.cwd ?? template.cwd,
    terminal: request.terminal,
    ...(request.terminal ? { consoleSize: { height: request.rows ?? 24, width: request.columns ?? 80 } } : {}),
  };
}

function execArgs(target: ExecTarget, files: ExecFiles): string[] {
  const { command, root } = target;
  const log = ["--log", files.log, "--log-format", "json"];
  const exec = ["exec", "--process", files.spec, "--pid-file", files.pid, target.id];
  return [...command.globalArgs, "--root", root, ...log, ...exec];
}

async function execWithPipes(target: ExecTarget, files: ExecFiles): Promise<ExecProcess> {
  const child = spawn(target.command.binary, execArgs(target, files), {
    env: RUNTIME_ENV,
    stdio: "pipe",
    detached: true,
  });
  const running = follow(child, target, files);
  await spawned(child, target.command);
  child.stdin.on("error", () => {}); // EPIPE: the command ended without reading its input; its exit code tells
  return {
    stdin: child.stdin,
    stdout: held(child.stdout),
    stderr: held(child.stderr),
    resize() {},
    exitCode: running.exitCode,
    [Symbol.asyncDispose]: running.end,
  };
}

async function execInTerminal(target: ExecTarget, files: ExecFiles, request: ExecRequest): Promise<ExecProcess> {
  const pty = openPty({ columns: request.columns ?? 80, rows: request.rows ?? 24 });
  const child = spawnOn(pty, target, files);
  const running = follow(child, target, files);
  const master = masterStreams(pty.masterFd);
  try {
    await spawned(child, target.command);
    // Until the runtime has made our terminal raw, it would echo and translate what is typed.
    await started(child, files);
  } catch (error) {
    master.close();
    throw error;
  }
  const resize = (columns: number, rows: number): void => {
    if (child.exitCode !== null || child.signalCode !== null || master.closed()) return;
    setWindowSize(pty.masterFd, { columns, rows });
    if (target.carriesWindowSize) child.kill("SIGWINCH");
    else resizeTerminalOf(readPid(files.pid) ?? -1, { columns, rows });
  };
  const stderr = new PassThrough();
  stderr.end();
  const end = async (): Promise<void> => {
    await running.end();
    master.close();
  };
  const { stdin, stdout } = master;
  return { stdin, stdout, stderr, resize, exitCode: running.exitCode, [Symbol.asyncDispose]: end };
}

function spawnOn(pty: Pty, target: ExecTarget, files: ExecFiles): ChildProcess {
  const stdio = [pty.slaveFd, pty.slaveFd, pty.slaveFd];
  try {
    return spawn(target.command.binary, execArgs(target, files), { env: RUNTIME_ENV, stdio, detached: true });
  } finally {
    closeSync(pty.slaveFd);
  }
}

interface Running {
  readonly exitCode: Promise<number>;
  readonly end: () => Promise<void>;
}

function follow(child: ChildProcess, target: ExecTarget, files: ExecFiles): Running {
  const { promise: exited, resolve } = Promise.withResolvers<number>();
  child.once("exit", (code, signal) => resolve(code ?? 128 + (signal === null ? 0 : signalNumber(signal))));
  child.once("error", () => resolve(-1));
  const exitCode = exited.then(async (code) => {
    const final = await explain(code, files);
    await rm(files.directory, { recursive: true, force: true });
    return final;
  });
  exitCode.catch(() => {});
  const end = async (): Promise<void> => {
    if (child.exitCode === null && child.signalCode === null) {
      // The runtime still waits for it, so the pid is its own.
      const pid = readPid(files.pid);
      if (pid !== undefined) killProcess(pid, "SIGKILL");
      const cut = setTimeout(() => child.kill("SIGKILL"), pid === undefined ? 0 : 5000);
      await exited;
      clearTimeout(cut);
    }
    await exitCode;
  };
  return { exitCode, end };
}

/**
 * A shell's codes for a command that could not be started: 127 not found, 126 not executable. The runtime has said why on
 * stderr. Its own exit code in that case (255 of runc, 1 of others) could be the command's as well: the log decides.
 */
async function explain(code: number, files: ExecFiles): Promise<number> {
  if (code === 0 || readPid(files.pid) !== undefined) return code;
  const message = await lastLoggedError(files.log);
  if (message === undefined) return code;
  if (/not found|no such file or directory/i.test(message)) return 127;
  if (/permission denied|exec format error|is a directory/i.test(message)) return 126;
  return code;
}

async function spawned(child: ChildProcess, command: RuntimeCommand): Promise<void> {
  if (child.pid !== undefined) return;
  const { promise, reject } = Promise.withResolvers<never>();
  child.once("error", (error) => reject(binaryUnusable(command.name, command.binary, error)));
  await promise;
}

async function started(child: ChildProcess, files: ExecFiles): Promise<void> {
  while (child.exitCode === null && child.signalCode === null && readPid(files.pid) === undefined) {
    await systemClock.sleep(5);
  }
}

function held(stream: Readable): Readable {
  const output = new PassThrough();
  stream.on("error", (error) => output.destroy(error));
  return stream.pipe(output);
}
