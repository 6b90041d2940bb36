/**
 * Serves implementations by gRPC.
 *
 * A handler's signal fires when the client cancels, its deadline passes, or the server ends; writing to a client that does
 * not read waits. Closing stops accepting, lets calls finish within `graceMs`, then cancels the rest.
 */
import type { EventEmitter } from "node:events";
import {
  Metadata,
  Server,
  ServerCredentials,
  type sendUnaryData,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type ServiceDefinition,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import type { DescMethod, Message } from "@bufbuild/protobuf";
import { StatusError, withSignal } from "@berth/base";
import { newCall, type Call, type Invoker } from "../invoker.ts";
import { methodDefinition } from "./codec.ts";
import { bindSocket, removeSocket } from "./unix-socket.ts";
import { codeNumber, encodeTrailer, ERROR_TRAILER, REQUEST_ID_TRAILER, statusMessage } from "./status.ts";

const DEADLINE_SLACK_MS = 50;

export interface GrpcServer extends AsyncDisposable {
  /** 0 for a unix socket. */
  readonly port: number;
}

/** Where to listen: an address, or a unix socket that only its owner may open. */
export type GrpcAddress =
  | {
      readonly host: string;
      /** 0: any free port. */
      readonly port: number;
    }
  | { readonly socketPath: string };

export type GrpcServerConfig = GrpcAddress & GrpcServerLimits;

export interface GrpcServerLimits {
  readonly maxRequestBytes?: number;
  /** How long calls in flight may go on when the server ends. */
  readonly graceMs?: number;
}

type AnyCall = ServerUnaryCall<Message, Message> | ServerWritableStream<Message, Message> | Duplex;
type Duplex = ServerDuplexStream<Message, Message>;
type Writable = ServerWritableStream<Message, Message> | Duplex;

/** @throws UNAVAILABLE `LISTEN_FAILED` when the address cannot be taken */
export async function serveGrpc(deps: { readonly invoker: Invoker }, config: GrpcServerConfig): Promise<GrpcServer> {
  const ending = new AbortController();
  const server = new Server({ "grpc.max_receive_message_length": config.maxRequestBytes ?? 1024 * 1024 });
  for (const { service } of deps.invoker.implementations) {
    const definition: Record<string, ServiceDefinition[string]> = {};
    const handlers: UntypedServiceImplementation = {};
    for (const method of service.methods) {
      definition[method.localName] = methodDefinition(method) as ServiceDefinition[string];
      handlers[method.localName] = handlerFor(deps.invoker, method, ending.signal);
    }
    server.addService(definition, handlers);
  }
  const port = await bind(server, config);
  let closing: Promise<void> | undefined;
  return {
    port,
    [Symbol.asyncDispose]: () =>
      (closing ??= close(server, ending, { graceMs: 5_000, ...config }, deps.invoker.program)),
  };
}

async function bind(server: Server, at: GrpcAddress): Promise<number> {
  if ("socketPath" in at) {
    await bindSocket(at.socketPath, (path) => bindTo(server, `unix:${path}`));
    return 0;
  }
  const { host, port } = at;
  const address = host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
  try {
    return await bindTo(server, address);
  } catch (error) {
    const message = `gRPC cannot listen on ${address}; is another controller running? choose another listen.grpc`;
    throw new StatusError("UNAVAILABLE", message, { reason: "LISTEN_FAILED", cause: error });
  }
}

function bindTo(server: Server, address: string): Promise<number> {
  return new Promise((resolve, reject) => {
    server.bindAsync(address, ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    );
  });
}

/** Watches have no end of their own, so they are told at once; other calls get the grace. */
async function close(
  server: Server,
  ending: AbortController,
  config: GrpcAddress & { readonly graceMs: number },
  program: string,
): Promise<void> {
  if ("socketPath" in config) await removeSocket(config.socketPath);
  const drained = new Promise<void>((resolve) => server.tryShutdown(() => resolve()));
  ending.abort(new StatusError("UNAVAILABLE", `the ${program} is stopping; try again`, { reason: "STOPPING" }));
  const force = setTimeout(() => server.forceShutdown(), config.graceMs);
  await drained;
  clearTimeout(force);
}

function handlerFor(invoker: Invoker, method: DescMethod, ending: AbortSignal): UntypedServiceImplementation[string] {
  switch (method.methodKind) {
    case "unary":
      return (raw: ServerUnaryCall<Message, Message>, reply: sendUnaryData<Message>) =>
        void answerUnary(invoker, method, raw, reply);
    case "server_streaming":
      return (raw: ServerWritableStream<Message, Message>) =>
        void answerStream(raw, callOf(method, raw, ending), (call) => invoker.serverStream(call, () => raw.request));
    case "bidi_streaming":
      return (raw: Duplex) => void answerBidi(invoker, method, raw, ending);
    case "client_streaming":
      throw new StatusError("UNIMPLEMENTED", `${method.name}: client streaming is not served`);
  }
}

async function answerUnary(
  invoker: Invoker,
  method: DescMethod,
  raw: ServerUnaryCall<Message, Message>,
  reply: sendUnaryData<Message>,
): Promise<void> {
  const call = callOf(method, raw);
  try {
    reply(null, await invoker.unary(call, () => raw.request), trailers(call));
  } catch (error) {
    reply(grpcError(StatusError.from(error), call));
  } finally {
    answered(raw);
  }
}

function answerBidi(invoker: Invoker, method: DescMethod, raw: Duplex, ending: AbortSignal): Promise<void> {
  const call = callOf(method, raw, ending);
  return answerStream(raw, call, () => invoker.bidiStream(call, requestsOf(raw, call.signal)));
}

async function* requestsOf(raw: Duplex, signal: AbortSignal): AsyncGenerator<Message> {
  // Leaving this loop must not destroy the writing half.
  const messages = raw.iterator({ destroyOnReturn: false });
  for (;;) {
    const next = (await withSignal(messages.next(), signal)) as IteratorResult<Message, undefined>;
    if (next.done === true) return;
    yield next.value;
  }
}

async function answerStream(raw: Writable, call: Call, start: (call: Call) => AsyncIterable<Message>): Promise<void> {
  try {
    for await (const message of start(call)) {
      if (!raw.write(message)) await writable(raw, call.signal);
    }
    raw.end(trailers(call));
  } catch (error) {
    raw.emit("error", grpcError(StatusError.from(error), call));
  } finally {
    answered(raw);
  }
}

async function writable(raw: Writable, signal: AbortSignal): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  raw.once("drain", resolve);
  try {
    await withSignal(promise, signal);
  } finally {
    raw.removeListener("drain", resolve);
  }
}

