/** The controller's end of interactive streams: opening them and reading what the agent sends. */
import { randomUUID } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { abortReason, StatusError, throwIfAborted } from "@berth/base";
import {
  StreamOpenSchema,
  TerminalSizeSchema,
  type LogsResponse,
  type StreamAttach,
  type StreamCopyIn,
  type StreamCopyOut,
  type StreamExec,
  type StreamForward,
  type StreamLogs,
  type StreamOpen,
} from "@berth/proto";
import type { FrameBus } from "../bus.ts";
import { statusOf } from "../errors.ts";
import { streamOpenEndpoint, streamSubject } from "../subjects.ts";
import {
  BULK_WINDOW_BYTES,
  DEFAULT_WINDOW_BYTES,
  StreamEnd,
  type FrameBody,
  type StreamTimings,
} from "./stream-end.ts";

export type StreamEvent =
  | { readonly kind: "started" }
  | { readonly kind: "stdout" | "stderr"; readonly data: Uint8Array }
  | { readonly kind: "log"; readonly entry: LogsResponse }
  | { readonly kind: "exit"; readonly exitCode: number }
  /** Of a forwarded connection: the other side has sent all. */
  | { readonly kind: "closed" }
  /** The last of a copy or a forwarded connection. */
  | { readonly kind: "done"; readonly files: bigint; readonly bytes: bigint };

export interface OpenStreamOptions extends StreamTimings {
  readonly signal?: AbortSignal | undefined;
  readonly windowBytes?: number;
  readonly openTimeoutMs?: number;
}

/** An open stream. Disposing it (or firing the signal) ends it on the node, too, with its process. */
export interface OpenedStream extends AsyncDisposable {
  /**
   * What the agent sends, to be read once; reading gives the agent credit to send more. Ends after the exit of a process,
   * the last log line, or the end of a copy or a connection. @throws DATA_LOSS `STREAM_FRAME_LOST`, UNAVAILABLE `STREAM_LOST`, or what the agent reported.
   */
  readonly events: AsyncIterable<StreamEvent>;
  /** Standard input; resolves when sent, which waits for the process to read. */
  write(data: Uint8Array): Promise<void>;
  closeInput(): void;
  resize(columns: number, rows: number): void;
  /** Ends it on the node, too; `events` throws this. */
  fail(error: StatusError): void;
}

export type StreamKind =
  | { readonly exec: StreamExec }
  | { readonly logs: StreamLogs }
  | { readonly attach: StreamAttach }
  | { readonly forward: StreamForward }
  | { readonly copyOut: StreamCopyOut }
  | { readonly copyIn: StreamCopyIn };

type OpenKind = Exclude<StreamOpen["kind"], { case: undefined }>;

/** The frame after which the agent sends no more. */
const LAST_FRAME = {
  exec: "exitCode",
  attach: "exitCode",
  logs: "halfClose",
  forward: "done",
  copyOut: "done",
  copyIn: "done",
} as const satisfies Record<OpenKind["case"], FrameBody["case"]>;

/** @throws what the agent answered (NOT_FOUND, FAILED_PRECONDITION…); UNAVAILABLE when the node cannot be reached. */
export async function openStream(
  bus: FrameBus,
  node: string,
  open: StreamKind,
  options: OpenStreamOptions = {},
): Promise<OpenedStream> {
  throwIfAborted(options.signal);
  const streamId = randomUUID();
  const kind = kindOf(open);
  const windowBytes = options.windowBytes ?? windowOf(kind.case);
  const end = new StreamEnd({
    ...options,
    bus,
    sendSubject: streamSubject(node, streamId, "down"),
    receiveSubject: streamSubject(node, streamId, "up"),
    receiveWindowBytes: windowBytes,
    role: "opener",
    endsWith: LAST_FRAME[kind.case],
  });
  try {
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
  return opened(end, LAST_FRAME[kind.case], options.signal);
}

/** How much one end lets the other send ahead. */
export function windowOf(kind: StreamOpen["kind"]["case"]): number {
  return kind === "copyIn" || kind === "copyOut" || kind === "exec" ? BULK_WINDOW_BYTES : DEFAULT_WINDOW_BYTES;
}

function kindOf(open: StreamKind): OpenKind {
  const [[name, value]] = Object.entries(open) as [[OpenKind["case"], OpenKind["value"]]];
  return { case: name, value } as OpenKind;
}

function opened(end: StreamEnd, last: FrameBody["case"], signal: AbortSignal | undefined): OpenedStream {
  const cancel = (): void => {
    const reason = signal?.aborted ? abortReason(signal) : new StatusError("CANCELLED", "stream: closed by its reader");
    end.fail(reason, { tell: true });
  };
  if (signal?.aborted) cancel();
  signal?.addEventListener("abort", cancel, { once: true, signal: end.signal });
  return {
    events: events(end, last, cancel),
    write: (data) => end.sendData(data, (part) => ({ case: "stdin", value: part })),
    closeInput: () => end.send({ case: "halfClose", value: true }),
    resize: (columns, rows) => end.send({ case: "resize", value: create(TerminalSizeSchema, { columns, rows }) }),
    fail: (error) => end.fail(error, { tell: true }),
    async [Symbol.asyncDispose]() {
      cancel();
    },
  };
}

async function* events(end: StreamEnd, last: FrameBody["case"], cancel: () => void): AsyncGenerator<StreamEvent> {
  try {
    for (;;) {
      const body = await end.next();
      if (body === undefined || (body.case === "halfClose" && last === "halfClose")) return;
      const event = toEvent(body);
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
  if (body.case === "halfClose") return { kind: "closed" };
  if (body.case === "done") return { kind: "done", files: body.value.files, bytes: body.value.bytes };
  return undefined;
}
