/** `berth run`: a workload from the command line; with `--follow`, as a foreground command. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { StatusError } from "@berth/base";
import { normaliseImage } from "@berth/model";
import { WorkloadSchema, WorkloadService, type ContainerSpecSchema, type Task } from "@berth/proto";
import { ExitWith, UsageError } from "../exit-code.ts";
import type { Kind } from "../kind.ts";
import { refuseExisting, taskKind, workloadKind } from "../kinds.ts";
import { parseDurationMs } from "../output/units.ts";
import type { Session } from "../session.ts";
import { waitFor, waitForWorkload } from "../wait.ts";
import { untilGone } from "./delete.ts";
import { followLogs } from "./follow-logs.ts";
import { parseAssignments, parseCount } from "./arguments.ts";
import { printEntry } from "./logs.ts";

export interface RunOptions {
  readonly name?: string;
  readonly replicas: string;
  readonly everyNode?: boolean;
  readonly completions?: string;
  readonly parallelism?: string;
  readonly retries?: string;
  readonly env?: readonly string[];
  readonly publish?: readonly string[];
  readonly volume?: readonly string[];
  readonly cpu?: string;
  readonly memory?: string;
  readonly disk?: string;
  readonly volatile?: boolean;
  readonly stdin?: boolean;
  readonly stdinOnce?: boolean;
  readonly tty?: boolean;
  readonly user?: string;
  readonly workdir?: string;
  readonly network?: string;
  readonly restart?: string;
  readonly nodeSelector?: string;
  readonly follow?: boolean;
  readonly rm?: boolean;
  readonly wait?: boolean;
  readonly timeout: string;
}

export async function run(
  session: Session,
  image: string,
  command: readonly string[],
  options: RunOptions,
): Promise<void> {
  const timeoutMs = parseDurationMs(options.timeout, "--timeout");
  if (options.rm === true && options.follow !== true) throw new UsageError("--rm needs --follow");
  if (options.everyNode === true && options.follow === true)
    throw new UsageError("--follow shows one task: leave --every-node out");
  if (options.stdinOnce === true && options.stdin !== true) throw new UsageError("--stdin-once needs --stdin");
  const namespace = session.namespace();
  const name = options.name ?? nameFrom(image);
  const workload = create(WorkloadSchema, {
    metadata: { name, namespace },
    spec: {
      ...countsFrom(options),
      container: containerFrom(image, command, options),
      placement: {
        nodeSelector: parseAssignments((options.nodeSelector ?? "").split(",").filter(Boolean), "--node-selector"),
      },
      ...(isJob(options)
        ? {}
        : { restart: { policy: options.restart ?? (options.follow === true ? "never" : "always") } }),
    },
  });
  const said = `workload/${name} ${session.paint.green("created")}`;
  await refuseExisting(session, workloadKind as unknown as Kind, namespace, name);
  await session.client(WorkloadService).applyWorkload({ workload });
  if (options.follow === true) session.note(said);
  else session.out(said);
  if (options.follow === true) await followOnce(session, namespace, name, timeoutMs, options.rm === true);
  else if (options.wait === true) await waitForWorkload(session, namespace, name, timeoutMs);
}

const isJob = ({ completions, parallelism, retries }: RunOptions): boolean =>
  completions !== undefined || parallelism !== undefined || retries !== undefined;

function countsFrom(options: RunOptions): {
  readonly everyNode?: boolean;
  readonly replicas?: number;
  readonly job?: { readonly completions: number; readonly parallelism: number; readonly retries: number };
} {
  if (!isJob(options)) {
    return options.everyNode === true ? { everyNode: true } : { replicas: parseCount(options.replicas, "--replicas") };
  }
  if (options.follow === true)
    throw new UsageError("--follow shows one task: run a job with --wait, then see berth logs");
  if (options.everyNode === true) throw new UsageError("a job has no --every-node: leave one of them out");
  if (options.restart !== undefined) throw new UsageError("a job has no --restart: say --retries");
  const { completions = "1", parallelism = "1", retries = "3" } = options;
  return {
    job: {
      completions: parseCount(completions, "--completions"),
      parallelism: parseCount(parallelism, "--parallelism"),
      retries: parseCount(retries, "--retries"),
    },
  };
}

function containerFrom(
  image: string,
  command: readonly string[],
  options: RunOptions,
): MessageInitShape<typeof ContainerSpecSchema> {
  return {
    image: normaliseImage(image),
    args: [...command],
    env: Object.entries(parseAssignments(options.env ?? [], "--env")).map(([key, value]) => ({ name: key, value })),
    mounts: (options.volume ?? []).map(parseVolume),
    resources: { cpu: options.cpu ?? "", memory: options.memory ?? "", disk: options.disk ?? "" },
    volatileRootfs: options.volatile ?? false,
    stdin: options.stdin ?? false,
    stdinOnce: options.stdinOnce ?? false,
    tty: options.tty ?? false,
    network: { mode: options.network ?? "", ports: (options.publish ?? []).map(parsePort) },
    user: options.user ?? "",
    workdir: options.workdir ?? "",
  };
}

function parseVolume(text: string): { type: string; source: string; target: string; readOnly: boolean } {
  const [source, target, mode, ...rest] = text.split(":");
  if (!source || !target || rest.length > 0 || (mode !== undefined && mode !== "ro" && mode !== "rw")) {
    throw new UsageError(`--volume ${JSON.stringify(text)} is not /on/node:/in/container[:ro]`);
  }
  return { type: "bind", source, target, readOnly: mode === "ro" };
}

function parsePort(text: string): { hostPort: number; containerPort: number; protocol: string } {
  const match = /^(\d+):(\d+)(?:\/(tcp|udp))?$/.exec(text);
  if (match === null) throw new UsageError(`--publish ${JSON.stringify(text)} is not HOST:CONTAINER[/udp]`);
  return { hostPort: Number(match[1]), containerPort: Number(match[2]), protocol: match[3] ?? "tcp" };
}

/** `registry/demo/hello:v1` → `hello-x3f9q`. */
function nameFrom(image: string): string {
  const repository = normaliseImage(image)
    .replace(/@.*$/, "")
    .replace(/:[^/:]*$/, "");
  const base = repository.slice(repository.lastIndexOf("/") + 1).replaceAll(/[^a-z0-9]+/g, "-");
  return `${base.slice(0, 50)}-${Math.random().toString(36).slice(2, 7).padEnd(5, "0")}`;
}

