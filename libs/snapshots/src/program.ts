/** Running the administrator's programs that have no system call behind them which we could make ourselves. */
import { spawn } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";

/** Where programs and administrators' programs are, whatever the PATH of our process. */
const SEARCH_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";
const MAX_STDERR_CHARS = 2048;

export type Outcome =
  | { readonly ok: true; readonly stdout: string }
  /** What it said, or how it ended. */
  | { readonly ok: false; readonly failure: string };

export function runProgram(command: string, args: readonly string[]): Promise<Outcome> {
  const { promise, resolve } = Promise.withResolvers<Outcome>();
  const env = { PATH: SEARCH_PATH, LC_ALL: "C" };
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], env });
  let [stdout, stderr] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text: string) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    if (stderr.length < MAX_STDERR_CHARS) stderr += text;
  });
  child.once("error", (error) => resolve({ ok: false, failure: error.message }));
  child.once("close", (code, signal) =>
    resolve(
      code === 0 ? { ok: true, stdout } : { ok: false, failure: stderr.trim() || `ended with ${code ?? signal}` },
    ),
  );
  return promise;
}

export function hasProgram(name: string, searchPath = SEARCH_PATH): boolean {
  return searchPath.split(delimiter).some((directory) => {
    try {
      accessSync(join(directory, name), constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
