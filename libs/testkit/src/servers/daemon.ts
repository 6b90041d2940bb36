/**
 * One long-running program: started with its output in a file, ready when its own probe says so, ended by pid.
 *
 * Two lives are possible. A test's daemon dies with the process that started it, whatever happens to that process
 * (parent-death signal). A detached one (`npm run up`) outlives it and can be taken over later by its identity.
 */
import { spawn } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { StatusError } from "@berth/base";
import { childrenOf, endProcess, identify, isAlive, type ProcessIdentity } from "./process.ts";

export interface DaemonSpec {
  /** For messages. */
  readonly name: string;
  readonly argv: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
  readonly cwd?: string;
  /** Options of setpriv(1) that make the program somebody else, such as `--reuid=postgres`. */
  readonly runAs?: readonly string[];
  /** Standard output and error are appended here. */
  readonly logFile: string;
  /** Resolves when the program serves; rejections mean "not yet". */
  readonly probe: () => Promise<void>;
  /** Asks it to end quickly and cleanly. Default SIGTERM. */
  readonly stopSignal?: NodeJS.Signals;
  /** Outlives this process. Default false: ends with it. */
  readonly detached?: boolean;
  readonly readyTimeoutMs?: number;
  readonly graceMs?: number;
}

export class Daemon implements AsyncDisposable {
  readonly #spec: DaemonSpec;
  #identity: ProcessIdentity | undefined;

  constructor(spec: DaemonSpec) {
    this.#spec = spec;
  }

  /** Whom the signals go to; undefined before the first start and after a stop. */
  get identity(): ProcessIdentity | undefined {
    return this.#identity;
  }

  get running(): boolean {
    return this.#identity !== undefined && isAlive(this.#identity);
  }

  /** Starts it and waits until it serves. Does nothing when it runs. Throws UNAVAILABLE with the end of its log. */
  async start(): Promise<void> {
    if (this.running) return;
    const logStart = logSize(this.#spec.logFile);
    this.#identity = await launch(this.#spec);
    await this.#ready(this.#identity, logStart);
  }

  /** Takes a running process over instead of starting one; false when it has ended meanwhile. */
  async adopt(identity: ProcessIdentity): Promise<boolean> {
    if (!isAlive(identity)) return false;
    this.#identity = identity;
    await this.#ready(identity, logSize(this.#spec.logFile));
    return true;
  }

  /** Asks it to end, waits, forces. */
  async stop(): Promise<void> {
    const identity = this.#identity;
    this.#identity = undefined;
    if (identity === undefined) return;
    const { stopSignal = "SIGTERM", graceMs = 10_000 } = this.#spec;
    await endProcess(identity, { signal: stopSignal, graceMs });
  }

  /**
   * SIGKILL to it and to its children, as a crash of the machine would look. Children that outlived it for a moment
   * (PostgreSQL's) would hold what the next start needs.
   */
  async kill(): Promise<void> {
    const identity = this.#identity;
    this.#identity = undefined;
    if (identity === undefined) return;
    const children = childrenOf(identity.pid);
    for (const each of [identity, ...children]) await endProcess(each, { signal: "SIGKILL" });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #ready(identity: ProcessIdentity, logStart: number): Promise<void> {
    const { name, probe, logFile, readyTimeoutMs = 30_000 } = this.#spec;
    const deadline = performance.now() + readyTimeoutMs;
    for (let waitMs = 5; ; waitMs = Math.min(waitMs * 2, 100)) {
      try {
        await probe();
        if (isAlive(identity)) return;
      } catch (error) {
        if (isAlive(identity) && performance.now() > deadline) {
          await this.kill();
          throw new StatusError("DEADLINE_EXCEEDED", `${name}: not ready within ${readyTimeoutMs} ms`, {
            cause: error,
          });
        }
      }
      if (!isAlive(identity)) {
        this.#identity = undefined;
        const tail = readLog(logFile, logStart);
        throw new StatusError("UNAVAILABLE", `${name} ended while starting (log: ${logFile}):\n${tail}`, {
          reason: /address already in use/i.test(tail) ? "ADDRESS_IN_USE" : "ENDED_EARLY",
        });
      }
      await delay(waitMs);
    }
  }
}

async function launch(spec: DaemonSpec): Promise<ProcessIdentity> {
  const { name, logFile, detached = false, stopSignal = "SIGTERM", runAs = [] } = spec;
  // setpriv executes the program in its own place, so the pid stays the same; the kernel then sends the signal for us.
  // One setpriv for both: a change of user forgets the signal that was asked for before it.
  const options = [...runAs, ...(detached ? [] : ["--pdeathsig", stopSignal.replace(/^SIG/, "")])];
  const prefix = options.length === 0 ? [] : ["setpriv", ...options, "--"];
  const [command, ...args] = [...prefix, ...spec.argv];
  if (command === undefined) throw new StatusError("INVALID_ARGUMENT", `${name}: nothing to run`);
  const log = openSync(logFile, "a", 0o600);
  try {
    const child = spawn(command, args, {
      stdio: ["ignore", log, log],
      detached,
      ...(spec.env === undefined ? {} : { env: spec.env }),
      ...(spec.cwd === undefined ? {} : { cwd: spec.cwd }),
    });
    const pid = await new Promise<number>((resolve, reject) => {
      child.once("error", (error) => reject(StatusError.from(error, name)));
      child.once("spawn", () => resolve(child.pid ?? -1));
    });
    child.unref();
    // A program that ended at once is identified too: the caller then finds it dead and shows its log.
    return identify(pid) ?? { pid, startTicks: "ended" };
  } finally {
    closeSync(log);
  }
}

function logSize(file: string): number {
  try {
    return readFileSync(file).length;
  } catch {
    return 0;
  }
}

function readLog(file: string, from: number): string {
  const lines = readFileSync(file).subarray(from).toString("utf8").trimEnd().split("\n");
  return lines
    .slice(-20)
    .map((line) => `  ${line}`)
    .join("\n");
}
