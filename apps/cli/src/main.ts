/**
 * `berth`: the command line of a fleet.
 *
 * Owns the process: arguments, signals, the exit code. Commands are in `commands/`, one file each; they and the session they
 * work with are imported only when one runs, so that `berth --help` answers at once. Exit codes are in `exit-code.ts`.
 */
import { createPaint } from "@berth/base/terminal";
import { createProgram } from "./program.ts";
import { exitCodeOf, reportError } from "./exit-code.ts";
import type { Session } from "./session.ts";

const interrupt = new AbortController();
process.once("SIGINT", () => interrupt.abort());
process.once("SIGTERM", () => interrupt.abort());
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code === "EPIPE") process.exit(0);
  throw error;
});

let session: Session | undefined;
const program = createProgram(process, async (options) => {
  const { createSession } = await import("./session.ts");
  session = createSession(
    {
      env: process.env,
      cwd: process.cwd(),
      stdin: process.stdin,
      stdout: process.stdout,
      stderr: process.stderr,
      signal: interrupt.signal,
    },
    options,
  );
  return session;
});
try {
  await program.parseAsync(process.argv);
} catch (error) {
  const interrupted = interrupt.signal.aborted;
  const paint = createPaint(process.stderr, process.env);
  reportError({ stderr: process.stderr, paint, interrupted }, error);
  process.exitCode = interrupted ? 130 : exitCodeOf(error);
} finally {
  await session?.[Symbol.asyncDispose]();
}
