/** The controller's end of interactive streams: opening them and reading what the agent sends. */
import { randomUUID } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { abortReason, StatusError, throwIfAborted } from "@berth/base";
import {
  StreamOpenSchema,
  TerminalSizeSchema,
  type LogsResponse,
  type StreamExec,
  type StreamLogs,
  type StreamOpen,
} from "@berth/proto";
import type { FrameBus } from "../bus.ts";
import { statusOf } from "../errors.ts";
import { streamOpenEndpoint, streamSubject } from "../subjects.ts";
import { DEFAULT_WINDOW_BYTES, StreamEnd, type FrameBody, type StreamTimings } from "./stream-end.ts";

export type StreamEvent =
  | { readonly kind: "started" }
  | { readonly kind: "stdout" | "stderr"; readonly data: Uint8Array }
  | { readonly kind: "log"; readonly entry: LogsResponse }
  | { readonly kind: "exit"; readonly exitCode: number };

export interface OpenStreamOptions extends StreamTimings {
  readonly signal?: AbortSignal | undefined;
  readonly windowBytes?: number;
  readonly openTimeoutMs?: number;
}

/** An open stream. Disposing it (or firing the signal) ends it on the node, too, with its process. */
export interface OpenedStream extends AsyncDisposable {
  /**
   * What the agent sends, to be read once; reading gives the agent credit to send more. Ends after the exit of an exec or
   * the last log line. @throws DATA_LOSS `STREAM_FRAME_LOST`, UNAVAILABLE `STREAM_LOST`, or what the agent reported.
   */
  readonly events: AsyncIterable<StreamEvent>;
  /** Standard input; resolves when sent, which waits for the process to read. */
  write(data: Uint8Array): Promise<void>;
  closeInput(): void;
  resize(columns: number, rows: number): void;
}

export type StreamKind = { readonly exec: StreamExec } | { readonly logs: StreamLogs };

/** @throws what the agent answered (NOT_FOUND, FAILED_PRECONDITION…); UNAVAILABLE when the node cannot be reached. */
export async function openStream(
  bus: FrameBus,
  node: string,
  open: StreamKind,
  options: OpenStreamOptions = {},
): Promise<OpenedStream> {
  throwIfAborted(options.signal);
  const streamId = randomUUID();
  const windowBytes = options.windowBytes ?? DEFAULT_WINDOW_BYTES;
  const end = new StreamEnd({
    ...options,
    bus,
    sendSubject: streamSubject(node, streamId, "down"),
    receiveSubject: streamSubject(node, streamId, "up"),
    receiveWindowBytes: windowBytes,
    role: "opener",
  });
  try {
    const kind: StreamOpen["kind"] =
      "exec" in open ? { case: "exec", value: open.exec } : { case: "logs", value: open.logs };
    const reply = await bus.request(
      streamOpenEndpoint,
      node,
      create(StreamOpenSchema, { streamId, kind, windowBytes }),
      { timeoutMs: options.openTimeoutMs ?? 10_000, signal: options.signal },
    );
    if (reply.errorCode !== "") throw statusOf(reply.errorCode, reply.errorMessage);
    end.addCredit(reply.windowBytes);
  } catch (error) {
    // The agent may have opened it all the same: tell it that nobody reads.
    const status = StatusError.from(error);
    end.fail(status, { tell: true });
    throw status;
  }
  return opened(end, options.signal);
}

function opened(end: StreamEnd, signal: AbortSignal | undefined): OpenedStream {
  const cancel = (): void => {
    const reason = signal?.aborted ? abortReason(signal) : new StatusError("CANCELLED", "stream: closed by its reader");
    end.fail(reason, { tell: true });
  };
  if (signal?.aborted) cancel();
  signal?.addEventListener("abort", cancel, { once: true, signal: end.signal });
  return {
    events: events(end, cancel),
    write: (data) => end.sendData(data, (part) => ({ case: "stdin", value: part })),
    closeInput: () => end.send({ case: "halfClose", value: true }),
    resize: (columns, rows) => end.send({ case: "resize", value: create(TerminalSizeSchema, { columns, rows }) }),
    async [Symbol.asyncDispose]() {
      cancel();
    },
  };
}

async function* events(end: StreamEnd, cancel: () => void): AsyncGenerator<StreamEvent> {
  try {
    for (;;) {
      const body = await end.next();
      const event = body === undefined ? undefined : toEvent(body);
      if (body === undefined || body.case === "halfClose") return;
      if (event !== undefined) yield event;
    }
  } finally {
    cancel();
  }
}

function toEvent(body: FrameBody): StreamEvent | undefined {
  if (body.case === "started") return { kind: "started" };
  if (body.case === "stdout" || body.case === "stderr") return { kind: body.case, data: body.value };
  if (body.case === "log") return { kind: "log", entry: body.value };
  if (body.case === "exitCode") return { kind: "exit", exitCode: body.value };
  return undefined;
}
