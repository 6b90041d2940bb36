/** Interactive streams: commands in running tasks, and their logs. */
import { once } from "node:events";
import { create } from "@bufbuild/protobuf";
import { timestampFromDate, timestampMs } from "@bufbuild/protobuf/wkt";
import { aborted, StatusError } from "@berth/base";
import type { ServedStream, StreamHandlers } from "@berth/bus";
import { LogsResponseSchema, type StreamExec, type StreamLogs } from "@berth/proto";
import { readLog, type ExecProcess, type ExecRequest, type LogLine, type ReadLogOptions } from "@berth/runtime";
import type { Engine, TaskLog } from "../../engine/engine.ts";

export function streamHandlers(engine: Pick<Engine, "exec" | "log">): StreamHandlers {
  return {
    async exec(open) {
      const request = execRequest(open);
      // Begun before the answer, so that "not running" and "no such program" are the answer.
      const process = await engine.exec(open.taskUid, request);
      return (stream) => runExec(process, stream, open);
    },
    async logs(open) {
      const log = await engine.log(open.taskUid, open.previous);
      return (stream) => sendLogs(log, open, stream);
    },
  };
}

function execRequest({ open }: StreamExec): ExecRequest {
  if (open === undefined || open.command.length === 0) {
    throw StatusError.invalid([{ field: "open.command", description: "is empty" }]);
  }
  return {
    args: open.command,
    env: open.env.map(({ name, value }) => `${name}=${value}`),
    ...(open.workdir === "" ? {} : { cwd: open.workdir }),
    ...(open.user === "" ? {} : { user: open.user }),
    terminal: open.terminal,
    ...(open.size === undefined ? {} : { columns: open.size.columns, rows: open.size.rows }),
  };
}

async function runExec(process: ExecProcess, stream: ServedStream, { open }: StreamExec): Promise<number> {
  await using _process = process;
  void aborted(stream.signal).then(() => process[Symbol.asyncDispose]());
  stream.onResize((columns, rows) => process.resize(columns, rows));
  stream.started();
  if (open?.stdin === true) void feed(process, stream);
  else process.stdin.end();
  const outputs = [
    drain(process.stdout, (data) => stream.stdout(data)),
    ...(open?.terminal === true ? [] : [drain(process.stderr, (data) => stream.stderr(data))]),
  ];
  await Promise.all(outputs);
  return await process.exitCode;
}

/** Input until its end; a process that no longer reads is no fault of the stream. */
async function feed(process: ExecProcess, stream: ServedStream): Promise<void> {
  const { stdin } = process;
  stdin.on("error", () => {});
  try {
    for await (const chunk of stream.input) {
      if (!stdin.write(chunk)) await once(stdin, "drain", { signal: stream.signal });
    }
  } catch {
    // The stream broke: its signal ends the process.
  }
  stdin.end();
}

async function drain(source: NodeJS.ReadableStream, send: (data: Uint8Array) => Promise<void>): Promise<void> {
  for await (const chunk of source) await send(chunk as Buffer);
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
