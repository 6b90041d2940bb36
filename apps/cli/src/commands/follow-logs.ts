/**
 * Following a task's output: from execution to execution as it is restarted, and across broken connections, without losing
 * or repeating a line. Ends when no execution will follow.
 */
import { create } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { hasCode } from "@berth/base";
import { decideRestart } from "@berth/model";
import {
  LogsRequestSchema,
  RestartSchema,
  TaskService,
  type LogsRequest,
  type LogsResponse,
  type Task,
} from "@berth/proto";
import { workloadKind } from "../kinds.ts";
import { persist, persistCall } from "../persist.ts";
import type { Session } from "../session.ts";
import { watchTask, type VersionsOf } from "./task-versions.ts";

export type LogQuery = Pick<LogsRequest, "namespace" | "name"> & Partial<Pick<LogsRequest, "tail" | "since">>;

/** Waits for a task that has not begun to run; `print` is awaited, so that a slow reader slows the node down. */
export async function followLogs(
  session: Session,
  query: LogQuery,
  print: (entry: LogsResponse) => Promise<void>,
  versionsOf: VersionsOf = (name) => watchTask(session, query.namespace, name),
): Promise<void> {
  let executed = "";
  for (let first = true; ; first = false) {
    const task = await nextExecution(session, query.name, executed, versionsOf(query.name));
    if (task === undefined) return;
    if (!first) session.note(`task "${query.name}" was restarted (attempt ${task.status!.attempt})`);
    executed = executionOf(task);
    const { namespace, name } = query;
    await streamExecution(session, first ? query : { namespace, name }, print);
  }
}

/** One execution's lines until it has ended. Goes on by time; lines of the last instant are counted, not repeated. */
async function streamExecution(
  session: Session,
  query: LogQuery,
  print: (entry: LogsResponse) => Promise<void>,
): Promise<void> {
  let last: { readonly time: NonNullable<LogsResponse["time"]>; lines: number } | undefined;
  const client = session.client(TaskService);
  async function* open(): AsyncGenerator<LogsResponse> {
    let skip = last?.lines ?? 0;
    const { namespace, name } = query;
    const from = last === undefined ? query : { namespace, name, since: last.time };
    const request = create(LogsRequestSchema, { ...from, follow: true });
    for await (const entry of client.logs(request, { signal: session.signal })) {
      if (skip > 0) skip -= 1;
      else yield entry;
    }
  }
  for await (const entry of persist(session, open)) {
    const { time } = entry;
    if (time !== undefined) {
      const same = last !== undefined && timestampMs(last.time) === timestampMs(time);
      last = { time, lines: same ? last!.lines + 1 : 1 };
    }
    await print(entry);
  }
}

const WITHOUT_OUTPUT = new Set(["", "Pending", "Assigned", "Pulling", "Starting"]);
const ENDED = new Set(["Succeeded", "Failed", "Stopped"]);

const executionOf = (task: Task): string => `${task.metadata?.generation ?? 0}.${task.status?.attempt ?? 0}`;

/** The execution after `executed`, once it has output; undefined when there will be none. */
async function nextExecution(
  session: Session,
  name: string,
  executed: string,
  versions: AsyncIterable<Task>,
): Promise<Task | undefined> {
  let told = false;
  for await (const task of versions) {
    const { phase = "", reason = "", startedAt } = task.status ?? {};
    const isNew = executionOf(task) !== executed;
    if (isNew && !WITHOUT_OUTPUT.has(phase) && startedAt !== undefined) return task;
    if (ENDED.has(phase) && !(await willRestart(session, task))) return undefined;
    if (!told && executed === "")
      session.note(`task "${name}" is ${phase || "Pending"}${reason && `: ${reason}`}; waiting for it`);
    told = true;
  }
  return undefined;
}

/** As the controller will decide: it may not have yet. */
async function willRestart(session: Session, task: Task): Promise<boolean> {
  if (task.spec?.desired === "Stop" || task.metadata?.deletedAt !== undefined) return false;
  const { namespace } = task.metadata!;
  try {
    const owner = await persistCall(session, () => workloadKind.get(session, namespace, task.spec?.workload ?? ""));
    if (owner.metadata?.deletedAt !== undefined) return false;
    const { policy, maxAttempts } = owner.spec?.restart ?? create(RestartSchema);
    return decideRestart(
      { policy: policy === "never" || policy === "onFailure" ? policy : "always", maxAttempts },
      {
        phase: task.status!.phase as "Succeeded" | "Failed" | "Stopped",
        attempt: task.status!.attempt,
        failures: 0,
        startedAt: null,
        finishedAt: null,
      },
    ).restart;
  } catch (error) {
    if (hasCode(error, "NOT_FOUND")) return false;
    throw error;
  }
}
