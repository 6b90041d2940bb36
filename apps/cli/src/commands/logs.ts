/** `berth logs`: a task's output from its node, or that of all tasks of a workload with the task's name in front. */
import { once } from "node:events";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs, timestampDate } from "@bufbuild/protobuf/wkt";
import { hasCode, StatusError } from "@berth/base";
import { TaskService, type LogsRequestSchema, type LogsResponse } from "@berth/proto";
import { UsageError } from "../exit-code.ts";
import { parseDurationMs } from "../output/units.ts";
import type { Session } from "../session.ts";
import { parseCount } from "./arguments.ts";
import { followLogs } from "./follow-logs.ts";
import { followWorkload } from "./follow-workload.ts";
import { taskOrWorkload, tasksNamed } from "./tasks-named.ts";

export interface LogsOptions {
  readonly follow?: boolean;
  readonly tail?: string;
  readonly since?: string;
  readonly timestamps?: boolean;
  readonly previous?: boolean;
}

export async function logs(session: Session, target: string, options: LogsOptions): Promise<void> {
  if (options.follow === true && options.previous === true) {
    throw new UsageError("--previous has ended: leave --follow out");
  }
  const namespace = session.namespace();
  const range = {
    ...(options.tail === undefined ? {} : { tail: parseCount(options.tail, "--tail") }),
    ...(options.since === undefined
      ? {}
      : { since: timestampFromMs(Date.now() - parseDurationMs(options.since, "--since")) }),
  };
  const printer =
    (name: string, prefixed: boolean) =>
    (entry: LogsResponse): Promise<void> =>
      printEntry(session, entry, prefixed ? `${session.paint.blue(name)} ` : "", options.timestamps === true);
  if (options.follow === true) {
    const { task, workload } = await taskOrWorkload(session, namespace, target);
    if (task !== undefined) {
      const { name } = task.metadata!;
      return await followLogs(session, { namespace, name, ...range }, printer(name, false));
    }
    // Of a task that comes later everything is new: its range is not the one that was asked for.
    return await followWorkload(session, { namespace, workload }, (name, isLater, versionsOf) =>
      followLogs(session, { namespace, name, ...(isLater ? {} : range) }, printer(name, true), versionsOf),
    );
  }
  const tasks = await tasksNamed(session, namespace, target);
  // Of several, one that waits for a node is no reason to complain.
  const shown = tasks.length === 1 ? tasks : tasks.filter((task) => task.spec?.node !== "");
  const names = shown.map((task) => task.metadata!.name);
  const results = await Promise.allSettled(
    names.map(async (name) => {
      const query = { namespace, name, ...range, previous: options.previous === true };
      await printPast(session, query, printer(name, names.length > 1));
    }),
  );
  const failed = results.find((result) => result.status === "rejected");
  if (failed !== undefined) throw failed.reason;
}

type Query = MessageInitShape<typeof LogsRequestSchema> & { readonly name: string };

/** The node knows tasks by their uid only. */
async function printPast(session: Session, query: Query, print: (entry: LogsResponse) => Promise<void>): Promise<void> {
  try {
    for await (const entry of session.client(TaskService).logs(query)) await print(entry);
  } catch (error) {
    if (!hasCode(error, "NOT_FOUND") || error.reason !== "LOG_MISSING") throw error;
    const which = query.previous === true ? "had no execution before this one" : "has not run yet";
    const hint = `see berth describe task ${query.name}`;
    throw new StatusError("NOT_FOUND", `task "${query.name}" ${which}; ${hint}`, {
      reason: error.reason,
      cause: error,
    });
  }
}

/** What the container wrote to stderr goes to stderr. */
export async function printEntry(
  session: Session,
  entry: LogsResponse,
  prefix = "",
  timestamps = false,
): Promise<void> {
  const sink = entry.stream === "stderr" ? session.stderr : session.stdout;
  const text = prefix === "" && !timestamps ? entry.data : decorate(entry, prefix, timestamps);
  if (!sink.write(text)) await once(sink, "drain", { signal: session.signal });
}

function decorate(entry: LogsResponse, prefix: string, timestamps: boolean): string {
  const time = timestamps && entry.time !== undefined ? `${timestampDate(entry.time).toISOString()} ` : "";
  return Buffer.from(entry.data)
    .toString("utf8")
    .replaceAll(/^(?!$)/gm, () => prefix + time);
}
