/**
 * A typed client of one service. grpc-js is loaded at the first call, so that a command line that never calls starts fast.
 *
 * Errors are the server's StatusErrors. A server stream that is left early (`break`) is cancelled; in a bidirectional call
 * requests are pulled only as fast as they are sent.
 */
import type { Client, ClientDuplexStream, ClientReadableStream, Metadata } from "@grpc/grpc-js";
import {
  create,
  type DescMethod,
  type DescMethodBiDiStreaming,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  type DescService,
  type Message,
  type MessageInitShape,
  type MessageShape,
} from "@bufbuild/protobuf";
import { throwIfAborted } from "@berth/base";
import { methodDefinition } from "./codec.ts";
import { errorFromGrpc } from "./status.ts";

export interface GrpcClientOptions {
  /** `host:port` or `unix:/path`. */
  readonly endpoint: string;
  readonly token?: string | undefined;
  /** Cancels every call that is given no signal of its own. */
  readonly signal?: AbortSignal | undefined;
}

export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
  /** From now. Default: none for streams, 30 s for the others. */
  readonly timeoutMs?: number | undefined;
}

export type ClientMethod<M> =
  M extends DescMethodUnary<infer I, infer O>
    ? (request: MessageInitShape<I>, options?: CallOptions) => Promise<MessageShape<O>>
    : M extends DescMethodServerStreaming<infer I, infer O>
      ? (request: MessageInitShape<I>, options?: CallOptions) => AsyncIterable<MessageShape<O>>
      : M extends DescMethodBiDiStreaming<infer I, infer O>
        ? (requests: AsyncIterable<MessageInitShape<I>>, options?: CallOptions) => AsyncIterable<MessageShape<O>>
        : never;

export type GrpcClient<S extends DescService> = {
  readonly [K in keyof S["method"]]: ClientMethod<S["method"][K]>;
} & Disposable;

const DEFAULT_TIMEOUT_MS = 30_000;
const MAX_REPLY_BYTES = 64 * 1024 * 1024;
/** A server that was restarted is found again quickly. */
const RECONNECT_MS = { first: 200, longest: 2_000 } as const;
/** A peer that vanished without a word is noticed, also by a watch that nothing happens on. */
const KEEPALIVE_MS = { idle: 30_000, answer: 10_000 } as const;

/** What the server may send ahead: HTTP/2's own 64 KiB would bound a stream to that much for each round trip. */
const WINDOW_BYTES = 1024 * 1024;

/** Nothing is connected until the first call. Clients of one endpoint share its connection. */
export function createGrpcClient<S extends DescService>(service: S, options: GrpcClientOptions): GrpcClient<S> {
  const connection = new Connection(options);
  const methods: Record<string | symbol, unknown> = { [Symbol.dispose]: () => connection.close() };
  for (const method of service.methods) methods[method.localName] = callerOf(connection, method);
  return methods as unknown as GrpcClient<S>;
}

function callerOf(connection: Connection, method: DescMethod): unknown {
  switch (method.methodKind) {
    case "unary":
      return (request: MessageInitShape<DescMethod["input"]>, options: CallOptions = {}) =>
        connection.unary(method, create(method.input, request), options);
    case "server_streaming":
      return (request: MessageInitShape<DescMethod["input"]>, options: CallOptions = {}) =>
        connection.serverStream(method, create(method.input, request), options);
    case "bidi_streaming":
      return (requests: AsyncIterable<MessageInitShape<DescMethod["input"]>>, options: CallOptions = {}) =>
        connection.bidiStream(method, requests, options);
    case "client_streaming":
      return undefined;
  }
}

interface Opened {
  readonly client: Client;
  readonly metadata: Metadata;
}

class Connection {
  readonly #options: GrpcClientOptions;
  #opened: Promise<Opened> | undefined;

  constructor(options: GrpcClientOptions) {
    this.#options = options;
  }

  close(): void {
    void this.#opened?.then(({ client }) => client.close());
    this.#opened = undefined;
  }

