/**
 * A runtime that only pretends: its containers are rows and timers.
 *
 * As a real container outlives its agent, so does one of these outlive the simulator: when it ends follows from the profile and
 * from when it was started, which the agent's records say; one that was due while nobody looked has ended then.
 */
import { StatusError, systemClock, withSignal } from "@berth/base";
import type { SimulationProfile } from "@berth/config";
import type {
  ContainerExit,
  ContainerInput,
  ContainerHandle,
  ContainerState,
  ContainerStats,
  ExecProcess,
  Runtime,
} from "@berth/runtime";
import type { Container } from "../engine/container.ts";
import type { Chance } from "./chance.ts";

/** What the engine has runtimes know a container by; an attempt may fare better than the one before. */
type Handle = ContainerHandle & Pick<Container, "generation" | "attempt">;

export interface PretendDeps {
  readonly profile: Pick<SimulationProfile, "exit" | "stop">;
  readonly chance: Chance;
  /** When the container was started, by the agent's records; undefined when it was not. */
  readonly startedAtMs: (handle: Handle) => number | undefined;
}

interface Pretended {
  readonly ended: PromiseWithResolvers<ContainerExit>;
  exit: ContainerExit | undefined;
  due: NodeJS.Timeout | undefined;
  /** When it ends, as far as is known now; infinite: not by itself. */
  dueMs: number;
}

const SIGKILLED = 137;
/** What a timer of Node can wait. */
const LONGEST_MS = 2 ** 31 - 1;

export class PretendRuntime implements Runtime {
  readonly name = "runc";
  readonly version = "simulated";
  readonly sharesKernel = false;
  readonly #deps: PretendDeps;
  readonly #containers = new Map<string, Pretended>();

  constructor(deps: PretendDeps) {
    this.#deps = deps;
  }

  async create(): Promise<ContainerState> {
    return { status: "created", pid: 0 };
  }

  async start(handle: Handle): Promise<void> {
    if (!this.#containers.has(keyOf(handle))) this.#begin(handle, systemClock.nowMs());
  }

  async state(handle: Handle): Promise<ContainerState> {
    const { exit } = this.#find(handle);
    return exit === undefined ? { status: "running", pid: 0 } : { status: "stopped", pid: 0, exit };
  }

  async wait(handle: Handle, signal?: AbortSignal): Promise<ContainerExit> {
    return await withSignal(this.#find(handle).ended.promise, signal);
  }

  async kill(handle: Handle, signal: string): Promise<void> {
    const container = this.#find(handle);
    if (signal === "SIGKILL") return end(container, SIGKILLED);
    if (signal === "SIGTERM" || signal === "SIGINT" || signal === "SIGQUIT") this.stopAt(handle, systemClock.nowMs());
  }

  /**
   * As a stop signal sent at that time, which may lie before this process: then so may the end. What ends sooner by itself does.
   * @throws NOT_FOUND
   */
  stopAt(handle: Handle, sentAtMs: number): void {
    const { chance, profile } = this.#deps;
    endAt(this.#find(handle), 0, sentAtMs + chance.within(profile.stop.ms, "stop", handle.id));
  }

  async delete(handle: Handle): Promise<void> {
    const container = this.#containers.get(keyOf(handle));
    if (container === undefined) return;
    end(container, SIGKILLED);
    this.#containers.delete(keyOf(handle));
  }

  exec(handle: Handle): Promise<ExecProcess> {
    const text = `task ${handle.id} is simulated: there is no process to run a command beside`;
    return Promise.reject(new StatusError("FAILED_PRECONDITION", text, { reason: "SIMULATED" }));
  }

  openInput(handle: Handle): Promise<ContainerInput> {
    const text = `task ${handle.id} is simulated: there is no process to write to`;
    return Promise.reject(new StatusError("FAILED_PRECONDITION", text, { reason: "SIMULATED" }));
  }

  async resize(): Promise<void> {}

  async stats(): Promise<ContainerStats> {
    return { memoryUsageBytes: 0, cpuUsageSeconds: 0, pids: 1 };
  }

  async pause(): Promise<void> {}
  async resume(): Promise<void> {}
  async reopenLog(): Promise<void> {}

  async list(): Promise<readonly []> {
    return [];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { due } of this.#containers.values()) clearTimeout(due);
  }

  /** One that this process has not begun was begun by the one before. @throws NOT_FOUND */
  #find(handle: Handle): Pretended {
    const known = this.#containers.get(keyOf(handle));
    if (known !== undefined) return known;
    const startedAtMs = this.#deps.startedAtMs(handle);
    if (startedAtMs !== undefined) return this.#begin(handle, startedAtMs);
    throw new StatusError("NOT_FOUND", `no container ${keyOf(handle)}`, { reason: "CONTAINER_NOT_FOUND" });
  }

  #begin(handle: Handle, startedAtMs: number): Pretended {
    const { chance, profile } = this.#deps;
    const ended = Promise.withResolvers<ContainerExit>();
    const container: Pretended = { ended, exit: undefined, due: undefined, dueMs: Number.POSITIVE_INFINITY };
    this.#containers.set(keyOf(handle), container);
    const about = [handle.id, handle.generation, handle.attempt] as const;
    if (chance.happens(profile.exit.share, "exits", ...about)) {
      endAt(container, profile.exit.code, startedAtMs + chance.within(profile.exit.afterMs, "exit", ...about));
    }
    return container;
  }
}

function endAt(container: Pretended, exitCode: number, dueMs: number): void {
  if (container.dueMs <= dueMs) return;
  clearTimeout(container.due);
  container.dueMs = dueMs;
  const waitMs = Math.min(LONGEST_MS, Math.max(0, dueMs - systemClock.nowMs()));
  container.due = setTimeout(() => end(container, exitCode, dueMs), waitMs).unref();
}

function end(container: Pretended, exitCode: number, atMs = systemClock.nowMs()): void {
  clearTimeout(container.due);
  container.exit ??= { kind: "exited", exitCode, oomKilled: false, atMs };
  container.ended.resolve(container.exit);
}

function keyOf({ namespace, id }: Handle): string {
  return `${namespace}/${id}`;
}
