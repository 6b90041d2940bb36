/**
 * Connections to Redis that the job workers of many nodes in one process share: simulated agents.
 *
 * A worker of BullMQ has a connection that blocks on its queue's marker; a thousand of them are a thousand connections and 264
 * KB each. Here one connection blocks on the markers of up to {@link NODES_PER_CONNECTION} queues at once, and one more takes
 * and completes jobs for all, with BullMQ's own scripts.
 *
 * Invariants:
 *  1. A marker that was taken wakes its node, whose worker then looks until the queue is empty; one that looks just then looks
 *     once more before it waits, for what rang may have come after its look. A node looks by itself, too, when nothing woke it for
 *     a while, for a marker dies with whoever took it.
 *  2. A node that is looking is not waited for: its marker is set anew by every job it takes. When it begins to wait, the
 *     blocked connection is unblocked and waits for it, too.
 */
import { backoffMs, Lifetime, systemClock, type Logger } from "@berth/base";
import type { Redis } from "ioredis";
import { connectRedis } from "./connection.ts";
import { queueName } from "./job.ts";
import { outageReporter } from "./queues.ts";
import { Taker, WAIT_SECONDS, type JobSource } from "./source.ts";

export interface JobConnections extends AsyncDisposable {
  /** For one node; not while another source of it is open. */
  open(node: string, lockMs: number): JobSource;
}

const NODES_PER_CONNECTION = 100;
/** Nodes that begin to wait within so long of each other are waited for from the same moment on. */
const GATHER_MS = 10;
/** Invariant 1: long, for every look costs Redis a script. */
const LOOK_MS = 30_000;

export function shareJobConnections(options: {
  readonly redisUrl: string;
  readonly logger: Logger;
  /** How long a node waits before it looks by itself. */
  readonly lookMs?: number;
}): JobConnections {
  const lifetime = new Lifetime();
  const outage = outageReporter(options.logger);
  const connect = (): Redis => {
    const redis = connectRedis(options.redisUrl, { blocking: true });
    redis.on("error", outage.failed);
    redis.on("ready", outage.recovered);
    lifetime.defer(async () => redis.disconnect());
    return redis;
  };
  const redis = connect();
  // Each worker listens to it.
  redis.setMaxListeners(0);
  const groups: MarkerGroup[] = [];
  const groupWithRoom = (): MarkerGroup => {
    let group = groups.find((each) => each.size < NODES_PER_CONNECTION);
    if (group === undefined) {
      group = new MarkerGroup(connect(), redis);
      groups.push(group);
      const { run } = group;
      lifetime.loop(run, (error) => options.logger.error({ err: error }, "waiting for jobs has ended"));
    }
    return group;
  };
  return {
    open(node, lockMs) {
      const name = queueName(node);
      const taker = new Taker(node, lockMs, redis, true);
      const group = groupWithRoom();
      const bell = group.join(`bull:${name}:marker`);
      return {
        async next() {
          const job = taker.isEmpty ? undefined : await taker.take(false);
          if (job !== undefined) return job;
          await bell.rung(options.lookMs ?? LOOK_MS);
          return await taker.take(false);
        },
        take: () => taker.take(false),
        finish: (job, failure) => taker.finish(job, failure),
        watchStalled: () => taker.watchStalled(),
        async close() {
          bell[Symbol.dispose]();
          await taker.close();
        },
      };
    },
    async [Symbol.asyncDispose]() {
      for (const group of groups) group.close();
      await lifetime[Symbol.asyncDispose]();
    },
  };
}

interface Bell extends Disposable {
  /** Resolves when a job came, when `withinMs` is over, or when disposed. */
  rung(withinMs: number): Promise<void>;
}

/** The markers that one connection waits for. */
class MarkerGroup {
  readonly #redis: Redis;
  /** Not blocked: says to Redis that the other one shall begin anew. */
  readonly #control: Redis;
  readonly #members = new Set<string>();
  /** Of members whose workers wait. */
  readonly #waiting = new Map<string, () => void>();
  /** Of members whose marker was taken while their workers did not wait. */
  readonly #missed = new Set<string>();
  #wanted = Promise.withResolvers<void>();
  #clientId: number | undefined;
  #renewing: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(redis: Redis, control: Redis) {
    this.#redis = redis;
    this.#control = control;
    redis.on("close", () => (this.#clientId = undefined));
  }

  get size(): number {
    return this.#members.size;
  }

  join(marker: string): Bell {
    this.#members.add(marker);
    return {
      rung: (withinMs) => this.#rung(marker, withinMs),
      [Symbol.dispose]: () => {
        this.#members.delete(marker);
        this.#missed.delete(marker);
        this.#waiting.get(marker)?.();
      },
    };
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#renewing);
    this.#wanted.resolve();
    for (const ring of this.#waiting.values()) ring();
    this.#redis.disconnect();
  }

  readonly run = async (signal: AbortSignal): Promise<void> => {
    let failures = 0;
    while (!signal.aborted && !this.#closed) {
      if (this.#waiting.size === 0) await this.#wanted.promise;
      const markers = [...this.#waiting.keys()];
      if (markers.length === 0) continue;
      try {
        this.#clientId ??= await this.#redis.client("ID");
        const popped = await this.#redis.bzpopmin(markers, WAIT_SECONDS);
        failures = 0;
        if (popped !== null) this.#ring(popped[0]);
      } catch {
        failures += 1;
        const waitMs = backoffMs({ initialMs: 200, maxMs: 30_000, factor: 2 }, Math.min(failures, 20));
        await systemClock.sleep(waitMs, signal).catch(() => {});
      }
    }
  };

  #ring(marker: string): void {
    const ring = this.#waiting.get(marker);
    if (ring !== undefined) ring();
    else if (this.#members.has(marker)) this.#missed.add(marker);
  }

  async #rung(marker: string, withinMs: number): Promise<void> {
    if (this.#closed || !this.#members.has(marker) || this.#missed.delete(marker)) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, withinMs).unref();
    this.#waiting.set(marker, resolve);
    this.#wanted.resolve();
    this.#renewing ??= setTimeout(() => this.#renew(), GATHER_MS);
    await promise;
    clearTimeout(timer);
    this.#waiting.delete(marker);
    if (this.#waiting.size === 0) this.#wanted = Promise.withResolvers<void>();
  }

  /** The connection blocks on markers of before: it is to begin anew, with those that have come since. */
  #renew(): void {
    this.#renewing = undefined;
    if (this.#closed || this.#clientId === undefined) return;
    this.#control.client("UNBLOCK", this.#clientId).catch(() => undefined);
  }
}
