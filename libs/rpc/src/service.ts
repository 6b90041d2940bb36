/**
 * The shape of a service's implementation, typed by its descriptor and the same for both transports.
 *
 * A handler gets the request and a {@link CallContext}; what it throws becomes the caller's status. A streaming handler is
 * an async generator: it is pulled only as fast as the caller reads, and ended (`return`) when the caller goes away.
 */
import type {
  DescMethod,
  DescMethodBiDiStreaming,
  DescMethodServerStreaming,
  DescMethodUnary,
  DescService,
  MessageShape,
} from "@bufbuild/protobuf";

/** Who calls. */
export interface Principal {
  /** The token's id, not its secret. */
  readonly tokenId: string;
  /** For people: the token's name. */
  readonly name: string;
}

export interface CallContext {
  /** Fires when the caller goes away, the deadline passes, or the server ends. Its reason is a StatusError. */
  readonly signal: AbortSignal;
  /** undefined for the methods that are open to everybody. */
  readonly principal: Principal | undefined;
  /** Of this call, also in the server's log and in the caller's trailers or headers. */
  readonly requestId: string;
}

export type Handler<M> =
  M extends DescMethodUnary<infer I, infer O>
    ? (request: MessageShape<I>, context: CallContext) => Promise<MessageShape<O>>
    : M extends DescMethodServerStreaming<infer I, infer O>
      ? (request: MessageShape<I>, context: CallContext) => AsyncIterable<MessageShape<O>>
      : M extends DescMethodBiDiStreaming<infer I, infer O>
        ? (requests: AsyncIterable<MessageShape<I>>, context: CallContext) => AsyncIterable<MessageShape<O>>
        : never;

export type Handlers<S extends DescService> = { readonly [K in keyof S["method"]]: Handler<S["method"][K]> };

/** A service and what answers for it. */
export interface Implementation {
  readonly service: DescService;
  readonly handlers: Readonly<Record<string, unknown>>;
}

/** Pairs a service's descriptor with its handlers; the compiler checks that every method is there. */
export function implement<S extends DescService>(service: S, handlers: Handlers<S>): Implementation {
  return { service, handlers };
}

/** `berth.v1.TaskService/GetTask`, as gRPC, logs and metrics call it. */
export function methodName(method: DescMethod): string {
  return `${method.parent.typeName}/${method.name}`;
}
