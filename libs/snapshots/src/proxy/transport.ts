/**
 * gRPC as the proxies need it: unary calls and one server stream, over a unix socket, with containerd's namespace header.
 * grpc-js is loaded at the first use, since most hosts have no proxy.
 */
import type { Client, Metadata, MethodDefinition, ServiceError } from "@grpc/grpc-js";
import {
  create,
  fromBinary,
  toBinary,
  type DescMethod,
  type DescMethodServerStreaming,
  type DescMethodUnary,
  type DescMessage,
  type Message,
  type MessageInitShape,
  type MessageShape,
} from "@bufbuild/protobuf";
import { StatusError, STATUS_CODES } from "@berth/base";

export const NAMESPACE_HEADER = "containerd-namespace";

/** A remote snapshotter may fetch or count within a call. */
const CALL_MS = 300_000;
const MAX_MESSAGE_BYTES = 64 * 1024 * 1024;
/** A server that was restarted is found again quickly. */
const RECONNECT_MS = { first: 100, longest: 2_000 } as const;

export function methodDefinition(method: DescMethod): MethodDefinition<Message, Message> {
  return {
    path: `/${method.parent.typeName}/${method.name}`,
    requestStream: false,
    responseStream: method.methodKind === "server_streaming",
    requestSerialize: (message) => Buffer.from(toBinary(method.input, message)),
    requestDeserialize: (bytes) => fromBinary(method.input, bytes),
    responseSerialize: (message) => Buffer.from(toBinary(method.output, message)),
    responseDeserialize: (bytes) => fromBinary(method.output, bytes),
  };
}

/** `/run/x.sock`, `unix:/run/x.sock` and `unix:///run/x.sock` are the same. */
export function socketPath(address: string): string {
  return address.replace(/^unix:(\/\/)?(?=\/)/, "");
}

export interface Connection extends Disposable {
  call<I extends DescMessage, O extends DescMessage>(
    method: DescMethodUnary<I, O>,
    request: MessageInitShape<I>,
    timeoutMs?: number,
  ): Promise<MessageShape<O>>;
  stream<I extends DescMessage, O extends DescMessage>(
    method: DescMethodServerStreaming<I, O>,
    request: MessageInitShape<I>,
  ): AsyncIterable<MessageShape<O>>;
}

/** Nothing is connected until the first call. Errors are StatusErrors without a reason of the other side's. */
export async function connectTo(address: string, namespace: string): Promise<Connection> {
  const { default: grpc } = await import("@grpc/grpc-js");
  const client = new grpc.Client(`unix:${socketPath(address)}`, grpc.credentials.createInsecure(), {
    "grpc.max_receive_message_length": MAX_MESSAGE_BYTES,
    "grpc.initial_reconnect_backoff_ms": RECONNECT_MS.first,
    "grpc.max_reconnect_backoff_ms": RECONNECT_MS.longest,
  });
  const metadata = new grpc.Metadata();
  metadata.set(NAMESPACE_HEADER, namespace);
  return {
    call: (method, request, timeoutMs = CALL_MS) =>
      unary(client, metadata, { method, request: create(method.input, request), timeoutMs, address }) as Promise<never>,
    stream: (method, request) =>
      serverStream(client, metadata, method, create(method.input, request), address) as AsyncIterable<never>,
    [Symbol.dispose]: () => client.close(),
  };
}

interface Unary {
  readonly method: DescMethod;
  readonly request: Message;
  readonly timeoutMs: number;
  readonly address: string;
}

function unary(client: Client, metadata: Metadata, { method, request, timeoutMs, address }: Unary): Promise<Message> {
  const { path, requestSerialize, responseDeserialize } = methodDefinition(method);
  const { promise, resolve, reject } = Promise.withResolvers<Message>();
  const options = { deadline: Date.now() + timeoutMs };
  client.makeUnaryRequest(path, requestSerialize, responseDeserialize, request, metadata, options, (error, reply) =>
    error === null ? resolve(reply!) : reject(fromGrpc(error, address)),
  );
  return promise;
}

async function* serverStream(
  client: Client,
  metadata: Metadata,
  method: DescMethod,
  request: Message,
  address: string,
): AsyncGenerator<Message> {
  const { path, requestSerialize, responseDeserialize } = methodDefinition(method);
  const options = { deadline: Date.now() + CALL_MS };
  const call = client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, request, metadata, options);
  try {
    for await (const message of call) yield message as Message;
  } catch (error) {
    throw fromGrpc(error, address);
  } finally {
    call.cancel();
  }
}

function fromGrpc(error: unknown, address: string): StatusError {
  const { code, details } = error as Partial<ServiceError>;
  const name = typeof code === "number" ? STATUS_CODES[code] : undefined;
  if (name === undefined || name === "OK") return StatusError.from(error);
  const reason = name === "UNAVAILABLE" ? { reason: "SNAPSHOT_PROXY_UNREACHABLE" } : {};
  const text = name === "UNAVAILABLE" ? `${address}: ${details}` : (details ?? "");
  return new StatusError(name, text, { ...reason, cause: error });
}
