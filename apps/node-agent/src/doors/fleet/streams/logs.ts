/** A task's log, from any of its executions that is kept. */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate, timestampMs } from "@bufbuild/protobuf/wkt";
import type { ServedStream } from "@berth/bus";
import { LogsResponseSchema, type StreamLogs } from "@berth/proto";
import { readLog, type LogLine, type ReadLogOptions } from "@berth/runtime";
import type { Engine, TaskLog } from "../../../engine/engine.ts";

export async function openLogs(
  engine: Pick<Engine, "log">,
  open: StreamLogs,
): Promise<(stream: ServedStream) => Promise<void>> {
  const log = await engine.log(open.taskUid, open.previous);
  return (stream) => sendLogs(log, open, stream);
}

function logOptions(open: StreamLogs, ended: AbortSignal, signal: AbortSignal): ReadLogOptions {
  const { tail, since } = open;
  return {
    ...(tail === undefined || tail < 0 ? {} : { tail }),
    ...(since === undefined ? {} : { sinceMs: timestampMs(since) }),
    follow: open.follow,
    ended,
    signal,
  };
}

async function sendLogs(log: TaskLog, open: StreamLogs, stream: ServedStream): Promise<void> {
  using held = log;
  const options = logOptions(open, held.ended, stream.signal);
  for await (const line of readLog(held.path, options)) await stream.log(toResponse(line));
}

const NEWLINE = Buffer.from("\n");

function toResponse(line: LogLine): ReturnType<typeof create<typeof LogsResponseSchema>> {
  return create(LogsResponseSchema, {
    time: timestampFromDate(new Date(line.atMs)),
    stream: line.stream,
    data: line.complete ? Buffer.concat([line.text, NEWLINE]) : line.text,
  });
}
