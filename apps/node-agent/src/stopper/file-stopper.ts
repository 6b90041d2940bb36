/**
 * The stopper as a process of its own (`stopper.sh`), told by files of the agent's state directory.
 *
 * It is a POSIX shell script because every host has a shell, because it takes a few hundred kilobytes, and because it must
 * not share the agent's fate. An agent that starts finds the one that runs; one that has died or hangs is followed by another
 * (the newest writes its pid, the older one sees it and ends).
 */
import { spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { StatusError, type Clock, type Logger } from "@berth/base";
import { addToCgroup, createCgroup, isAlive, type CgroupLayout } from "@berth/linux";
import type { FenceMark, StopEntry, Stopper } from "./stopper.ts";

export interface FileStopperDeps {
  readonly clock: Clock;
  /** CLOCK_BOOTTIME. */
  readonly boottimeMs: () => number;
  readonly bootId: string;
  readonly cgroups: CgroupLayout;
  readonly logger: Logger;
}

export interface FileStopperConfig {
  /** Made when missing; on a tmpfs, best. */
  readonly directory: string;
  /** The stopper's own. */
  readonly cgroup: string;
  readonly shell?: string;
}

/** A round takes at most a second of sleep; a stopper that is later than this hangs. */
const STALE_MS = 5_000;
const START_TIMEOUT_MS = 5_000;
const START_POLL_MS = 20;
/** Before the first lease it has to be seen to work; nothing is listed then. */
const FIRST_DEADLINE_MS = 10_000;

export class FileStopper implements Stopper {
  readonly #deps: FileStopperDeps;
  readonly #config: FileStopperConfig;
  readonly #script: string;
  #problem: string | undefined = "it has not been started yet";
  #starting: Promise<void> | undefined;
  /** Of the stopper's last round that was seen. */
  #beatMs = Number.NEGATIVE_INFINITY;

  private constructor(deps: FileStopperDeps, config: FileStopperConfig) {
    this.#deps = deps;
    this.#config = config;
    this.#script = this.#path("stopper.sh");
  }

  /** Finds the stopper that runs, or starts one. One that cannot be started is no error here: `problem` tells. */
  static async open(deps: FileStopperDeps, config: FileStopperConfig): Promise<FileStopper> {
    const stopper = new FileStopper(deps, config);
    for (const name of ["", "tasks", "fenced", "new"]) {
      mkdirSync(join(config.directory, name), { recursive: true, mode: 0o700 });
    }
    stopper.#write("stopper.sh", readFileSync(new URL("stopper.sh", import.meta.url), "utf8"));
    // With something listed the deadline is the lease's alone.
    if (readdirSync(stopper.#path("tasks")).length === 0) stopper.arm(deps.boottimeMs() + FIRST_DEADLINE_MS);
    await stopper.ensure().catch((error: unknown) => {
      deps.logger.error({ err: error }, "the stopper cannot be started: tasks that need it are refused");
    });
    return stopper;
  }

  problem(): string | undefined {
    if (this.#problem === undefined && !this.#runs()) this.#problem = "it has ended or hangs";
    return this.#problem;
  }

  async ensure(): Promise<void> {
    if (this.#runs()) {
      this.#problem = undefined;
      return;
    }
    this.#starting ??= this.#start().finally(() => (this.#starting = undefined));
    try {
      await this.#starting;
      this.#problem = undefined;
    } catch (error) {
      this.#problem = StatusError.from(error).message;
      throw unavailable(this.#problem);
    }
  }

  arm(deadlineBoottimeMs: number): void {
    this.#write("deadline", `${Math.floor(deadlineBoottimeMs / 10)} ${this.#deps.bootId}\n`);
  }

  deadline(): number {
    const [centiseconds, boot] = (read(this.#path("deadline")) ?? "").trim().split(" ");
    return boot === this.#deps.bootId ? Number(centiseconds) * 10 : 0;
  }

  async list(entry: StopEntry): Promise<void> {
    const lines = [
      `signal ${entry.signal}`,
      `grace ${Math.ceil(entry.graceMs / 10)}`,
      `init ${entry.initPidFile}`,
      ...(entry.freezer === undefined ? [] : [`freezer ${entry.freezer}`]),
      ...entry.cgroups.map((directory) => `cgroup ${directory}`),
    ];
    try {
      rmSync(this.#path("fenced", entry.key), { force: true });
      this.#write(join("tasks", entry.key), `${lines.join("\n")}\n`);
    } catch (error) {
      throw unavailable(StatusError.from(error).message);
    }
    // After the listing (invariant 3 of the script): one that was about to end has seen the entry, or is seen to be gone.
    await this.ensure();
  }

  unlist(key: string): void {
    for (const folder of ["tasks", "fenced"]) rmSync(this.#path(folder, key), { force: true });
  }

  mark(key: string): FenceMark | undefined {
    const [fired, deadline] = (read(this.#path("fenced", key)) ?? "").trim().split(" ").map(Number);
    if (fired === undefined || deadline === undefined || !(fired > 0)) return undefined;
    return { firedBoottimeMs: fired * 10, deadlineBoottimeMs: deadline * 10 };
  }

  #runs(): boolean {
    const pid = Number(read(this.#path("pid"))?.trim());
    if (!Number.isSafeInteger(pid) || pid <= 0 || !isAlive(pid)) return false;
    const itsOwn = read(`/proc/${pid}/cmdline`)?.split("\0").includes(this.#script) === true;
    // The shell empties the file before it writes: what is read in between is the beat before.
    const beat = read(this.#path("beat"))?.trim() ?? "";
    if (beat !== "") this.#beatMs = Number(beat) * 10;
    return itsOwn && this.#deps.boottimeMs() - this.#beatMs < STALE_MS;
  }

  async #start(): Promise<void> {
    const { directory, cgroup, shell = "/bin/sh" } = this.#config;
    const { cgroups, clock, logger, boottimeMs } = this.#deps;
    rmSync(this.#path("beat"), { force: true });
    this.#beatMs = Number.NEGATIVE_INFINITY;
    const log = openSync(this.#path("log"), "a", 0o600);
    const child = spawn(shell, [this.#script, directory], {
      cwd: "/",
      detached: true,
      stdio: ["ignore", log, log],
      env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" },
    });
    closeSync(log);
    const failed = Promise.withResolvers<never>();
    failed.promise.catch(() => {});
    child.once("error", failed.reject);
    child.once("exit", (code, signal) => failed.reject(new Error(`it ended with ${signal ?? code}`)));
    child.unref();
    if (child.pid !== undefined) {
      createCgroup(cgroups, cgroup);
      addToCgroup(cgroups, cgroup, child.pid);
    }
    const untilMs = boottimeMs() + START_TIMEOUT_MS;
    while (!this.#runs()) {
      if (boottimeMs() > untilMs) throw new Error("it gave no sign of life");
      await Promise.race([clock.sleep(START_POLL_MS), failed.promise]);
    }
    logger.info({ pid: child.pid }, "the stopper runs");
  }

  /** Whole or not at all; `new` is on the same file system and is not looked at. */
  #write(name: string, text: string): void {
    const next = this.#path("new", name.replaceAll("/", "-"));
    writeFileSync(next, text, { mode: 0o600 });
    renameSync(next, this.#path(name));
  }

  #path(...parts: readonly string[]): string {
    return join(this.#config.directory, ...parts);
  }
}

function unavailable(why: string): StatusError {
  const message = `the node's stopper cannot be armed (${why}): a task with onNodeLoss stopThenReplace may not run without it`;
  return new StatusError("FAILED_PRECONDITION", message, { reason: "STOPPER_UNAVAILABLE" });
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined; // not there (yet), or its process has ended
  }
}
