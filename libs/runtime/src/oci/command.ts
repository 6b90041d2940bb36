/** Calling the OCI runtime's command line: one call, its output bounded, its failure told in its own words. */
import { execFile } from "node:child_process";
import { readFile } from "node:fs/promises";
import { StatusError } from "@berth/base";

export interface RuntimeCommand {
  readonly name: string;
  readonly binary: string;
  /** Arguments before the subcommand, without `--root` (e.g. `--platform=ptrace`). */
  readonly globalArgs: readonly string[];
}

/** What the runtime is started with: no variable of the agent's reaches a runtime, conmon or a hook. */
export const RUNTIME_ENV: Readonly<Record<string, string>> = {
  PATH: "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
};

const MAX_OUTPUT_BYTES = 16 * 1024 * 1024;

export interface CommandOutcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs `binary --root ROOT … args`; a non-zero exit is an outcome, not an error. @throws UNAVAILABLE when it cannot run. */
export function runRuntime(
  command: RuntimeCommand,
  root: string,
  args: readonly string[],
  timeoutMs = 60_000,
): Promise<CommandOutcome> {
  const all = [...command.globalArgs, "--root", root, ...args];
  const options = { env: RUNTIME_ENV, timeout: timeoutMs, killSignal: "SIGKILL", maxBuffer: MAX_OUTPUT_BYTES } as const;
  const { promise, resolve, reject } = Promise.withResolvers<CommandOutcome>();
  execFile(command.binary, all, options, (error, stdout, stderr) => {
    const code = error === null ? 0 : error.code;
    if (typeof code === "number") resolve({ code, stdout, stderr });
    else if (error?.killed === true) {
      const text = `${command.name} ${args[0]}: no answer within ${timeoutMs} ms`;
      reject(new StatusError("DEADLINE_EXCEEDED", text, { reason: "RUNTIME_TIMEOUT" }));
    } else reject(binaryUnusable(command.name, command.binary, error));
  });
  return promise;
}

/** The same where failure is an error. @throws FAILED_PRECONDITION `RUNTIME_FAILED` with the runtime's message. */
export async function mustRunRuntime(command: RuntimeCommand, root: string, args: readonly string[]): Promise<string> {
  const outcome = await runRuntime(command, root, args);
  if (outcome.code === 0) return outcome.stdout;
  throw runtimeFailed(command.name, args[0] ?? "", lastMessage(outcome.stderr) ?? `exit code ${outcome.code}`);
}

export function runtimeFailed(name: string, what: string, message: string): StatusError {
  return new StatusError("FAILED_PRECONDITION", `${name} ${what}: ${message}`, { reason: "RUNTIME_FAILED" });
}

export function binaryUnusable(name: string, binary: string, cause: unknown): StatusError {
  const text = `runtime "${name}": ${binary} cannot be run; install it (on Debian: apt install ${name}) or correct its path`;
  return new StatusError("FAILED_PRECONDITION", text, { reason: "RUNTIME_MISSING", cause });
}

/** What the runtime wrote to its JSON log: the message of the last error. */
export async function lastLoggedError(path: string): Promise<string | undefined> {
  const text = await readFile(path, "utf8").catch(() => "");
  for (const line of text.trim().split("\n").reverse()) {
    try {
      const entry = JSON.parse(line) as { level?: unknown; msg?: unknown };
      if (entry.level === "error" && typeof entry.msg === "string") return entry.msg;
    } catch {
      // gVisor and crashes write other lines in between.
    }
  }
  return undefined;
}

/** The last line of an error output, without logrus' prefix. */
export function lastMessage(stderr: string): string | undefined {
  const line = stderr
    .trim()
    .split("\n")
    .findLast((candidate) => candidate.trim() !== "");
  if (line === undefined) return undefined;
  const message = /^time="[^"]*" level=\w+ msg="((?:[^"\\]|\\.)*)"/.exec(line)?.[1];
  return message?.replace(/\\(.)/g, "$1") ?? line.replace(/^ERRO\[\d+\]\s*/, "").trim();
}
