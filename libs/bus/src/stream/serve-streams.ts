/** The agent's end of interactive streams: accepting them and running what they ask for. */
import { create } from "@bufbuild/protobuf";
import { StatusError, type Logger } from "@berth/base";
import {
  LogsResponseSchema,
  StreamDoneSchema,
  StreamOpenReplySchema,
  type LogsResponse,
  type StreamAttach,
  type StreamCopyIn,
  type StreamCopyOut,
  type StreamExec,
  type StreamForward,
  type StreamLogs,
  type StreamOpen,
  type StreamOpenReply,
} from "@berth/proto";
import type { FrameBus } from "../bus.ts";
import { streamOpenEndpoint, streamSubject } from "../subjects.ts";
import { windowOf } from "./open-stream.ts";
import { StreamEnd, type StreamTimings } from "./stream-end.ts";

/** What a running handler has of its stream. */
export interface ServedStream {
  /** Fires when the reader cancelled, was lost, or the agent stops: kill the process and return. */
  readonly signal: AbortSignal;
  /** Standard input, an archive, a connection's bytes, until the other end closes it. Throws when the stream breaks. */
  readonly input: AsyncIterable<Uint8Array>;
  onResize(listener: (columns: number, rows: number) => void): void;
  started(): void;
  /** Resolves when sent, which waits for the reader's credit. @throws why the stream ended. */
  stdout(data: Uint8Array): Promise<void>;
  stderr(data: Uint8Array): Promise<void>;
  log(entry: LogsResponse): Promise<void>;
  /** Of a forwarded connection: no more `stdout` will come, `input` goes on. */
  closeOutput(): void;
}

/** What a copy moved. */
export interface CopyTotals {
  readonly files: number;
  readonly bytes: number;
}

/**
 * Each handler works in two steps: the first looks whether the thing is there, and its error is the answer to the opener;
 * what it returns then runs on the open stream.
 */
export interface StreamHandlers {
  /** The second step resolves with the exit code. */
  exec(open: StreamExec): Promise<(stream: ServedStream) => Promise<number>>;
  /** The second step resolves after the last line. */
  logs(open: StreamLogs): Promise<(stream: ServedStream) => Promise<void>>;
  /** The second step resolves with the exit code of the task. */
  attach(open: StreamAttach): Promise<(stream: ServedStream) => Promise<number>>;
  /** The second step resolves when both halves are closed. */
  forward(open: StreamForward): Promise<(stream: ServedStream) => Promise<void>>;
  /** The second step sends an archive as `stdout`. */
  copyOut(open: StreamCopyOut): Promise<(stream: ServedStream) => Promise<CopyTotals>>;
  /** The second step takes `input` for an archive and resolves when all of it is written. */
  copyIn(open: StreamCopyIn): Promise<(stream: ServedStream) => Promise<CopyTotals>>;
}

export interface ServeStreamsOptions extends StreamTimings {
  readonly logger: Logger;
  readonly windowBytes?: number;
  /** Default 256: each connection of a port-forward is one. */
  readonly maxStreams?: number;
}

/** Serves until disposed; disposing ends the open streams and waits for their handlers. */
export function serveStreams(
  bus: FrameBus,
  node: string,
  handlers: StreamHandlers,
  options: ServeStreamsOptions,
): AsyncDisposable {
  const open = new Map<StreamEnd, Promise<void>>();
  const limit = options.maxStreams ?? 256;

  const accept = async (request: StreamOpen): Promise<StreamOpenReply> => {
    if (open.size >= limit) {
      throw new StatusError("RESOURCE_EXHAUSTED", `node ${node} has ${limit} streams open already`, {
        reason: "STREAMS_FULL",
      });
    }
    const run = await begin(handlers, request);
    const windowBytes = options.windowBytes ?? windowOf(request.kind.case);
    const { end, stream } = serverEnd(bus, node, request, windowBytes, options);
    const running = serveOne(end, stream, run, options.logger).finally(() => open.delete(end));
    open.set(end, running);
    return create(StreamOpenReplySchema, { windowBytes });
  };

  const serving = bus.serve(streamOpenEndpoint, { node }, async (request) => {
    try {
      return await accept(request);
    } catch (error) {
      const status = StatusError.from(error);
      return create(StreamOpenReplySchema, { errorCode: status.code, errorMessage: status.message });
    }
  });

  return {
    async [Symbol.asyncDispose]() {
      serving[Symbol.dispose]();
      const stopping = new StatusError("UNAVAILABLE", `the agent of node ${node} is stopping`);
      for (const end of open.keys()) end.fail(stopping, { tell: true });
      await Promise.all(open.values());
    },
  };
}

