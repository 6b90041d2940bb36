/**
 * A connection to NATS that comes back for ever, and typed requests over it.
 *
 * Invariants:
 *  1. {@link connectBus} returns at once; a server that is away, or refuses us, is tried again with backoff until the bus is
 *     disposed. What was served or subscribed is so again on every connection.
 *  2. Nothing waits in a buffer for a lost connection: while it is away, requests fail with UNAVAILABLE and publishing is
 *     refused, so that no stale word is said late.
 *  3. A handler's StatusError reaches the caller with its code, reason and message.
 */
import { fromBinary, toBinary, type DescMessage, type MessageShape } from "@bufbuild/protobuf";
import { connect, headers, type Msg, type NatsConnection, type Subscription } from "@nats-io/transport-node";
import {
  abortReason,
  backoffMs,
  Emitter,
  StatusError,
  systemClock,
  throwIfAborted,
  withSignal,
  type Logger,
} from "@berth/base";
import { busError, errorHeaders, errorOfReply } from "./errors.ts";
import type { Endpoint } from "./subjects.ts";

export interface BusOptions {
  /** `nats://user:password@host:port`, or several, separated by commas. */
  readonly url: string;
  /** Shown in the server's list of connections. */
  readonly name: string;
  /** Where replies arrive; what the user may subscribe to. */
  readonly inboxPrefix: string;
  readonly logger: Logger;
  /** Upper bound of the wait between two tries to connect. Default 5 s. */
  readonly maxBackoffMs?: number;
}

export type BusState = "connecting" | "connected" | "reconnecting" | "closed";

export interface RequestOptions {
  /** Default 5 s. */
  readonly timeoutMs?: number;
  readonly signal?: AbortSignal | undefined;
  /** Fields that the message lacks, encoded before: they are sent ahead of it, as one message (`facts-and-news.ts`). */
  readonly facts?: Uint8Array;
}

export interface RequestContext {
  /** From the subject, thus proven by the broker. */
  readonly node: string;
}

export interface ServeOptions<Message> {
  /** One of the servers in a queue gets each request. */
  readonly queue?: string;
  /** Default: every node's requests. */
  readonly node?: string;
  /** How a request is decoded, and what the handler gets. Default: the endpoint's message. */
  readonly read?: (payload: Uint8Array, node: string) => Message;
}

/** The part of a bus that streams need. */
export interface FrameBus {
  /** `id`: by which a stream leaves out a message that it has taken. @throws UNAVAILABLE `BUS_DISCONNECTED`. */
  publish(subject: string, payload: Uint8Array, options?: { readonly id?: string }): void;
  /** Publishes, and hears when nobody is subscribed there. @throws UNAVAILABLE `BUS_DISCONNECTED`. */
  publishAsking(subject: string, payload: Uint8Array, onNobody: () => void): void;
  subscribe(subject: string, listener: (payload: Uint8Array, subject: string) => void): Disposable;
  /** @throws what the handler threw; UNAVAILABLE, DEADLINE_EXCEEDED or CANCELLED of the bus itself. */
  request<Request extends DescMessage, Reply extends DescMessage>(
    endpoint: Endpoint<Request, Reply>,
    node: string,
    message: MessageShape<Request>,
    options?: RequestOptions,
  ): Promise<MessageShape<Reply>>;
  serve<Request extends DescMessage, Reply extends DescMessage, Message = MessageShape<Request>>(
    endpoint: Endpoint<Request, Reply>,
    options: ServeOptions<Message>,
    handler: (message: NoInfer<Message>, context: RequestContext) => Promise<MessageShape<Reply>>,
  ): Disposable;
}

export interface Bus extends FrameBus, AsyncDisposable {
  readonly state: BusState;
  onState(listener: (state: BusState) => void): Disposable;
  /** Resolves when connected. */
  connected(signal?: AbortSignal): Promise<void>;
  /** The connection as it is now, for JetStream. @throws UNAVAILABLE `BUS_DISCONNECTED`. */
  connection(): NatsConnection;
}

export function connectBus(options: BusOptions): Bus {
  return new NatsBus(options);
}

/** How long a server has to say that nobody is subscribed. */
const ASKING_MS = 2_000;

type Attach = (connection: NatsConnection) => Subscription;

class NatsBus implements Bus {
  readonly #options: BusOptions;
  readonly #abort = new AbortController();
  readonly #states: Emitter<BusState>;
  readonly #attached = new Map<Attach, Subscription | undefined>();
  readonly #loop: Promise<void>;
  #connection: NatsConnection | undefined;
  #state: BusState = "connecting";
  #closed: Promise<void> | undefined;

