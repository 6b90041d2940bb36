/**
 * Logs and exec: a stream between the caller and the task's node, through this controller.
 *
 * Invariants: bytes move only as fast as the slower side reads (the bus's credit one way, the caller's reading the other); the
 * node's side ends when the caller goes away, and the caller is told when the node does.
 */
import { create } from "@bufbuild/protobuf";
import { hasCode, StatusError } from "@berth/base";
import { openStream, type FrameBus, type OpenedStream, type StreamEvent, type StreamKind } from "@berth/bus";
import {
  ExecResponseSchema,
  StreamExecSchema,
  StreamLogsSchema,
  type ExecOpen,
  type ExecRequest,
  type ExecResponse,
  type LogsRequest,
  type LogsResponse,
} from "@berth/proto";
import type { TaskRow } from "@berth/store";

export async function* logs(
  bus: FrameBus,
  task: TaskRow,
  { follow, tail, since, previous }: LogsRequest,
  signal: AbortSignal,
): AsyncGenerator<LogsResponse> {
  const open = create(StreamLogsSchema, {
    taskUid: task.uid,
    follow,
    previous,
    ...(tail === undefined || tail < 0 ? {} : { tail }),
    ...(since === undefined ? {} : { since }),
  });
  await using stream = await openOnNode(bus, task, { logs: open }, signal);
  for await (const event of stream.events) {
    if (event.kind === "log") yield event.entry;
  }
}

/**
 * The first message opens, the others carry input.
 * @param find the task, or throws
 */
export async function* exec(
  bus: FrameBus,
  find: (namespace: string, name: string) => Promise<TaskRow>,
  requests: AsyncIterable<ExecRequest>,
  signal: AbortSignal,
): AsyncGenerator<ExecResponse> {
  const input = requests[Symbol.asyncIterator]();
  const open = await firstMessage(input);
  const task = await find(open.namespace, open.name);
  if (task.phase !== "Running") {
    const message = `task "${task.name}" is ${task.phase}; exec needs a running one`;
    throw new StatusError("FAILED_PRECONDITION", message, { reason: "TASK_NOT_RUNNING" });
  }
  const kind = { exec: create(StreamExecSchema, { taskUid: task.uid, open }) };
  await using stream = await openOnNode(bus, task, kind, signal);
  const broken = Promise.withResolvers<never>();
  broken.promise.catch(() => {});
  pumpInput(input, stream).catch(broken.reject);
  const events = stream.events[Symbol.asyncIterator]();
  for (;;) {
    const next = await Promise.race([events.next(), broken.promise]);
    if (next.done === true) return;
    const message = responseOf(next.value);
    if (message !== undefined) yield message;
    if (next.value.kind === "exit") return;
  }
}

async function firstMessage(input: AsyncIterator<ExecRequest>): Promise<ExecOpen> {
  const first = await input.next();
  const message = first.done === true ? undefined : first.value.message;
  if (message?.case === "open") return message.value;
  throw StatusError.invalid([{ field: "open", description: "must be the first message of an exec" }]);
}

/** Until the caller's half is closed. What goes wrong here ends the exec. */
async function pumpInput(input: AsyncIterator<ExecRequest>, stream: OpenedStream): Promise<void> {
  for (;;) {
    const next = await input.next();
    if (next.done === true) return stream.closeInput();
    const { message } = next.value;
    if (message.case === "stdin") await stream.write(message.value);
    else if (message.case === "stdinClosed") stream.closeInput();
    else if (message.case === "resize") stream.resize(message.value.columns, message.value.rows);
    else if (message.case === "open") {
      throw StatusError.invalid([{ field: "open", description: "was sent twice; it must be the first message only" }]);
    }
  }
}

function responseOf(event: StreamEvent): ExecResponse | undefined {
  switch (event.kind) {
    case "started":
      return create(ExecResponseSchema, { message: { case: "started", value: true } });
    case "stdout":
    case "stderr":
      return create(ExecResponseSchema, { message: { case: event.kind, value: event.data } });
    case "exit":
      return create(ExecResponseSchema, { message: { case: "exitCode", value: event.exitCode } });
    case "log":
      return undefined;
  }
}

async function openOnNode(bus: FrameBus, task: TaskRow, kind: StreamKind, signal: AbortSignal): Promise<OpenedStream> {
  const { name, node } = task;
  if (node === null) {
    const why = task.message || task.reason || task.phase;
    const message = `task "${name}" has not been placed on a node yet (${why}); try again once it is`;
    throw new StatusError("FAILED_PRECONDITION", message, { reason: "TASK_NOT_PLACED" });
  }
  try {
    return await openStream(bus, node, kind, { signal });
  } catch (error) {
    if (!hasCode(error, "UNAVAILABLE", "DEADLINE_EXCEEDED") || signal.aborted) throw error;
    throw new StatusError(
      "UNAVAILABLE",
      `node "${node}" of task "${name}" cannot be reached (${error.message}); \`berth nodes\` shows its state`,
      { reason: "NODE_UNREACHABLE", details: { node }, cause: error },
    );
  }
}
