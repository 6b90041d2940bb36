/** A runtime handler in memory: containers that run until the test (or a signal they obey) ends them. */
import { StatusError, withSignal } from "@berth/base";
import type {
  ContainerExit,
  ContainerHandle,
  ContainerInput,
  ContainerState,
  ContainerStats,
  ContainerStatus,
  CreateRequest,
  ExecProcess,
  Runtime,
} from "@berth/runtime";

interface FakeContainer {
  status: ContainerStatus;
  readonly ended: PromiseWithResolvers<ContainerExit>;
  readonly signals: string[];
}

export class FakeRuntime implements Runtime {
  readonly name = "fake";
  readonly version = "1";
  readonly sharesKernel = true;
  readonly containers = new Map<string, FakeContainer>();
  /** Signals that end a container, with the code that it then has. */
  readonly obeys = new Map<string, number>([
    ["SIGTERM", 0],
    ["SIGKILL", 137],
  ]);
  starts = 0;

  async create(request: CreateRequest): Promise<ContainerState> {
    const key = keyOf(request);
    if (!this.containers.has(key)) {
      this.containers.set(key, { status: "created", ended: Promise.withResolvers(), signals: [] });
    }
    return { status: this.containers.get(key)!.status, pid: 1 };
  }

  async start(handle: ContainerHandle): Promise<void> {
    const container = this.#get(handle);
    if (container.status !== "created") return;
    container.status = "running";
    this.starts += 1;
  }

  async state(handle: ContainerHandle): Promise<ContainerState> {
    return { status: this.#get(handle).status, pid: 1 };
  }

  async wait(handle: ContainerHandle, signal?: AbortSignal): Promise<ContainerExit> {
    return await withSignal(this.#get(handle).ended.promise, signal);
  }

  async kill(handle: ContainerHandle, signal: string): Promise<void> {
    const container = this.#get(handle);
    container.signals.push(signal);
    const code = this.obeys.get(signal);
    if (code !== undefined) this.end(handle, code);
  }

  async delete(handle: ContainerHandle): Promise<void> {
    this.containers.get(keyOf(handle))?.ended.resolve({ kind: "unknown", reason: "deleted", atMs: 0 });
    this.containers.delete(keyOf(handle));
  }

  /** The container ends by itself. */
  end(handle: { readonly namespace: string; readonly id: string }, exitCode: number): void {
    const container = this.containers.get(keyOf(handle));
    if (container === undefined) return;
    container.status = "stopped";
    container.ended.resolve({ kind: "exited", exitCode, oomKilled: false, atMs: 0 });
  }

  exec(): Promise<ExecProcess> {
    return Promise.reject(new StatusError("UNIMPLEMENTED", "the fake runs no commands"));
  }

  openInput(): Promise<ContainerInput> {
    return Promise.reject(new StatusError("UNIMPLEMENTED", "the fake takes no input"));
  }

  async resize(): Promise<void> {}

  stats(): Promise<ContainerStats> {
    return Promise.resolve({ memoryUsageBytes: 0, cpuUsageSeconds: 0, pids: 0 });
  }

  async pause(): Promise<void> {}
  async resume(): Promise<void> {}
  async reopenLog(): Promise<void> {}

  list(): ReturnType<Runtime["list"]> {
    return Promise.resolve(
      [...this.containers].map(([key, { status }]) => {
        const [namespace = "", id = ""] = key.split("/");
        return { namespace, id, status };
      }),
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  #get(handle: { readonly namespace: string; readonly id: string }): FakeContainer {
    const container = this.containers.get(keyOf(handle));
    if (container !== undefined) return container;
    throw new StatusError("NOT_FOUND", `no container ${keyOf(handle)}`, { reason: "CONTAINER_NOT_FOUND" });
  }
}

function keyOf({ namespace, id }: { readonly namespace: string; readonly id: string }): string {
  return `${namespace}/${id}`;
}
