/**
 * containerd's `bindir` protocol for image verifiers: each program of a folder is run with `-name NAME -digest DIGEST
 * -stdin-media-type TYPE` and the descriptor on its stdin; exit code 0 allows, anything else refuses, and what it printed
 * is the reason. All must allow.
 *
 * Stricter than there: a folder that is missing or empty, or that has more programs than may run, refuses. Here somebody
 * asked for these programs by a policy, and a typing error must not switch it off.
 */
import { spawn, type ChildProcess } from "node:child_process";
import { createHash } from "node:crypto";
import { open, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { abortReason, StatusError, throwIfAborted, type Digest } from "@berth/base";
import type { Descriptor } from "@berth/model";
import type { BindirRequirement } from "./policy.ts";

const MAX_PROGRAMS = 10;
const TIMEOUT_MS = 10_000;
/** Of stdout; what comes after it is read and dropped. */
const MAX_OUTPUT_BYTES = 16 * 1024;
const STDIN_TYPE = "application/vnd.oci.descriptor.v1+json";
const PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

export interface VerifierPrograms {
  readonly programs: readonly string[];
  /** Changes when a program does. */
  readonly version: string;
}

export interface BindirSubject {
  readonly name: string;
  readonly descriptor: Descriptor;
}

/** @throws FAILED_PRECONDITION `VERIFIER_PROGRAMS` when there is none, or too many */
export async function findPrograms({
  directory,
  maxPrograms = MAX_PROGRAMS,
}: BindirRequirement): Promise<VerifierPrograms> {
  const names = await readdir(directory).catch((error: unknown) => {
    throw unusable(`folder of verifiers ${directory} cannot be read: ${StatusError.from(error).reason}`);
  });
  const hash = createHash("sha256");
  const programs: string[] = [];
  for (const name of names.sort()) {
    const path = join(directory, name);
    const info = await stat(path).catch(() => undefined);
    if (info === undefined || !info.isFile() || (info.mode & 0o111) === 0) continue;
    programs.push(path);
    hash.update(`${name}\0${info.dev} ${info.ino} ${info.size} ${info.mtimeMs} ${info.ctimeMs} ${info.mode}\n`);
  }
  if (programs.length === 0) throw unusable(`folder of verifiers ${directory} has no programs; put one there`);
  if (programs.length > maxPrograms) {
    throw unusable(`folder of verifiers ${directory} has ${programs.length} programs, more than ${maxPrograms}`);
  }
  return { programs, version: hash.digest("hex") };
}

/** Gives what the programs said. @throws PERMISSION_DENIED `IMAGE_REFUSED`; DEADLINE_EXCEEDED `VERIFIER_TIMEOUT` */
export async function runPrograms(
  requirement: BindirRequirement,
  programs: readonly string[],
  subject: BindirSubject,
  signal: AbortSignal,
): Promise<string> {
  const said: string[] = [];
  for (const program of programs) {
    const { code, output } = await runProgram(program, subject, requirement.timeoutMs ?? TIMEOUT_MS, signal);
    if (code !== 0) {
      const why = output === "" ? `exit code ${code}` : `exit code ${code}: ${output}`;
      throw new StatusError("PERMISSION_DENIED", `${program} refuses it (${why})`, { reason: "IMAGE_REFUSED" });
    }
    said.push(output === "" ? program : `${program}: ${output}`);
  }
  return said.join("; ");
}

async function runProgram(
  program: string,
  { name, descriptor }: BindirSubject,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<{ readonly code: number; readonly output: string }> {
  throwIfAborted(signal);
  await checkKind(program);
  const args = ["-name", name, "-digest", descriptor.digest, "-stdin-media-type", STDIN_TYPE];
  // A session of its own, so that what it starts can be ended with it. It sees nothing of the agent's environment.
  const child = spawn(program, args, { detached: true, cwd: "/", env: { PATH }, stdio: ["pipe", "pipe", "ignore"] });
  const timeout = AbortSignal.timeout(timeoutMs);
  const ended = AbortSignal.any([signal, timeout]);
  try {
    return await outcomeOf(child, descriptor, ended);
  } catch (error) {
    if (signal.aborted) throw abortReason(signal);
    if (!timeout.aborted) throw unusable(`${program} cannot be run: ${StatusError.from(error).message}`);
    throw new StatusError("DEADLINE_EXCEEDED", `${program} did not answer within ${timeoutMs} ms`, {
      reason: "VERIFIER_TIMEOUT",
    });
  } finally {
    endGroup(child);
    child.stdout?.destroy();
  }
}

/** What the kernel cannot run, spawn hands to a shell; and an empty file is a script that succeeds. */
async function checkKind(program: string): Promise<void> {
  const file = await open(program);
  try {
    const start = Buffer.alloc(4);
    await file.read(start, 0, start.length, 0);
    const text = start.toString("latin1");
    if (text.startsWith("#!") || text === "\x7fELF") return;
  } finally {
    await file.close();
  }
  throw unusable(`${program} is neither a script that begins with #! nor an ELF program`);
}

async function outcomeOf(
  child: ChildProcess,
  descriptor: Descriptor,
  signal: AbortSignal,
): Promise<{ readonly code: number; readonly output: string }> {
  const chunks: Buffer[] = [];
  let length = 0;
  child.stdout!.on("data", (chunk: Buffer) => {
    if (length < MAX_OUTPUT_BYTES) chunks.push(chunk.subarray(0, MAX_OUTPUT_BYTES - length));
    length += chunk.length;
  });
  // A program that does not read its input is none the worse for it.
  child.stdin!.on("error", () => {}).end(JSON.stringify(wire(descriptor)));
  const { promise, resolve, reject } = Promise.withResolvers<number>();
  child.once("error", reject);
  // Not `close`: something it left behind may hold its output open.
  child.once("exit", (code) => resolve(code ?? -1));
  const onAbort = (): void => reject(abortReason(signal));
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    const code = await promise;
    await drained(child);
    return { code, output: printable(Buffer.concat(chunks)) };
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

/** What the program wrote before it ended lies in the pipe by now. */
async function drained(child: ChildProcess): Promise<void> {
  const { stdout } = child;
  if (stdout === null || stdout.readableEnded) return;
  const turns = 3;
  for (let turn = 0; turn < turns && !stdout.readableEnded; turn += 1)
    await new Promise((resolve) => setImmediate(resolve));
}

function endGroup({ pid }: ChildProcess): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // All of it has ended.
  }
}

function wire({ mediaType, digest, size }: Descriptor): { mediaType: string; digest: Digest; size: number } {
  return { mediaType, digest, size };
}

/** For messages: one line, no control characters, not too long. */
function printable(output: Buffer): string {
  const text = output
    .toString("utf8")
    .replaceAll(/[\p{C}\s]+/gu, " ")
    .trim();
  return text.length > 500 ? `${text.slice(0, 500)}…` : text;
}

function unusable(why: string): StatusError {
  return new StatusError("FAILED_PRECONDITION", why, { reason: "VERIFIER_PROGRAMS" });
}
