/** The real `berth` as a child process. */
import { spawn, type ChildProcess, type ChildProcessWithoutNullStreams } from "node:child_process";
import { text } from "node:stream/consumers";
import { programArgv, programEnv, type Build } from "./programs.ts";

export interface CliResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CliOptions {
  readonly endpoint: string;
  readonly token: string;
  readonly home: string;
  readonly input?: string | undefined;
  readonly timeoutMs?: number;
  readonly build?: Build | undefined;
}

/** A command that goes on; its caller ends it. */
export function startCli(args: readonly string[], options: CliOptions): ChildProcessWithoutNullStreams {
  return spawnCli(args, options, "pipe") as ChildProcessWithoutNullStreams;
}

/** The same, with any standard input, such as a file's descriptor. */
export function spawnCli(
  args: readonly string[],
  options: CliOptions,
  stdin: "pipe" | "ignore" | number,
): ChildProcess {
  const [command, ...rest] = (options.build ?? programArgv)("cli", ...args);
  return spawn(command!, rest, {
    stdio: [stdin, "pipe", "pipe"],
    env: programEnv({
      BERTH_ENDPOINT: options.endpoint,
      BERTH_TOKEN: options.token,
      HOME: options.home,
      XDG_CONFIG_HOME: options.home,
    }),
    timeout: options.timeoutMs ?? 120_000,
    killSignal: "SIGKILL",
  });
}

export async function runCli(args: readonly string[], options: CliOptions): Promise<CliResult> {
  const child = startCli(args, options);
  child.stdin.on("error", () => {});
  child.stdin.end(options.input ?? "");
  const [stdout, stderr, code] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    new Promise<number>((resolve, reject) => {
      child.once("error", reject);
      child.once("close", (exitCode, signal) => resolve(exitCode ?? (signal === null ? 1 : 137)));
    }),
  ]);
  return { code, stdout, stderr };
}
