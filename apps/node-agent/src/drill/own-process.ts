/**
 * What a drill does to the agent's own process, and who makes it well again: a paused one is let go on by a shell script in a cgroup of
 * its own (`pause.sh`; ADR 26), a killed one is started again by whoever supervises it. Containers are nobody's concern here: they
 * outlive the agent (A1).
 *
 * Invariant: nothing is done before what heals it is there.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { StatusError } from "@berth/base";
import { addToCgroup, createCgroup, processStartTicks, type CgroupLayout } from "@berth/linux";

export interface OwnProcessDeps {
  readonly cgroups: CgroupLayout;
  /** Of the healers. */
  readonly cgroup: string;
  /** Made when missing; holds the script, so that an upgrade may replace the agent meanwhile. */
  readonly directory: string;
  /** Whoever started the agent starts it again when it ends. */
  readonly supervised: boolean;
}

/** What is ready and waits for its beginning. */
export type Trouble = () => void;

const READY_MS = 2_000;

export class OwnProcess {
  readonly #deps: OwnProcessDeps;
  readonly #pid: number;

  /** @param pid another process', for tests */
  constructor(deps: OwnProcessDeps, pid = process.pid) {
    this.#deps = deps;
    this.#pid = pid;
  }

  /** Why it would not; empty: it would. */
  refusal(kind: string): string {
    if (kind !== "kill" || this.#deps.supervised) return "";
    return "nothing is known to start its agent again: run it by a service manager that does, and say so to it (supervised: true of its configuration, or BERTH_SUPERVISED=true as in deploy/systemd/berthd.service)";
  }

  /** @throws when the healer does not come up: then nothing is paused */
  async pause(durationMs: number): Promise<Trouble> {
    const { cgroups, cgroup, directory } = this.#deps;
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const script = join(directory, "pause.sh");
    writeFileSync(script, readFileSync(new URL("pause.sh", import.meta.url), "utf8"), { mode: 0o600 });
    const ticks = processStartTicks(this.#pid);
    const child = spawn("/bin/sh", [script, String(this.#pid), String(ticks), String(Math.ceil(durationMs / 10))], {
      cwd: "/",
      detached: true,
      stdio: ["pipe", "pipe", "ignore"],
      env: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin" },
    });
    child.stdin.on("error", () => {}); // it has ended: nothing was begun, or it is over
    try {
      const signal = AbortSignal.timeout(READY_MS);
      await once(child, "spawn", { signal });
      createCgroup(cgroups, cgroup);
      addToCgroup(cgroups, cgroup, child.pid!);
      if ((await once(child.stdout, "data", { signal })).join("") !== "ready\n") throw new Error("it is not ready");
    } catch (error) {
      child.kill("SIGKILL");
      const why = StatusError.from(error).message;
      throw new StatusError("FAILED_PRECONDITION", `what would let the agent go on again does not come up: ${why}`);
    }
    child.stdout.destroy();
    child.unref();
    return () => void child.stdin.end("go\n");
  }

  kill(): Trouble {
    return () => void process.kill(this.#pid, "SIGKILL");
  }
}
