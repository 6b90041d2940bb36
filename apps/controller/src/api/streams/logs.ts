/** A task's output, from its node. */
import { create } from "@bufbuild/protobuf";
import type { FrameBus } from "@berth/bus";
import { StreamLogsSchema, type LogsRequest, type LogsResponse } from "@berth/proto";
import type { TaskRow } from "@berth/store";
import { openOnNode } from "./relay.ts";

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
