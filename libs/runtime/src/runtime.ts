/**
 * The contract of a runtime handler: how the engine runs a container's processes. `src/oci/` implements it with conmon and
 * an OCI command-line runtime (runc, crun, runsc); a shim-backed sibling may follow behind the same interface.
 *
 * The story of a container: the engine prepares a bundle (root file system mounted, `config.json` written), `create` starts
 * the supervisor and the container in state *created*, `start` lets it run, `wait` tells how it ended, `delete` removes what
 * the runtime holds. The supervisor outlives the agent (A1): after a restart, `reattach` finds it again, and an exit that
 * happened meanwhile is read from what the supervisor wrote.
 *
 *   create ─► created ─ start ─► running ⇄ paused ─► stopped ─ delete
 *
 * Invariants:
 *  1. No exit code is lost while the supervisor lives; when it was killed, the exit is `unknown`, never guessed (A1).
 *  2. `create`, `kill` and `delete` are idempotent: the engine repeats them after a crash.
 *  3. After `delete` nothing of the container is left: no process, cgroup, socket, or file outside the bundle (A6).
 */

export type ContainerStatus = "created" | "running" | "paused" | "stopped";

/** How a container's first process ended. */
export type ContainerExit =
  | { readonly kind: "exited"; readonly exitCode: number; readonly oomKilled: boolean; readonly atMs: number }
  /** The supervisor was gone, too: nobody knows the code. */
  | { readonly kind: "unknown"; readonly reason: string; readonly atMs: number };

export interface CreateRequest {
  readonly namespace: string;
  /** Unique within the namespace; 1-76 of [a-zA-Z0-9._-]. */
  readonly id: string;
  /** Directory with `config.json`; the runtime keeps its own files beneath it. */
  readonly bundle: string;
  /** Where stdout and stderr go, in the CRI log format. */
  readonly logPath: string;
  readonly logMaxBytes?: number;
  readonly terminal: boolean;
  /** Standard input: none, open for as long as it runs, or closed by the first writer that goes away. Default `none`. */
  readonly input?: ContainerInputMode;
  readonly cgroupPath: string;
}

export type ContainerInputMode = "none" | "open" | "once";

export interface ContainerHandle {
  readonly namespace: string;
  readonly id: string;
  readonly bundle: string;
  readonly cgroupPath: string;
}

export interface ContainerState {
  readonly status: ContainerStatus;
  readonly pid: number;
  readonly exit?: ContainerExit;
}

export interface ExecRequest {
  readonly args: readonly string[];
  readonly env?: readonly string[];
  readonly cwd?: string;
  readonly user?: string;
  readonly terminal: boolean;
  readonly columns?: number;
  readonly rows?: number;
}

/** A process in a running container, bound to its caller: it ends when disposed. */
export interface ExecProcess extends AsyncDisposable {
  readonly stdin: NodeJS.WritableStream;
  readonly stdout: NodeJS.ReadableStream;
  /** Empty with a terminal. */
  readonly stderr: NodeJS.ReadableStream;
  resize(columns: number, rows: number): void;
  /** 128 + signal for a killed process. */
  readonly exitCode: Promise<number>;
}

/** A writer to a container's standard input; disposing it is its end. */
export interface ContainerInput extends Disposable {
  /** Resolves when the supervisor has taken it, which waits for the container to read. One that has ended takes anything. */
  write(data: Uint8Array, signal: AbortSignal): Promise<void>;
}

export interface ContainerStats {
  readonly memoryUsageBytes: number;
  readonly cpuUsageSeconds: number;
  readonly pids: number;
}

export interface Runtime extends AsyncDisposable {
  /** The handler's name: `runc`, `crun`… */
  readonly name: string;
  readonly version: string;
  /** @throws FAILED_PRECONDITION with the runtime's own words when the spec cannot be run. */
  create(request: CreateRequest, signal?: AbortSignal): Promise<ContainerState>;
  start(handle: ContainerHandle): Promise<void>;
  state(handle: ContainerHandle): Promise<ContainerState>;
  /** Resolves when the container has ended, however long ago; after a restart too. */
  wait(handle: ContainerHandle, signal?: AbortSignal): Promise<ContainerExit>;
  /** `all`: every process of the container. A container that has ended is no error. */
  kill(handle: ContainerHandle, signal: string, options?: { readonly all?: boolean }): Promise<void>;
  /** Kills what still runs, and removes everything. A container that is not there is no error. */
  delete(handle: ContainerHandle): Promise<void>;
  exec(handle: ContainerHandle, request: ExecRequest): Promise<ExecProcess>;
  /** Only of one that was made with an input. Output is in its log. @throws FAILED_PRECONDITION `SUPERVISOR_GONE`. */
  openInput(handle: ContainerHandle): Promise<ContainerInput>;
  /** The terminal of the first process, where it has one. */
  resize(handle: ContainerHandle, columns: number, rows: number): Promise<void>;
  /** Are files, sockets and processes of its containers the host kernel's own? Not those of a sandbox (gVisor). */
  readonly sharesKernel: boolean;
  stats(handle: ContainerHandle): Promise<ContainerStats>;
  pause(handle: ContainerHandle): Promise<void>;
  resume(handle: ContainerHandle): Promise<void>;
  /** Closes and opens the log file again after rotation. */
  reopenLog(handle: ContainerHandle): Promise<void>;
  /** Every container the runtime knows, ours or left over: for the start-up sweep (A6). */
  list(): Promise<readonly { readonly namespace: string; readonly id: string; readonly status: ContainerStatus }[]>;
}
