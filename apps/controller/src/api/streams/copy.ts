/** Files out of a running task and into it, as tar archives that the node makes and unpacks. Nothing is looked into here. */
import { create } from "@bufbuild/protobuf";
import { StatusError } from "@berth/base";
import {
  CopyInResponseSchema,
  CopyOutResponseSchema,
  StreamCopyInSchema,
  StreamCopyOutSchema,
  type CopyInRequest,
  type CopyInResponse,
  type CopyOutRequest,
  type CopyOutResponse,
} from "@berth/proto";
import { firstMessage, openOnNode, relay, runningTask, type StreamDeps } from "./relay.ts";

export async function* copyOut(
  deps: StreamDeps,
  request: CopyOutRequest,
  signal: AbortSignal,
): AsyncGenerator<CopyOutResponse> {
  const task = await runningTask(deps, request, "cp");
  const kind = { copyOut: create(StreamCopyOutSchema, { taskUid: task.uid, path: request.path }) };
  await using stream = await openOnNode(deps.bus, task, kind, signal);
  let complete = false;
  for await (const event of stream.events) {
    if (event.kind === "stdout") yield create(CopyOutResponseSchema, { data: event.data });
    complete = event.kind === "done";
  }
  if (!complete) throw new StatusError("UNAVAILABLE", "the node ended the copy before it was complete");
}

export async function* copyIn(
  deps: StreamDeps,
  requests: AsyncIterable<CopyInRequest>,
  signal: AbortSignal,
): AsyncGenerator<CopyInResponse> {
  const input = requests[Symbol.asyncIterator]();
  const open = await firstMessage(input, "a copy");
  const task = await runningTask(deps, open, "cp");
  const kind = { copyIn: create(StreamCopyInSchema, { taskUid: task.uid, path: open.path }) };
  await using stream = await openOnNode(deps.bus, task, kind, signal);
  let finished = false;
  yield* relay(input, stream, {
    async take({ message }: CopyInRequest) {
      if (message.case === "data") await stream.write(message.value);
      else if (message.case === "finished") {
        finished = true;
        stream.closeInput();
      }
    },
    atEnd() {
      if (finished) return;
      const text = "the archive was cut short: the caller ended the call before it sent `finished`";
      stream.fail(new StatusError("ABORTED", text, { reason: "ARCHIVE_INCOMPLETE" }));
    },
    answer: (event) =>
      event.kind === "done" ? create(CopyInResponseSchema, { files: event.files, bytes: event.bytes }) : undefined,
  });
}
