/**
 * Exit codes, what stands for each kind of failure, and how failures are told. `docs/cli.md` has the same table, and a test
 * compares them.
 */
import { CommanderError } from "commander";
import { StatusError } from "@berth/base";
import { exitCodeOfStatus, type Paint } from "@berth/base/terminal";

/** `berth help exit-codes`. */
export const EXIT_CODES: readonly (readonly [code: string, meaning: string])[] = [
  ["0", "done"],
  ["1", "the command failed; `diff`: something would change; `status`: something is to be looked at"],
  ["2", "wrong usage, or a wrong manifest"],
  ["3", "not found"],
  ["4", "conflict: it exists, was changed meanwhile, or its state does not allow this"],
  ["5", "not logged in, or not allowed"],
  ["6", "the controller, or what it needs, cannot be reached"],
  ["7", "`--wait` ran into its `--timeout`"],
  ["130", "interrupted"],
  ["other", "`exec`, `attach` and `run --follow` end with the container's own code"],
];

/** Ends the program with a container's own code, without a message. */
export class ExitWith extends Error {
  override readonly name = "ExitWith";
  readonly exitCode: number;

  constructor(exitCode: number) {
    super(`exit ${exitCode}`);
    this.exitCode = exitCode;
  }
}

/** Wrong usage found by a command itself. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

export function exitCodeOf(error: unknown): number {
  if (error instanceof ExitWith) return error.exitCode;
  if (error instanceof UsageError) return 2;
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  const status = StatusError.from(error);
  if (status.reason === "WAIT_TIMEOUT") return 7;
  return exitCodeOfStatus(status.code);
}

export interface ErrorSink {
  readonly stderr: { write(text: string): unknown };
  readonly paint: Paint;
  readonly interrupted: boolean;
}

/** One line for the error itself, one for each field at fault. */
export function reportError({ stderr, paint, interrupted }: ErrorSink, error: unknown): void {
  if (error instanceof ExitWith || error instanceof CommanderError) return;
  const say = (text: string): unknown => stderr.write(`${paint.red("error:")} ${text}\n`);
  if (error instanceof UsageError) {
    say(error.message);
    return;
  }
  const status = StatusError.from(error);
  if (interrupted && ["CANCELLED", "UNKNOWN"].includes(status.code)) return;
  if (status.violations.length === 0) {
    say(messageOf(status));
    return;
  }
  say(status.violations.length === 1 ? "a field is wrong" : `${status.violations.length} fields are wrong`);
  for (const { field, description } of status.violations) stderr.write(`  ${paint.bold(field)}: ${description}\n`);
}

/** What happened, and what to do next where this side knows it better than the controller. */
function messageOf(status: StatusError): string {
  if (status.reason === "ENDPOINT_UNREACHABLE") {
    const { endpoint, why } = status.details;
    return `controller http://${endpoint} cannot be reached (${why}): is it running? see berth context`;
  }
  if (status.code === "DEADLINE_EXCEEDED" && status.reason === "DEADLINE_EXCEEDED") {
    return `the controller did not answer in time (${status.message}); see berth context`;
  }
  if (status.code === "UNAUTHENTICATED") {
    return `${status.message}\n       log in with: berth context set NAME --url URL --token-file FILE --use (or BERTH_TOKEN)`;
  }
  return status.message;
}
