/** The real agent as a process in a host of its own, with what its containers leave on that host. */
import { mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { unmountTree } from "./leftovers.ts";
import type { Host } from "../hosts/index.ts";
import { Daemon } from "../servers/daemon.ts";
import { endProcess, identify, waitForExit, type ProcessIdentity } from "../servers/process.ts";
import { programArgv, programEnv, writeConfig, type Build } from "./programs.ts";

export interface AgentProcess extends AsyncDisposable {
  readonly name: string;
  readonly host: Host;
  /** Durable data. */
  readonly root: string;
  readonly cgroupParent: string;
  /** Bundles, sockets, network namespaces. */
  readonly state: string;
  readonly logFile: string;
  readonly running: boolean;
  readonly pid: number | undefined;
  start(crashAt?: string): Promise<void>;
  /** From the next start on, it is the program of this build. */
  use(build: Build): void;
  stop(): Promise<void>;
  /** SIGKILL to the agent alone: its containers and their supervisors go on. */
  kill(): Promise<void>;
  /** Waits until it has ended by itself (at its failpoint). */
  ended(timeoutMs: number): Promise<boolean>;
  /** Supervisors and container processes of this agent that still run; its own scripts, which live as long as it, are none. */
  processes(): ProcessIdentity[];
}

export interface AgentSettings {
  readonly dir: string;
  readonly host: Host;
  readonly config: Readonly<Record<string, unknown>>;
  /** Default this repository. */
  readonly build?: Build | undefined;
  /** More than its own environment. */
  readonly env?: Readonly<Record<string, string>>;
}

export async function startAgent(settings: AgentSettings): Promise<AgentProcess> {
  const agent = createAgentProcess(settings);
  await agent.start();
  return agent;
}

export function createAgentProcess(settings: AgentSettings): AgentProcess {
  const { dir, host, config, env = {} } = settings;
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const name = String(config["node"]);
  const configFile = join(dir, "config.json");
  const logFile = join(dir, "agent.log");
  const root = String(config["root"]);
  const state = String(config["state"]);
  const cgroup = String(config["cgroupParent"]);
  writeConfig(configFile, config);
  let daemon: Daemon | undefined;
  let build = settings.build ?? programArgv;
  const processes = (): ProcessIdentity[] =>
    processesNaming(dir).filter(({ pid }) => pid !== daemon?.identity?.pid && !isOwnScript(pid));
  return {
    name,
    host,
    root,
    state,
    cgroupParent: cgroup,
    logFile,
    get running() {
      return daemon?.running ?? false;
    },
    get pid() {
      return daemon?.identity?.pid;
    },
    async start(crashAt) {
      daemon = new Daemon({
        name,
        argv: [...host.enter, ...build("node-agent", "--config", configFile)],
        env: programEnv(crashAt === undefined ? env : { ...env, BERTH_CRASH_AT: crashAt }),
        logFile,
        probe: () => probeHealthy(host),
      });
      await daemon.start();
    },
    use(next) {
      build = next;
    },
    async stop() {
      await daemon?.stop();
    },
    async kill() {
      const identity = daemon?.identity;
      if (identity !== undefined) await endProcess(identity, { signal: "SIGKILL" });
    },
    async ended(timeoutMs) {
      const identity = daemon?.identity;
      return identity === undefined || (await waitForExit(identity, timeoutMs));
    },
    processes,
    async [Symbol.asyncDispose]() {
      await daemon?.stop();
      for (const each of processes()) await endProcess(each, { signal: "SIGKILL" });
      // The stopper is a shell script: it may have started another program while it was being killed.
      for (let pids = cgroupPids(cgroup); pids.length > 0; pids = cgroupPids(cgroup)) {
        for (const pid of pids) {
          const identity = identify(pid);
          if (identity !== undefined) await endProcess(identity, { signal: "SIGKILL" });
        }
      }
      unmountTree(dir);
      await removeCgroups(cgroup);
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

async function probeHealthy(host: Host): Promise<void> {
  const response = await fetch(`http://${host.address}:1338/healthz`, { signal: AbortSignal.timeout(2_000) });
  await response.arrayBuffer();
  if (!response.ok) throw new Error(`the agent answered ${response.status}`);
}

/** Processes with this directory in their arguments: conmon has its bundle there. */
function processesNaming(dir: string): ProcessIdentity[] {
  return readdirSync("/proc")
    .map(Number)
    .filter((pid) => Number.isInteger(pid) && pid !== process.pid && commandLine(pid).includes(`${dir}/`))
    .map(identify)
    .filter((found) => found !== undefined);
}

/** The stopper, or what lets a paused agent go on. */
function isOwnScript(pid: number): boolean {
  return /\/(stopper\/stopper|drill\/pause)\.sh\0/.test(commandLine(pid));
}

function commandLine(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, "utf8");
  } catch {
    return "";
  }
}

/** Every directory of this cgroup, in every hierarchy, deepest first. */
export function cgroupDirs(cgroup: string): string[] {
  const found: string[] = [];
  for (const hierarchy of ["", ...readdirSync("/sys/fs/cgroup")])
    collect(join("/sys/fs/cgroup", hierarchy, cgroup), found);
  return found.reverse();
}

function collect(dir: string, found: string[]): void {
  try {
    const entries = readdirSync(dir, { withFileTypes: true });
    found.push(dir);
    for (const entry of entries) if (entry.isDirectory()) collect(join(dir, entry.name), found);
  } catch {
    // Not in this hierarchy.
  }
}

function cgroupPids(cgroup: string): number[] {
  return cgroupDirs(cgroup).flatMap((dir) =>
    readFileSync(join(dir, "cgroup.procs"), "utf8").split("\n").filter(Boolean).map(Number),
  );
}

/** The kernel may hold on to a cgroup for a moment after its last process has gone. */
async function removeCgroups(cgroup: string): Promise<void> {
  for (let tries = 0; ; tries += 1) {
    try {
      for (const dir of cgroupDirs(cgroup)) rmdirSync(dir);
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EBUSY" || tries >= 100) throw error;
      await delay(50);
    }
  }
}