  #open(): Promise<Opened> {
    this.#opened ??= (async () => {
      const { default: grpc } = await import("@grpc/grpc-js");
      const client = new grpc.Client(this.#options.endpoint, grpc.credentials.createInsecure(), {
        "grpc.max_receive_message_length": MAX_REPLY_BYTES,
        "grpc.initial_reconnect_backoff_ms": RECONNECT_MS.first,
        "grpc.max_reconnect_backoff_ms": RECONNECT_MS.longest,
        "grpc-node.flow_control_window": WINDOW_BYTES,
        "grpc.keepalive_time_ms": KEEPALIVE_MS.idle,
        "grpc.keepalive_timeout_ms": KEEPALIVE_MS.answer,
      });
      const metadata = new grpc.Metadata();
      if (this.#options.token !== undefined) metadata.set("authorization", `Bearer ${this.#options.token}`);
      return { client, metadata };
    })();
    return this.#opened;
  }

  async unary(method: DescMethod, request: Message, options: CallOptions): Promise<Message> {
    const { client, metadata } = await this.#open();
    const signal = options.signal ?? this.#options.signal;
    throwIfAborted(signal);
    const { path, requestSerialize, responseDeserialize } = methodDefinition(method);
    const { promise, resolve, reject } = Promise.withResolvers<Message>();
    const deadline = Date.now() + (options.timeoutMs ?? DEFAULT_TIMEOUT_MS);
    const call = client.makeUnaryRequest(
      path,
      requestSerialize,
      responseDeserialize,
      request,
      metadata,
      { deadline },
      (error, reply) => (error === null ? resolve(reply!) : reject(errorFromGrpc(error, this.#options.endpoint))),
    );
    return await whileWatched(signal, call, () => promise);
  }

  async *serverStream(method: DescMethod, request: Message, options: CallOptions): AsyncGenerator<Message> {
    const { client, metadata } = await this.#open();
    const signal = options.signal ?? this.#options.signal;
    throwIfAborted(signal);
    const { path, requestSerialize, responseDeserialize } = methodDefinition(method);
    const settings = deadlineOf(options);
    const call = client.makeServerStreamRequest(
      path,
      requestSerialize,
      responseDeserialize,
      request,
      metadata,
      settings,
    );
    yield* readAll(call, signal, this.#options.endpoint);
  }

  async *bidiStream(
    method: DescMethod,
    requests: AsyncIterable<MessageInitShape<DescMethod["input"]>>,
    options: CallOptions,
  ): AsyncGenerator<Message> {
    const { client, metadata } = await this.#open();
    const signal = options.signal ?? this.#options.signal;
    throwIfAborted(signal);
    const { path, requestSerialize, responseDeserialize } = methodDefinition(method);
    const call = client.makeBidiStreamRequest(
      path,
      requestSerialize,
      responseDeserialize,
      metadata,
      deadlineOf(options),
    );
    const sending = sendAll(call, method, requests);
    try {
      yield* readAll(call, signal, this.#options.endpoint);
    } finally {
      sending.stop();
    }
  }
}

function deadlineOf({ timeoutMs }: CallOptions): { deadline?: number } {
  return timeoutMs === undefined ? {} : { deadline: Date.now() + timeoutMs };
}

async function whileWatched<T>(
  signal: AbortSignal | undefined,
  call: { cancel(): void },
  body: () => Promise<T>,
): Promise<T> {
  const cancel = (): void => call.cancel();
  signal?.addEventListener("abort", cancel, { once: true });
  try {
    return await body();
  } finally {
    signal?.removeEventListener("abort", cancel);
  }
}

type Readable = ClientReadableStream<Message> | ClientDuplexStream<Message, Message>;

async function* readAll(call: Readable, signal: AbortSignal | undefined, endpoint: string): AsyncGenerator<Message> {
  const cancel = (): void => call.cancel();
  signal?.addEventListener("abort", cancel, { once: true });
  // After a cancel grpc-js emits its error with nobody iterating any more.
  call.on("error", () => {});
  try {
    for await (const message of call.iterator({ destroyOnReturn: false })) yield message as Message;
  } catch (error) {
    throw errorFromGrpc(error, endpoint);
  } finally {
    signal?.removeEventListener("abort", cancel);
    call.cancel();
  }
}

/** Writes requests as they come; `stop` leaves the source once the call is over. */
function sendAll(
  call: ClientDuplexStream<Message, Message>,
  method: DescMethod,
  requests: AsyncIterable<MessageInitShape<DescMethod["input"]>>,
): { stop(): void } {
  const iterator = requests[Symbol.asyncIterator]();
  let stopped = false;
  const over = new Promise<void>((resolve) => call.once("status", () => resolve()).once("close", () => resolve()));
  const pump = async (): Promise<void> => {
    for (;;) {
      const next = await iterator.next();
      if (stopped) return;
      if (next.done === true) return void call.end();
      if (!call.write(create(method.input, next.value))) {
        await Promise.race([new Promise<void>((resolve) => call.once("drain", resolve)), over]);
      }
    }
  };
  pump().catch((error: unknown) => call.destroy(error instanceof Error ? error : new Error(String(error))));
  return {
    stop() {
      stopped = true;
      void iterator.return?.();
    },
  };
}
