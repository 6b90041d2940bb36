/** The real `bin/berth` as a child process, with an environment that holds nothing of the user's own. */
import { spawn, type ChildProcessWithoutNullStreams } from "node:child_process";
import { once } from "node:events";
import { resolve } from "node:path";
import { text } from "node:stream/consumers";

export const BIN = resolve(import.meta.dirname, "../../../../bin");
const TOO_LONG_MS = 60_000;

export interface Result {
  readonly code: number | string;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly input?: string;
  readonly cwd?: string;
}

export function cleanEnv(extra: Readonly<Record<string, string>> = {}): Record<string, string> {
  return {
    PATH: `${BIN}:${process.env["PATH"] ?? "/usr/bin:/bin"}`,
    HOME: "/nonexistent",
    LC_ALL: "C.UTF-8",
    ...extra,
  };
}

/** A command that goes on; its caller ends it. */
export function startBerth(args: readonly string[], options: RunOptions = {}): ChildProcessWithoutNullStreams {
  return spawn(`${BIN}/berth`, args, {
    env: cleanEnv(options.env),
    timeout: TOO_LONG_MS,
    killSignal: "SIGKILL",
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
}

export async function runBerth(args: readonly string[], options: RunOptions = {}): Promise<Result> {
  const child = startBerth(args, options);
  child.stdin.on("error", () => {});
  child.stdin.end(options.input ?? "");
  const closed = once(child, "close") as Promise<[number | null, string | null]>;
  const [stdout, stderr, [code, signal]] = await Promise.all([text(child.stdout), text(child.stderr), closed]);
  return { code: code ?? signal ?? "?", stdout, stderr };
}