  constructor(options: BusOptions) {
    this.#options = options;
    this.#states = new Emitter<BusState>((error) =>
      options.logger.error({ error: String(error) }, "a listener of the bus' state failed"),
    );
    this.#loop = this.#run();
  }

  get state(): BusState {
    return this.#state;
  }

  onState(listener: (state: BusState) => void): Disposable {
    return this.#states.on(listener);
  }

  async connected(signal?: AbortSignal): Promise<void> {
    if (this.#state === "connected") return;
    throwIfAborted(this.#abort.signal);
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    using _listening = this.#states.on((state) => {
      if (state === "connected") resolve();
      if (state === "closed") reject(abortReason(this.#abort.signal));
    });
    await withSignal(promise, signal);
  }

  connection(): NatsConnection {
    if (this.#connection !== undefined && this.#state === "connected") return this.#connection;
    throw new StatusError("UNAVAILABLE", "bus: not connected to nats", { reason: "BUS_DISCONNECTED" });
  }

  publish(subject: string, payload: Uint8Array, { id }: { readonly id?: string } = {}): void {
    if (id === undefined) return this.connection().publish(subject, payload);
    const named = headers();
    named.set("Nats-Msg-Id", id);
    this.connection().publish(subject, payload, { headers: named });
  }

  publishAsking(subject: string, payload: Uint8Array, onNobody: () => void): void {
    // Nobody answers a request of this kind; the server does, at once, when nobody is there.
    const asked = this.connection().request(subject, payload, { timeout: ASKING_MS });
    asked.catch((error: unknown) => {
      if (busError(error, subject).reason === "BUS_NO_RESPONDERS") onNobody();
    });
  }

  subscribe(subject: string, listener: (payload: Uint8Array, subject: string) => void): Disposable {
    return this.#attach((connection) =>
      connection.subscribe(subject, {
        callback: (error, message) => {
          if (error !== null) this.#subscriptionFailed(subject, error);
          else listener(message.data, message.subject);
        },
      }),
    );
  }

  async request<Request extends DescMessage, Reply extends DescMessage>(
    endpoint: Endpoint<Request, Reply>,
    node: string,
    message: MessageShape<Request>,
    options: RequestOptions = {},
  ): Promise<MessageShape<Reply>> {
    throwIfAborted(options.signal);
    const subject = endpoint.subject(node);
    const news = toBinary(endpoint.request, message);
    const payload = options.facts === undefined ? news : Buffer.concat([options.facts, news]);
    let reply: Msg;
    try {
      const answer = this.connection().request(subject, payload, { timeout: options.timeoutMs ?? 5_000 });
      reply = await withSignal(answer, options.signal);
    } catch (error) {
      throw busError(error, `${endpoint.name} request of ${node}`);
    }
    const failure = errorOfReply(reply);
    if (failure !== undefined) throw failure;
    return fromBinary(endpoint.reply, reply.data);
  }

  serve<Request extends DescMessage, Reply extends DescMessage, Message = MessageShape<Request>>(
    endpoint: Endpoint<Request, Reply>,
    options: ServeOptions<Message>,
    handler: (message: NoInfer<Message>, context: RequestContext) => Promise<MessageShape<Reply>>,
  ): Disposable {
    const subject = endpoint.subject(options.node ?? "*");
    const answer = async (message: Msg): Promise<void> => {
      try {
        const node = message.subject.split(".")[endpoint.nodeToken] ?? "";
        const reply = await handler(readRequest(endpoint, options, message, node), { node });
        message.respond(toBinary(endpoint.reply, reply));
      } catch (error) {
        const status = StatusError.from(error);
        if (status.code === "UNKNOWN" || status.code === "INTERNAL") {
          this.#options.logger.error({ subject: message.subject, error: status.stack }, `${endpoint.name} failed`);
        }
        this.#respondError(message, status);
      }
    };
    return this.#attach((connection) =>
      connection.subscribe(subject, {
        ...(options.queue === undefined ? {} : { queue: options.queue }),
        callback: (error, message) => {
          if (error !== null) this.#subscriptionFailed(subject, error);
          else void answer(message);
        },
      }),
    );
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  #attach(attach: Attach): Disposable {
    const connection = this.#connection;
    this.#attached.set(attach, connection?.isClosed() === false ? attach(connection) : undefined);
    return {
      [Symbol.dispose]: () => {
        const subscription = this.#attached.get(attach);
        this.#attached.delete(attach);
        if (subscription?.isClosed() === false) subscription.unsubscribe();
      },
    };
  }

  #subscriptionFailed(subject: string, error: Error): void {
    this.#options.logger.error({ subject, error: error.message }, "nats refused a subscription");
  }

  #respondError(message: Msg, status: StatusError): void {
    try {
      message.respond(new TextEncoder().encode(status.message), { headers: errorHeaders(status) });
    } catch (error) {
      this.#options.logger.warn({ subject: message.subject, error: String(error) }, "a reply could not be sent");
    }
  }

  #become(state: BusState): void {
    if (this.#state === state || this.#state === "closed") return;
    this.#state = state;
    this.#options.logger.info({ bus: this.#options.name, state }, `bus ${state}`);
    this.#states.emit(state);
  }

  /** One turn per connection. The client itself mends broken ones; a turn ends when it gives up or the bus is closed. */
  async #run(): Promise<void> {
    const { signal } = this.#abort;
    for (let failures = 0; !signal.aborted;) {
      try {
        const connection = await connect(connectionOptions(this.#options));
        failures = 0;
        await this.#use(connection);
      } catch (error) {
        failures += 1;
        if (failures === 1 || failures % 20 === 0) {
          this.#options.logger.warn({ error: String(error), failures }, "nats is not reachable; trying again");
        }
      }
      if (signal.aborted) return;
      const backoff = { initialMs: 100, maxMs: this.#options.maxBackoffMs ?? 5_000, factor: 2 };
      await systemClock.sleep(backoffMs(backoff, Math.min(failures + 1, 20)), signal).catch(() => {});
    }
  }

  async #use(connection: NatsConnection): Promise<void> {
    if (this.#abort.signal.aborted) {
      await connection.close();
      return;
    }
    this.#connection = connection;
    for (const attach of this.#attached.keys()) this.#attached.set(attach, attach(connection));
    this.#become("connected");
    const watching = this.#watch(connection);
    await connection.closed();
    await watching;
    this.#connection = undefined;
    this.#become("reconnecting");
  }

  async #watch(connection: NatsConnection): Promise<void> {
    for await (const status of connection.status()) {
      if (status.type === "disconnect" || status.type === "staleConnection") this.#become("reconnecting");
      if (status.type === "reconnect") this.#become("connected");
      if (status.type === "error") this.#options.logger.warn({ error: String(status.error) }, "nats reported an error");
    }
  }

  async #close(): Promise<void> {
    this.#abort.abort();
    const connection = this.#connection;
    if (connection !== undefined && !connection.isClosed()) {
      // Draining flushes what was said; a server that is away is not waited for.
      if (this.#state === "connected") await withTimeout(connection.drain(), 2_000);
      if (!connection.isClosed()) await connection.close();
    }
    this.#become("closed");
    await this.#loop;
  }
}

