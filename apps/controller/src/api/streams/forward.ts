/** One TCP connection into a task: both halves, each closed on its own. */
import { create } from "@bufbuild/protobuf";
import {
  PortForwardResponseSchema,
  StreamForwardSchema,
  type PortForwardRequest,
  type PortForwardResponse,
} from "@berth/proto";
import { firstMessage, openOnNode, relay, runningTask, type Relay, type StreamDeps } from "./relay.ts";

export async function* portForward(
  deps: StreamDeps,
  requests: AsyncIterable<PortForwardRequest>,
  signal: AbortSignal,
): AsyncGenerator<PortForwardResponse> {
  const input = requests[Symbol.asyncIterator]();
  const open = await firstMessage(input, "a port-forward");
  const task = await runningTask(deps, open, "port-forward");
  const kind = { forward: create(StreamForwardSchema, { taskUid: task.uid, port: open.port }) };
  await using stream = await openOnNode(deps.bus, task, kind, signal);
  yield* relay(input, stream, CONNECTION);
}

const CONNECTION: Relay<PortForwardRequest, PortForwardResponse> = {
  async take({ message }, stream) {
    if (message.case === "data") await stream.write(message.value);
    else if (message.case === "closed") stream.closeInput();
  },
  // The message says the same; whoever ends the call without it has closed its half as well.
  atEnd: (stream) => stream.closeInput(),
  answer(event) {
    if (event.kind === "started") return response({ case: "connected", value: true });
    if (event.kind === "stdout") return response({ case: "data", value: event.data });
    if (event.kind === "closed") return response({ case: "closed", value: true });
    return undefined;
  },
};

function response(message: PortForwardResponse["message"]): PortForwardResponse {
  return create(PortForwardResponseSchema, { message });
}
