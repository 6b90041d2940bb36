/**
 * Docker's credential helpers: `docker-credential-NAME get` is told a host on stdin and answers with JSON.
 *
 * What a helper writes goes nowhere but into credentials: errors name the program and its exit, never its output.
 */
import { spawn } from "node:child_process";
import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";
import { abortReason, StatusError, throwIfAborted } from "@berth/base";
import { IDENTITY_USER, type RegistryCredentials } from "../registry.ts";

export interface HelperConfig {
  /** Directories of programs, as in PATH. */
  readonly helperPath: string;
  /** Default 15 s. */
  readonly helperTimeoutMs?: number;
}

const MAX_BYTES = 64 * 1024;
/** What helpers say, with exit code 1, of a host that they do not know. */
const NOT_FOUND = /credentials not found|no credentials server URL/i;

/**
 * Undefined when the helper has no credentials for the host.
 * @throws FAILED_PRECONDITION `CREDENTIAL_HELPER_MISSING`, UNAVAILABLE `CREDENTIAL_HELPER_FAILED`
 */
export async function askHelper(
  name: string,
  host: string,
  config: HelperConfig,
  signal: AbortSignal | undefined,
): Promise<RegistryCredentials | undefined> {
  const program = findHelper(name, config);
  const { code, output, why } = await run(program, host, config.helperTimeoutMs ?? 15_000, signal);
  const failed = (what: string): StatusError =>
    new StatusError("UNAVAILABLE", `credential helper ${program} for ${host}: ${what}`, {
      reason: "CREDENTIAL_HELPER_FAILED",
    });
  if (why !== undefined) throw failed(why);
  if (code !== 0) {
    if (NOT_FOUND.test(output)) return undefined;
    throw failed(`ended with exit code ${String(code)}; run "echo ${host} | ${program} get" to see why`);
  }
  const { Username, Secret } = parse(output) ?? {};
  if (typeof Username !== "string" || typeof Secret !== "string") throw failed("gave no Username and Secret");
  if (Username === "" && Secret === "") return undefined;
  return { username: Username === "" ? IDENTITY_USER : Username, password: Secret };
}

function findHelper(name: string, { helperPath }: HelperConfig): string {
  const file = `docker-credential-${name}`;
  const missing = (what: string): StatusError =>
    new StatusError("FAILED_PRECONDITION", `credential helper ${JSON.stringify(file)} ${what}`, {
      reason: "CREDENTIAL_HELPER_MISSING",
    });
  if (!/^[A-Za-z0-9._-]+$/.test(name)) throw missing("is not a program's name");
  const found = helperPath
    .split(delimiter)
    .filter((folder) => folder !== "")
    .map((folder) => join(folder, file))
    .find(isExecutable);
  if (found === undefined) throw missing("is not installed in any directory of PATH");
  return found;
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

interface Ended {
  readonly code: number | null;
  readonly output: string;
  /** Why it did not end by itself. */
  readonly why: string | undefined;
}

async function run(program: string, host: string, timeoutMs: number, signal: AbortSignal | undefined): Promise<Ended> {
  throwIfAborted(signal);
  // A group of its own, so that what the helper has started ends with it.
  const child = spawn(program, ["get"], { stdio: ["pipe", "pipe", "ignore"], detached: true });
  const chunks: Buffer[] = [];
  let size = 0;
  let why: string | undefined;
  const end = (reason: string): void => {
    why ??= reason;
    if (child.pid !== undefined) killGroup(child.pid);
    child.stdout.destroy();
  };
  const timer = setTimeout(() => end(`did not answer within ${timeoutMs} ms`), timeoutMs);
  const onAbort = (): void => end("cancelled");
  signal?.addEventListener("abort", onAbort, { once: true });
  child.stdin.on("error", () => {}).end(host);
  child.stdout.on("data", (chunk: Buffer) => {
    size += chunk.length;
    if (size > MAX_BYTES) end(`wrote more than ${MAX_BYTES} bytes`);
    else chunks.push(chunk);
  });
  try {
    const code = await new Promise<number | null>((resolve) => {
      child.once("error", (error: NodeJS.ErrnoException) => {
        why ??= `cannot be started (${error.code ?? error.message})`;
        resolve(null);
      });
      child.once("close", resolve);
    });
    if (signal?.aborted) throw abortReason(signal);
    return { code, output: Buffer.concat(chunks).toString("utf8"), why };
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
  }
}

function killGroup(pid: number): void {
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // It has ended.
  }
}

function parse(text: string): { readonly Username?: unknown; readonly Secret?: unknown } | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}
