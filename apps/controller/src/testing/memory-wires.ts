/** NATS and Redis in memory: requests, a stream per shard that redelivers what was not acknowledged, queues that may be away. */
import { toBinary, type DescMessage, type MessageShape } from "@bufbuild/protobuf";
import { StatusError } from "@berth/base";
import type { Bus, BusState, Endpoint, RequestContext, ServeOptions } from "@berth/bus";
import { decodeJob, type JobToAdd } from "@berth/jobs";
import type {
  AssignmentsReply,
  AssignmentsRequest,
  HoldingsReply,
  HoldingsRequest,
  JournalBatch,
  LeaseReply,
  LeaseRequest,
} from "@berth/proto";
import type { Delivery } from "../ingest/shard.ts";
import type { AgentWires, FakeAgent } from "./fake-agent.ts";

type Handler = (message: unknown, context: RequestContext) => Promise<unknown>;

export class MemoryWires implements AgentWires {
  readonly agents = new Map<string, FakeAgent>();
  readonly #handlers = new Map<string, Handler>();
  readonly #streams = new Map<number, { messages: Delivery[]; acked: number; grown: PromiseWithResolvers<void> }>();
  /** Jobs that Redis took, in order. */
  readonly added: JobToAdd[] = [];
  redisAway = false;
  /** Jobs are taken by Redis, and lost with it. */
  loseJobs = false;
  /** Published batches are lost. */
  loseJournals = false;

  readonly bus: Pick<Bus, "serve" | "onState" | "state"> = {
    state: "connected" satisfies BusState,
    onState: () => ({ [Symbol.dispose]() {} }),
    serve: <Request extends DescMessage, Reply extends DescMessage, Message>(
      endpoint: Endpoint<Request, Reply>,
      { read }: ServeOptions<Message>,
      handler: (message: NoInfer<Message>, context: RequestContext) => Promise<MessageShape<Reply>>,
    ) => {
      const serving: Handler = (message, context) => {
        const request = message as MessageShape<Request>;
        const given = read?.(toBinary(endpoint.request, request), context.node) ?? (request as Message);
        return handler(given, context);
      };
      this.#handlers.set(endpoint.name, serving);
      return {
        [Symbol.dispose]: () => {
          if (this.#handlers.get(endpoint.name) === serving) this.#handlers.delete(endpoint.name);
        },
      };
    },
  };

  readonly queues = {
    addBulk: (jobs: readonly JobToAdd[]): Promise<void> => {
      if (this.redisAway) return Promise.reject(new StatusError("UNAVAILABLE", "redis is away"));
      this.added.push(...jobs);
      if (!this.loseJobs)
        for (const { node, name, data } of jobs) this.agents.get(node)?.take(decodeJob(name, data).job);
      return Promise.resolve();
    },
  };

  async lease(node: string, request: LeaseRequest): Promise<LeaseReply> {
    return (await this.#ask("lease", node, request)) as LeaseReply;
  }

  async assignments(node: string, request: AssignmentsRequest): Promise<AssignmentsReply> {
    return (await this.#ask("assignments", node, request)) as AssignmentsReply;
  }

  async holdings(node: string, request: HoldingsRequest): Promise<HoldingsReply> {
    return (await this.#ask("holdings", node, request)) as HoldingsReply;
  }

  publish(shard: number, batch: JournalBatch): void {
    if (this.loseJournals) return;
    const stream = this.#stream(shard);
    stream.messages.push({ node: batch.node, batch });
    stream.grown.resolve();
  }

  /** One consumer of a shard; messages are acknowledged when the handler has resolved. */
  async consume(
    shard: number,
    handler: (deliveries: readonly Delivery[]) => Promise<void>,
    signal: AbortSignal,
  ): Promise<void> {
    const stream = this.#stream(shard);
    const stop = (): void => stream.grown.resolve();
    signal.addEventListener("abort", stop);
    while (!signal.aborted) {
      const { acked, messages } = stream;
      if (acked === messages.length) {
        stream.grown = Promise.withResolvers();
        await stream.grown.promise;
        continue;
      }
      const batch = messages.slice(acked, acked + 50);
      try {
        await handler(batch);
        stream.acked = acked + batch.length;
      } catch {
        // Redelivered.
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    }
    signal.removeEventListener("abort", stop);
  }

  #ask(endpoint: string, node: string, message: unknown): Promise<unknown> {
    const handler = this.#handlers.get(endpoint);
    if (handler === undefined) return Promise.reject(new StatusError("UNAVAILABLE", "no controller answers"));
    return handler(message, { node });
  }

  #stream(shard: number) {
    let stream = this.#streams.get(shard);
    if (stream === undefined) {
      stream = { messages: [], acked: 0, grown: Promise.withResolvers<void>() };
      this.#streams.set(shard, stream);
    }
    return stream;
  }
}
