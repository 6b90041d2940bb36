/** `berthd` with a command: as a child process with an environment that holds nothing of the user's own, or within the test. */
import { spawn, type ChildProcessWithoutNullStreams } from "node:child_process";
import { once } from "node:events";
import { resolve } from "node:path";
import { PassThrough } from "node:stream";
import { text } from "node:stream/consumers";
import { exitCodeOf, reportError } from "../commands/exit-code.ts";
import { createProgram, runProgram } from "../commands/program.ts";
import { openSession } from "../commands/session.ts";

export const BERTHD = resolve(import.meta.dirname, "../../../../bin/berthd");
const TOO_LONG_MS = 120_000;

export interface Result {
  readonly code: number | string;
  readonly stdout: string;
  readonly stderr: string;
}

export interface BerthdOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly uid?: number;
}

export function berthdEnv(extra: Readonly<Record<string, string>> = {}): Record<string, string> {
  return { PATH: process.env["PATH"] ?? "/usr/bin:/bin", HOME: "/nonexistent", LC_ALL: "C.UTF-8", ...extra };
}

/** A command that goes on; its caller ends it. */
export function startBerthd(args: readonly string[], options: BerthdOptions = {}): ChildProcessWithoutNullStreams {
  return spawn(BERTHD, args, {
    env: berthdEnv(options.env),
    timeout: TOO_LONG_MS,
    killSignal: "SIGKILL",
    ...(options.uid === undefined ? {} : { uid: options.uid }),
  });
}

export async function runBerthd(args: readonly string[], options: BerthdOptions = {}): Promise<Result> {
  return await resultOf(startBerthd(args, options));
}

export async function resultOf(child: ChildProcessWithoutNullStreams): Promise<Result> {
  child.stdin.on("error", () => {});
  child.stdin.end();
  const closed = once(child, "close") as Promise<[number | null, string | null]>;
  const [stdout, stderr, [code, signal]] = await Promise.all([text(child.stdout), text(child.stderr), closed]);
  return { code: code ?? signal ?? "?", stdout, stderr };
}

/** The same command line within this process, for many of them: what `main.ts` does, without its start. */
export async function callBerthd(args: readonly string[], env: Readonly<Record<string, string>>): Promise<Result> {
  const [stdout, stderr, stdin] = [new PassThrough(), new PassThrough(), new PassThrough()];
  const texts = Promise.all([text(stdout), text(stderr)]);
  const streams = { stdin, stdout, stderr } as unknown as Pick<NodeJS.Process, "stdin" | "stdout" | "stderr">;
  const signal = AbortSignal.timeout(TOO_LONG_MS);
  const program = createProgram({
    stdout,
    stderr,
    runAgent: () => Promise.reject(new Error("not within a test")),
    runSimulator: () => Promise.reject(new Error("not within a test")),
    openSession: (options) => openSession({ ...streams, env, cwd: "/", signal }, options),
  });
  let code = 0;
  try {
    await runProgram(program, args);
  } catch (error) {
    reportError(stderr, error);
    code = exitCodeOf(error);
  }
  stdout.end();
  stderr.end();
  const [out, err] = await texts;
  return { code, stdout: out, stderr: err };
}