function readRequest<Message>(
  endpoint: Endpoint<DescMessage, DescMessage>,
  { read }: ServeOptions<Message>,
  message: Msg,
  node: string,
): Message {
  try {
    // Without `read`, Message is the endpoint's.
    return read?.(message.data, node) ?? (fromBinary(endpoint.request, message.data) as Message);
  } catch (error) {
    throw new StatusError("INVALID_ARGUMENT", `${endpoint.name} request cannot be read`, {
      reason: "BUS_MESSAGE_INVALID",
      cause: error,
    });
  }
}

function connectionOptions(options: BusOptions): Parameters<typeof connect>[0] {
  const urls = options.url.split(",").map((text) => new URL(text.trim()));
  const first = urls[0]!;
  return {
    servers: urls.map((url) => url.host),
    ...(first.username === "" ? {} : { user: decodeURIComponent(first.username) }),
    ...(first.password === "" ? {} : { pass: decodeURIComponent(first.password) }),
    ...(first.protocol === "tls:" ? { tls: {} } : {}),
    name: options.name,
    inboxPrefix: options.inboxPrefix,
    maxReconnectAttempts: -1,
    // Refused credentials may be mended on the server; giving up would need a restart of every agent.
    ignoreAuthErrorAbort: true,
    ...pacing(options.maxBackoffMs ?? 5_000),
    pingInterval: 10_000,
    maxPingOut: 2,
    noAsyncTraces: true,
    timeout: 5_000,
  };
}

/**
 * When a lost server is dialled again: soon at first, then at intervals that spread a thousand agents over a second.
 *
 * The client's own wait goes by the wall clock: it holds back until a clock that was set back has passed the last try again,
 * which may take hours. So that one is told that it is always over, and the pause is this handler's, which a timer measures.
 */
function pacing(
  maxMs: number,
): Pick<NonNullable<Parameters<typeof connect>[0]>, "reconnectDelayHandler" | "reconnectToServer"> {
  return {
    reconnectDelayHandler: () => -Infinity,
    reconnectToServer: ([current], info) => {
      if (current === undefined || info === null) return current ?? null; // the first connection is not waited for
      const spreadMs = current.reconnects === 0 ? Math.random() * 200 : 200 + Math.random() * 1_000;
      return { server: current, delay: Math.min(maxMs, spreadMs) };
    },
  };
}

async function withTimeout(promise: Promise<unknown>, ms: number): Promise<void> {
  const { promise: late, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  await Promise.race([promise.catch(() => {}), late]);
  clearTimeout(timer);
}
