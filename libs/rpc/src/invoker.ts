/**
 * One way into the handlers for both transports: interceptors before, the handler, interceptors after, and errors turned
 * into what a stranger may see.
 *
 * Invariants: `after` runs exactly once for every call whose `before` chain was begun, with the final code; an error that
 * is no StatusError never leaves the process in words (it may name tables or paths): the caller gets INTERNAL with the
 * request id, the log gets the error.
 */
import type { DescMethod, Message } from "@bufbuild/protobuf";
import { StatusError, throwIfAborted, uuidv7, type StatusCode } from "@berth/base";
import type { CallContext, Implementation, Principal } from "./service.ts";

export interface Call extends CallContext {
  readonly method: DescMethod;
  readonly transport: "grpc" | "http";
  /** What the caller sent as `Authorization`. */
  readonly authorization: string | undefined;
  readonly startedMs: number;
  principal: Principal | undefined;
}

export interface Outcome {
  readonly code: StatusCode | "OK";
  readonly durationMs: number;
  /** The error as it was thrown. */
  readonly error?: unknown;
}

export interface Interceptor {
  /** May refuse the call by throwing. */
  before?(call: Call): Promise<void> | void;
  /** Sees each request message; may refuse it by throwing. */
  request?(call: Call, message: Message): void;
  after?(call: Call, outcome: Outcome): void;
}

export function newCall(
  fields: Pick<Call, "method" | "transport" | "authorization" | "signal"> & { readonly requestId?: string | undefined },
): Call {
  return {
    ...fields,
    requestId: fields.requestId ?? uuidv7(),
    principal: undefined,
    startedMs: performance.now(),
  };
}

type UnaryHandler = (request: Message, context: CallContext) => Promise<Message>;
type StreamHandler = (request: Message | AsyncIterable<Message>, context: CallContext) => AsyncIterable<Message>;

export interface InvokerOptions {
  /** Puts foreign errors (a driver's) into our words; default: leaves them foreign. */
  readonly errorOf?: (error: unknown) => unknown;
  /** Who serves, in words to the caller. Default: controller. */
  readonly program?: string;
  /** Callers are this machine's own operators: they may see every error in its own words. */
  readonly callersAreTrusted?: boolean;
}

export class Invoker {
  readonly implementations: readonly Implementation[];
  readonly program: string;
  readonly #interceptors: readonly Interceptor[];
  readonly #options: InvokerOptions;

  constructor(
    implementations: readonly Implementation[],
    interceptors: readonly Interceptor[],
    options: InvokerOptions = {},
  ) {
    this.implementations = implementations;
    this.program = options.program ?? "controller";
    this.#interceptors = interceptors;
    this.#options = options;
  }

  /** @param read gives the request, once the caller is known; what it throws is the caller's fault */
  async unary(call: Call, read: () => Message): Promise<Message> {
    try {
      await this.#enter(call);
      const request = read();
      this.#see(call, request);
      const reply = await (this.#handler(call) as UnaryHandler)(request, call);
      this.#leave(call, undefined);
      return reply;
    } catch (error) {
      throw this.#leave(call, error);
    }
  }

  async *serverStream(call: Call, read: () => Message): AsyncGenerator<Message> {
    yield* this.#stream(call, () => {
      const request = read();
      this.#see(call, request);
      return request;
    });
  }

  async *bidiStream(call: Call, requests: AsyncIterable<Message>): AsyncGenerator<Message> {
    yield* this.#stream(call, () => this.#seeEach(call, requests));
  }

  async *#stream(call: Call, input: () => Message | AsyncIterable<Message>): AsyncGenerator<Message> {
    let ended = false;
    try {
      await this.#enter(call);
      yield* (this.#handler(call) as StreamHandler)(input(), call);
      ended = true;
      this.#leave(call, undefined);
    } catch (error) {
      ended = true;
      throw this.#leave(call, error);
    } finally {
      // Reached by `return` when the caller goes away between two messages.
      if (!ended) this.#leave(call, new StatusError("CANCELLED", "the caller went away"));
    }
  }

  async *#seeEach(call: Call, requests: AsyncIterable<Message>): AsyncGenerator<Message> {
    for await (const request of requests) {
      this.#see(call, request);
      yield request;
    }
  }

  #handler(call: Call): unknown {
    const found = this.implementations.find(({ service }) => service === call.method.parent);
    const handler = found?.handlers[call.method.localName];
    if (handler === undefined) throw new StatusError("UNIMPLEMENTED", `${call.method.name} is not served here`);
    return handler;
  }

  async #enter(call: Call): Promise<void> {
    throwIfAborted(call.signal);
    for (const interceptor of this.#interceptors) await interceptor.before?.(call);
  }

  #see(call: Call, request: Message): void {
    for (const interceptor of this.#interceptors) interceptor.request?.(call, request);
  }

  /** Tells the interceptors how the call ended; gives the error as the caller may see it. */
  #leave(call: Call, error: unknown): StatusError | undefined {
    const shown = error === undefined ? undefined : this.#shown(error, call);
    const outcome: Outcome = { code: shown?.code ?? "OK", durationMs: performance.now() - call.startedMs, error };
    for (const interceptor of this.#interceptors) interceptor.after?.(call, outcome);
    return shown;
  }

  #shown(error: unknown, call: Call): StatusError {
    const { errorOf, callersAreTrusted } = this.#options;
    const ours = errorOf === undefined ? error : errorOf(error);
    const shown = shownError(ours, call, this.program);
    return callersAreTrusted === true && shown.reason === "INTERNAL" ? StatusError.from(ours) : shown;
  }
}

function shownError(error: unknown, call: Call, program: string): StatusError {
  if (call.signal.aborted && call.signal.reason instanceof StatusError) return call.signal.reason;
  if (error instanceof StatusError && error.code !== "UNKNOWN" && error.code !== "INTERNAL") return error;
  return new StatusError("INTERNAL", `internal error; the ${program}'s log has it as request ${call.requestId}`, {
    reason: "INTERNAL",
    details: { requestId: call.requestId },
    cause: error,
  });
}