async function followOnce(
  session: Session,
  namespace: string,
  name: string,
  timeoutMs: number,
  discard: boolean,
): Promise<void> {
  let ended: Task | undefined;
  try {
    const running = await taskThat(session, namespace, name, timeoutMs, hasRun);
    await followLogs(session, { namespace, name: running.metadata!.name }, (entry) => printEntry(session, entry));
    ended = await taskThat(session, namespace, name, timeoutMs, hasEnded);
  } finally {
    if (discard) {
      await workloadKind.delete!(session, namespace, name);
      const doomed = { kind: workloadKind, namespace, name } as unknown as Parameters<typeof untilGone>[1];
      await untilGone(session, doomed, timeoutMs);
    }
  }
  const status = ended.status!;
  if (status.exitCode === undefined) {
    throw new StatusError(
      "UNKNOWN",
      `task "${ended.metadata!.name}": ${status.message || status.reason || "ended, and its exit code is not known"}`,
    );
  }
  if (status.oomKilled) session.stderr.write(`task "${ended.metadata!.name}" was killed: out of memory\n`);
  if (status.exitCode !== 0) throw new ExitWith(status.exitCode);
}

const ENDED = new Set(["Succeeded", "Failed", "Stopped"]);
const hasEnded = (task: Task): boolean => ENDED.has(task.status?.phase ?? "");
const hasRun = (task: Task): boolean => {
  const failed = task.status?.phase === "Failed" && task.status.exitCode === undefined;
  if (failed)
    throw new StatusError(
      "FAILED_PRECONDITION",
      `task "${task.metadata!.name}": ${task.status!.message || task.status!.reason}`,
    );
  return task.status?.phase === "Running" || hasEnded(task);
};

async function taskThat(
  session: Session,
  namespace: string,
  workload: string,
  timeoutMs: number,
  holds: (task: Task) => boolean,
): Promise<Task> {
  let found: Task | undefined;
  let last: Task | undefined;
  await waitFor(
    session,
    taskKind,
    { namespace, selector: "", workload },
    {
      timeoutMs,
      done: ({ object }) => {
        last = object;
        if (holds(object)) found = object;
        return found !== undefined;
      },
      pending: () =>
        `the task is ${last?.status?.phase ?? "not there"}${last?.status?.message ? ` (${last.status.message})` : ""}`,
    },
  );
  return found!;
}
