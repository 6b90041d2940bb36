/**
 * A runtime handler of conmon and an OCI command-line runtime (runc, crun, runsc).
 *
 * Owns nothing in memory that matters: everything a later agent needs is in the bundle and the state directory, so a new
 * instance with the same options goes on where a killed one stopped (A1). Calls about one container are serialised here;
 * `state`, `wait`, `stats` and `exec` are not, as they change nothing.
 *
 * When conmon alone was killed: `wait` resolves with `unknown` at once, saying whether the first process runs on; `state`
 * then still says `running` (with that exit beside it), because it is; `kill` reaches it, and `delete` ends it.
 */
import { closeSync, constants, existsSync, mkdirSync, openSync, writeSync } from "node:fs";
import { readdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { KeyedLock, StatusError, withSignal } from "@berth/base";
import {
  addToCgroup,
  cgroupStats,
  createCgroup,
  detectCgroupLayout,
  killProcess,
  signalNumber,
  type CgroupLayout,
} from "@berth/linux";
import type {
  ContainerExit,
  ContainerHandle,
  ContainerInput,
  ContainerState,
  ContainerStats,
  ContainerStatus,
  CreateRequest,
  ExecProcess,
  ExecRequest,
  Runtime,
} from "../runtime.ts";
import { mustRunRuntime, type RuntimeCommand } from "./command.ts";
import { checkLogPath, REOPEN_LOG, resizeTerminal, startConmon } from "./conmon.ts";
import { deleteContainer } from "./delete.ts";
import { startExec } from "./exec.ts";
import { ExitWatch } from "./exit-watch.ts";
import { openInput } from "./input.ts";
import { carriesWindowSize, hasNativeInit, identifyRuntime, type RuntimeIdentity } from "./flavour.ts";
import { checkNames, containerPaths, statePaths, type StatePaths } from "./layout.ts";
import { observe, saveIdentity, supervisorAlive, type Identity, type Observation } from "./observe.ts";
import { resolveOptions, type OciRuntimeDeps, type OciRuntimeOptions, type ResolvedOptions } from "./options.ts";
import { awaitsStart, isFrozen, listRuntime, runtimeStatus } from "./status.ts";

/** @throws FAILED_PRECONDITION `RUNTIME_MISSING` when the runtime or conmon is not installed. */
export async function createOciRuntime(deps: OciRuntimeDeps, options: OciRuntimeOptions): Promise<Runtime> {
  const resolved = resolveOptions(deps, options);
  const { name, binary, globalArgs, conmonPath } = resolved;
  const identity = await identifyRuntime({ name, binary, globalArgs });
  if (!existsSync(conmonPath)) {
    const text = `runtime "${name}": ${conmonPath} is not there; install conmon (on Debian: apt install conmon)`;
    throw new StatusError("FAILED_PRECONDITION", text, { reason: "RUNTIME_MISSING" });
  }
  const cgroups = detectCgroupLayout();
  if (resolved.supervisorCgroup !== undefined) createCgroup(supervisorLayout(cgroups), resolved.supervisorCgroup);
  return new OciRuntime(resolved, identity, cgroups);
}

class OciRuntime implements Runtime {
  readonly name: string;
  readonly version: string;
  readonly sharesKernel: boolean;
  readonly #options: ResolvedOptions;
  readonly #identity: RuntimeIdentity;
  readonly #command: RuntimeCommand;
  readonly #state: StatePaths;
  readonly #cgroups: CgroupLayout;
  readonly #exits: ExitWatch;
  readonly #lock = new KeyedLock();

  constructor(options: ResolvedOptions, identity: RuntimeIdentity, cgroups: CgroupLayout) {
    this.name = options.name;
    this.version = identity.version;
    this.sharesKernel = hasNativeInit(identity.flavour);
    this.#options = options;
    this.#identity = identity;
    this.#command = { name: options.name, binary: options.binary, globalArgs: options.globalArgs };
    this.#state = statePaths(options.stateDir, options.name);
    this.#cgroups = cgroups;
    this.#exits = new ExitWatch(options.pollMs);
  }

  create(request: CreateRequest, signal?: AbortSignal): Promise<ContainerState> {
    checkNames(request.namespace, request.id);
    checkLogPath(request.logPath);
    return this.#locked(request, () => this.#create(request, signal), signal);
  }

  start(handle: ContainerHandle): Promise<void> {
    return this.#locked(handle, async () => {
      const observation = this.#mustExist(handle);
      if (observation.kind !== "alive" || (await this.#status(handle)) !== "created") return;
      const root = this.#state.root(handle.namespace);
      try {
        await mustRunRuntime(this.#command, root, ["start", handle.id]);
      } catch (error) {
        // An earlier try may have come through although its caller died.
        const status = await runtimeStatus(this.#command, root, handle.id);
        if (status === undefined || status === "created") throw error;
      }
    });
  }

  async state(handle: ContainerHandle): Promise<ContainerState> {
    const observation = this.#mustExist(handle);
    switch (observation.kind) {
      case "ended":
        return { status: "stopped", pid: observation.pid, exit: observation.exit };
      case "ending":
        return { status: "stopped", pid: observation.identity.init.pid };
      case "alive":
        return {
          status: await this.#status(handle),
          pid: observation.identity.init.pid,
          ...(observation.supervised ? {} : { exit: observation.exit }),
        };
    }
  }

  async wait(handle: ContainerHandle, signal?: AbortSignal): Promise<ContainerExit> {
    const directory = this.#state.exits(handle.namespace);
    for (;;) {
      let identity: Identity | undefined;
      const isSupervised = (): boolean => identity === undefined || supervisorAlive(identity);
      // Subscribed before looking, so that an exit in between is heard.
      using subscription = this.#exits.subscribe(directory, handle.id, isSupervised);
      const observation = this.#mustExist(handle);
      if (observation.kind === "ended") return observation.exit;
      if (observation.kind === "alive" && !observation.supervised) return observation.exit;
      identity = observation.identity;
      await withSignal(subscription.changed, signal);
    }
  }

  kill(handle: ContainerHandle, signal: string, options: { readonly all?: boolean } = {}): Promise<void> {
    return this.#locked(handle, async () => {
      const observation = this.#mustExist(handle);
      if (observation.kind !== "alive") return;
      const { init } = observation.identity;
      const direct = options.all !== true && hasNativeInit(this.#identity.flavour);
      if (direct) killProcess(init.pid, signal, init.startTicks);
      else await this.#killByRuntime(handle, signal, options.all === true);
    });
  }

  delete(handle: ContainerHandle): Promise<void> {
    checkNames(handle.namespace, handle.id);
    return this.#locked(handle, () => this.#delete(handle));
  }

  async exec(handle: ContainerHandle, request: ExecRequest): Promise<ExecProcess> {
    const { status } = await this.state(handle);
    if (status !== "running") {
      const text = `container "${handle.id}": cannot run a command in it: it is ${status}`;
      throw new StatusError("FAILED_PRECONDITION", text, { reason: "CONTAINER_NOT_RUNNING" });
    }
    const root = this.#state.root(handle.namespace);
    const { id, bundle } = handle;
    const carries = carriesWindowSize(this.#identity.flavour);
    return await startExec({ command: this.#command, root, id, bundle, carriesWindowSize: carries }, request);
  }

  async openInput(handle: ContainerHandle): Promise<ContainerInput> {
    return openInput(containerPaths(handle.bundle).attach, handle.id);
  }

  async resize(handle: ContainerHandle, columns: number, rows: number): Promise<void> {
    sendControl(containerPaths(handle.bundle).control, resizeTerminal(columns, rows), handle.id);
  }

  stats(handle: ContainerHandle): Promise<ContainerStats> {
    const stats = cgroupStats(this.#cgroups, handle.cgroupPath);
    return Promise.resolve({
      memoryUsageBytes: stats.memoryBytes ?? 0,
      cpuUsageSeconds: stats.cpuSeconds ?? 0,
      pids: stats.pids ?? 0,
    });
  }

  pause(handle: ContainerHandle): Promise<void> {
    return this.#locked(handle, () => this.#freeze(handle, "pause", "running"));
  }

  resume(handle: ContainerHandle): Promise<void> {
    return this.#locked(handle, () => this.#freeze(handle, "resume", "paused"));
  }

  async reopenLog(handle: ContainerHandle): Promise<void> {
    sendControl(containerPaths(handle.bundle).control, REOPEN_LOG, handle.id);
  }

  async list(): Promise<readonly { namespace: string; id: string; status: ContainerStatus }[]> {
    const namespaces = await readdir(this.#state.roots).catch(() => []);
    const lists = namespaces.map(async (namespace) => {
      const known = await listRuntime(this.#command, this.#state.root(namespace));
      return known.map(({ id, status }) => ({ namespace, id, status }));
    });
    return (await Promise.all(lists)).flat();
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#exits[Symbol.dispose]();
    return Promise.resolve();
  }

  #locked<T>(handle: { namespace: string; id: string }, body: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    return this.#lock.run(`${handle.namespace}/${handle.id}`, body, signal);
  }

  #observe(handle: ContainerHandle): Observation {
    const deps = { cgroups: this.#cgroups, nowMs: () => this.#options.clock.nowMs() };
    return observe(deps, containerPaths(handle.bundle), handle.cgroupPath);
  }

  #mustExist(handle: ContainerHandle): Exclude<Observation, { kind: "absent" }> {
    const observation = this.#observe(handle);
    if (observation.kind !== "absent") return observation;
    throw new StatusError("NOT_FOUND", `container "${handle.id}" is not known to runtime "${this.name}"`, {
      reason: "CONTAINER_NOT_FOUND",
    });
  }

  async #create(request: CreateRequest, signal: AbortSignal | undefined): Promise<ContainerState> {
    const before = this.#observe(request);
    if (before.kind !== "absent") return await this.state(request);
    await this.#delete(request); // what a creation that was cut short may have left
    const paths = containerPaths(request.bundle);
    const [root, exitDir] = [this.#state.root(request.namespace), this.#state.exits(request.namespace)];
    for (const directory of [paths.supervisor, root, exitDir]) mkdirSync(directory, { recursive: true, mode: 0o700 });
    mkdirSync(dirname(request.logPath), { recursive: true, mode: 0o750 });
    try {
      const { id, bundle, logPath, logMaxBytes, terminal, input = "none" } = request;
      const command = this.#command;
      const onSpawned = (pid: number): void => this.#toSupervisors(pid);
      const { conmonPath } = this.#options;
      const conmon = { conmonPath, command, root, id, bundle, paths, exitDir, logPath, terminal, input, onSpawned };
      const size = logMaxBytes === undefined ? {} : { logMaxBytes };
      const { initPid, conmonPid } = await startConmon({ ...conmon, ...size }, signal);
      saveIdentity(paths, initPid, conmonPid);
      return { status: "created", pid: initPid };
    } catch (error) {
      await this.#delete(request).catch((failure: unknown) => {
        this.#options.logger.warn({ id: request.id, err: failure }, "cleaning up a failed creation failed");
      });
      throw error;
    }
  }

  #toSupervisors(pid: number): void {
    const { supervisorCgroup } = this.#options;
    if (supervisorCgroup !== undefined) addToCgroup(supervisorLayout(this.#cgroups), supervisorCgroup, pid);
  }

  async #status(handle: ContainerHandle): Promise<ContainerStatus> {
    const root = this.#state.root(handle.namespace);
    if (!hasNativeInit(this.#identity.flavour)) {
      return (await runtimeStatus(this.#command, root, handle.id)) ?? "stopped";
    }
    if (isFrozen(this.#cgroups, handle.cgroupPath)) return "paused";
    return awaitsStart(root, handle.id) ? "created" : "running";
  }

  async #killByRuntime(handle: ContainerHandle, signal: string, all: boolean): Promise<void> {
    const args = ["kill", ...(all ? ["--all"] : []), handle.id, String(signalNumber(signal))];
    try {
      await mustRunRuntime(this.#command, this.#state.root(handle.namespace), args);
    } catch (error) {
      if (this.#observe(handle).kind === "alive") throw error;
    }
  }

  async #freeze(handle: ContainerHandle, verb: "pause" | "resume", from: ContainerStatus): Promise<void> {
    const { status } = await this.state(handle);
    if (status === (verb === "pause" ? "paused" : "running")) return;
    if (status !== from) {
      const text = `container "${handle.id}": cannot ${verb} it: it is ${status}`;
      throw new StatusError("FAILED_PRECONDITION", text, { reason: "CONTAINER_NOT_RUNNING" });
    }
    await mustRunRuntime(this.#command, this.#state.root(handle.namespace), [verb, handle.id]);
  }

  async #delete(handle: ContainerHandle): Promise<void> {
    const paths = containerPaths(handle.bundle);
    const root = this.#state.root(handle.namespace);
    const observe = (): Observation => this.#observe(handle);
    const exitFile = join(this.#state.exits(handle.namespace), handle.id);
    const { id, cgroupPath } = handle;
    const nativeInit = hasNativeInit(this.#identity.flavour);
    const { clock } = this.#options;
    const target = { command: this.#command, root, id, cgroupPath, paths, exitFile, nativeInit };
    await deleteContainer({ cgroups: this.#cgroups, clock, observe }, target);
  }
}

/**
 * The hierarchies by which systemd knows what belongs to a unit: v2, and v1's that has no controller. The others are left
 * alone: each move may wait for an RCU grace period (ten hierarchies: 12 ms per container measured).
 */
function supervisorLayout(cgroups: CgroupLayout): CgroupLayout {
  const withController = new Set(cgroups.controllers.values());
  return { ...cgroups, roots: cgroups.roots.filter((root) => root === cgroups.unified || !withController.has(root)) };
}

/** Never blocks: without a reader, that is without conmon, opening fails (ENXIO). */
function sendControl(path: string, line: string, id: string): void {
  let fifo: number;
  try {
    fifo = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
  } catch (error) {
    throw new StatusError("FAILED_PRECONDITION", `container "${id}" has no supervisor that could be told`, {
      reason: "SUPERVISOR_GONE",
      cause: error,
    });
  }
  try {
    writeSync(fifo, line);
  } finally {
    closeSync(fifo);
  }
}