type Run = (stream: ServedStream, end: StreamEnd) => Promise<void>;

async function begin(handlers: StreamHandlers, { kind }: StreamOpen): Promise<Run> {
  switch (kind.case) {
    case "exec":
      return untilExit(await handlers.exec(kind.value));
    case "attach":
      return untilExit(await handlers.attach(kind.value));
    case "logs": {
      const logs = await handlers.logs(kind.value);
      return async (stream, end) => {
        await logs(stream);
        end.send({ case: "halfClose", value: true });
      };
    }
    case "forward": {
      const forward = await handlers.forward(kind.value);
      return untilDone(async (stream) => {
        await forward(stream);
        return { files: 0, bytes: 0 };
      });
    }
    case "copyOut":
      return untilDone(await handlers.copyOut(kind.value));
    case "copyIn":
      return untilDone(await handlers.copyIn(kind.value));
    case undefined:
      throw new StatusError("UNIMPLEMENTED", "stream: this agent does not know this kind of stream", {
        reason: "STREAM_KIND_UNKNOWN",
      });
  }
}

function untilExit(run: (stream: ServedStream) => Promise<number>): Run {
  return async (stream, end) => end.send({ case: "exitCode", value: await run(stream) });
}

function untilDone(run: (stream: ServedStream) => Promise<CopyTotals>): Run {
  return async (stream, end) => {
    const { files, bytes } = await run(stream);
    end.send({ case: "done", value: create(StreamDoneSchema, { files: BigInt(files), bytes: BigInt(bytes) }) });
  };
}

async function serveOne(end: StreamEnd, stream: ServedStream, run: Run, logger: Logger): Promise<void> {
  try {
    await run(stream, end);
    end.finish();
  } catch (error) {
    const status = StatusError.from(error);
    if (!end.signal.aborted) logger.debug({ error: status.message }, "stream ended with an error");
    end.fail(status, { tell: true });
  }
}

function serverEnd(
  bus: FrameBus,
  node: string,
  request: StreamOpen,
  windowBytes: number,
  timings: StreamTimings,
): { readonly end: StreamEnd; readonly stream: ServedStream } {
  let onResize: ((columns: number, rows: number) => void) | undefined;
  const end = new StreamEnd({
    ...timings,
    bus,
    sendSubject: streamSubject(node, request.streamId, "up"),
    receiveSubject: streamSubject(node, request.streamId, "down"),
    receiveWindowBytes: windowBytes,
    role: "server",
    onResize: (columns, rows) => onResize?.(columns, rows),
  });
  end.addCredit(request.windowBytes);
  const stream: ServedStream = {
    signal: end.signal,
    input: input(end),
    onResize: (listener) => {
      onResize = listener;
    },
    started: () => end.send({ case: "started", value: true }),
    stdout: (data) => end.sendData(data, (part) => ({ case: "stdout", value: part })),
    stderr: (data) => end.sendData(data, (part) => ({ case: "stderr", value: part })),
    log: (entry) => sendLog(end, entry),
    closeOutput: () => end.send({ case: "halfClose", value: true }),
  };
  return { end, stream };
}

function sendLog(end: StreamEnd, entry: LogsResponse): Promise<void> {
  const { stream, time } = entry;
  const init = time === undefined ? { stream } : { stream, time };
  return end.sendData(entry.data, (data) => ({ case: "log", value: create(LogsResponseSchema, { ...init, data }) }));
}

async function* input(end: StreamEnd): AsyncGenerator<Uint8Array> {
  for (;;) {
    const body = await end.next();
    if (body === undefined || body.case === "halfClose") return;
    if (body.case === "stdin") yield body.value;
  }
}
