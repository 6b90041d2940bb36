/** What people talk to: a command in a task (exec), and the task's own process (attach). */
import { create } from "@bufbuild/protobuf";
import type { OpenedStream, StreamEvent } from "@berth/bus";
import {
  ExecResponseSchema,
  StreamAttachSchema,
  StreamExecSchema,
  type AttachRequest,
  type ExecRequest,
  type ExecResponse,
} from "@berth/proto";
import { firstMessage, openOnNode, relay, runningTask, type Relay, type StreamDeps } from "./relay.ts";

export async function* exec(
  deps: StreamDeps,
  requests: AsyncIterable<ExecRequest>,
  signal: AbortSignal,
): AsyncGenerator<ExecResponse> {
  const input = requests[Symbol.asyncIterator]();
  const open = await firstMessage(input, "an exec");
  const task = await runningTask(deps, open, "exec");
  const kind = { exec: create(StreamExecSchema, { taskUid: task.uid, open }) };
  await using stream = await openOnNode(deps.bus, task, kind, signal);
  yield* relay(input, stream, TALK);
}

export async function* attach(
  deps: StreamDeps,
  requests: AsyncIterable<AttachRequest>,
  signal: AbortSignal,
): AsyncGenerator<ExecResponse> {
  const input = requests[Symbol.asyncIterator]();
  const open = await firstMessage(input, "an attach");
  const task = await runningTask(deps, open, "attach");
  const { stdin, size } = open;
  const kind = { attach: create(StreamAttachSchema, { taskUid: task.uid, stdin, ...(size && { size }) }) };
  await using stream = await openOnNode(deps.bus, task, kind, signal);
  yield* relay(input, stream, TALK);
}

const TALK: Relay<ExecRequest | AttachRequest, ExecResponse> = {
  async take({ message }: ExecRequest | AttachRequest, stream: OpenedStream): Promise<void> {
    if (message.case === "stdin") await stream.write(message.value);
    else if (message.case === "stdinClosed") stream.closeInput();
    else if (message.case === "resize") stream.resize(message.value.columns, message.value.rows);
  },
  atEnd: (stream) => stream.closeInput(),
  answer: responseOf,
};

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
    case "closed":
    case "done":
      return undefined;
  }
}