function callOf(method: DescMethod, raw: AnyCall, ending?: AbortSignal): Call {
  const gone = new AbortController();
  eventsOf(raw).on("cancelled", () => gone.abort(cancelReason(raw)));
  const [authorization] = raw.metadata.get("authorization");
  return newCall({
    method,
    transport: "grpc",
    authorization: authorization?.toString(),
    signal: ending === undefined ? gone.signal : AbortSignal.any([gone.signal, ending]),
  });
}

/** The end of every call's stream is said to be its cancellation; of one that was answered there is nothing to cancel. */
function answered(raw: AnyCall): void {
  eventsOf(raw).removeAllListeners("cancelled");
}

const eventsOf = (raw: AnyCall): EventEmitter => raw;

function cancelReason(raw: AnyCall): StatusError {
  const deadline = raw.getDeadline();
  const atMs = typeof deadline === "number" ? deadline : deadline.getTime();
  // The caller's clock began before ours: its cancellation at the deadline may come a little before we reach it.
  if (atMs - DEADLINE_SLACK_MS <= Date.now())
    return new StatusError("DEADLINE_EXCEEDED", "the caller's deadline has passed");
  return new StatusError("CANCELLED", "the caller has cancelled the call");
}

function trailers(call: Call): Metadata {
  const metadata = new Metadata();
  metadata.set(REQUEST_ID_TRAILER, call.requestId);
  return metadata;
}

function grpcError(error: StatusError, call: Call): Error & { code: number; details: string; metadata: Metadata } {
  const metadata = trailers(call);
  metadata.set(ERROR_TRAILER, encodeTrailer(error));
  const details = statusMessage(error);
  return Object.assign(new Error(details), { code: codeNumber(error.code), details, metadata });
}
