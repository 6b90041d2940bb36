/** Exit codes of `berthd` and its commands, and how failures are told. `docs/berthd.md` has the same table. */
import { CommanderError } from "commander";
import { hasCode, StatusError } from "@berth/base";
import { exitCodeOfStatus } from "@berth/base/terminal";

/** `berthd help exit-codes`. */
export const EXIT_CODES: readonly (readonly [code: string, meaning: string])[] = [
  ["0", "done; the agent: asked to end"],
  ["1", "the command failed; the agent: it could not start"],
  ["2", "wrong usage or configuration"],
  ["3", "not found"],
  ["4", "conflict: it exists, or its state does not allow this"],
  ["5", "not allowed: the socket is root's"],
  ["6", "the agent, or a registry, cannot be reached"],
  ["130", "interrupted"],
];

/** Wrong usage found by a command itself. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

export function exitCodeOf(error: unknown): number {
  if (error instanceof UsageError) return 2;
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  const status = StatusError.from(error);
  return isForbidden(status) ? 5 : exitCodeOfStatus(status.code);
}

/** Of the agent itself: it starts, or it does not. */
export function agentExitCodeOf(error: unknown): number {
  return hasCode(error, "INVALID_ARGUMENT") ? 2 : 1;
}

/** What went wrong, one line for each field at fault. Commander has told its own errors. */
export function reportError(stderr: { write(text: string): unknown }, error: unknown): void {
  if (error instanceof CommanderError) return;
  if (error instanceof UsageError) return void stderr.write(`berthd: ${error.message}\n`);
  const status = StatusError.from(error);
  if (status.violations.length < 2) return void stderr.write(`berthd: ${messageOf(status)}\n`);
  stderr.write(`berthd: ${status.violations.length} fields are wrong\n`);
  for (const { field, description } of status.violations) stderr.write(`  ${field}: ${description}\n`);
}

function messageOf(status: StatusError): string {
  if (status.reason !== "ENDPOINT_UNREACHABLE") return status.message;
  const { endpoint, why } = status.details as { readonly endpoint: string; readonly why: string };
  const at = endpoint.replace(/^unix:/, "");
  if (isForbidden(status)) return `you may not open ${at}: it is root's; try sudo`;
  if (why.includes("ENOENT")) {
    return `there is no socket ${at}: is berthd running? --address unix:PATH names another one`;
  }
  if (/ECONNREFUSED|ECONNRESET/.test(why)) return `nobody listens at ${at}: berthd has ended; is it being restarted?`;
  return `berthd cannot be reached at ${at} (${why})`;
}

function isForbidden({ reason, details }: StatusError): boolean {
  return reason === "ENDPOINT_UNREACHABLE" && String(details["why"]).includes("EACCES");
}
