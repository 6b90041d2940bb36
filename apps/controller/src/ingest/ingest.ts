/**
 * What the agents' journals say, into Postgres, each entry once and in order (D4).
 *
 * The nodes are divided over shards. A shard has one owner: an advisory lock says who should be it, and the shard's epoch row,
 * raised by every new owner and checked in every write, says who is.
 */
import { Lifetime, systemClock, type Failpoint, type Logger } from "@berth/base";
import type { JournalBatch, JournalFetchRequest } from "@berth/proto";
import { ingestLock, takeShard, type Store } from "@berth/store";
import { startLoop } from "../loop/loop.ts";
import { startPartitions } from "../loop/partitions.ts";
import type { IngestMetrics } from "../metrics.ts";
import { ShardOwner, type Delivery } from "./shard.ts";

export interface IngestDeps {
  readonly store: Store;
  readonly logger: Logger;
  readonly metrics: IngestMetrics;
  readonly failpoint: Failpoint;
  /**
   * Hands over what the nodes of a shard publish, until the signal fires; messages are acknowledged when the handler has
   * resolved, and come again when it has thrown something transient. `consumeShard` of @berth/bus.
   */
  consume(
    shard: number,
    handler: (deliveries: readonly Delivery[]) => Promise<void>,
    signal: AbortSignal,
  ): Promise<void>;
  fetchJournal(node: string, request: JournalFetchRequest, signal: AbortSignal): Promise<JournalBatch>;
}

export interface IngestConfig {
  readonly shards: number;
  /** This controller, in the shard's row. */
  readonly owner: string;
  /** How long a journal may stay ahead without anything new before it is fetched from its node. */
  readonly lagMs?: number;
}

export interface Ingest extends AsyncDisposable {
  /** The shards that this controller owns. */
  readonly shards: ReadonlySet<number>;
}

export async function startIngest(
  deps: IngestDeps,
  config: IngestConfig,
  options: { readonly signal?: AbortSignal } = {},
): Promise<Ingest> {
  const { store, logger } = deps;
  const lifetime = new Lifetime(options.signal);
  const partitions = await startPartitions(
    deps,
    {
      name: "ingest",
      count: config.shards,
      lockOf: ingestLock,
      async hold(shard, signal) {
        const epoch = await store.transaction((tx) => takeShard(tx, shard, config.owner));
        logger.info({ shard, epoch }, "owns an ingest shard");
        await runShard(deps, config, { shard, epoch }, signal);
      },
    },
    lifetime.signal,
  );
  lifetime.own(partitions);
  return {
    get shards() {
      return partitions.held;
    },
    [Symbol.asyncDispose]: () => lifetime[Symbol.asyncDispose](),
  };
}

async function runShard(
  deps: IngestDeps,
  config: IngestConfig,
  owner: { readonly shard: number; readonly epoch: number },
  signal: AbortSignal,
): Promise<void> {
  const { lagMs = 5_000 } = config;
  await using lifetime = new Lifetime(signal);
  // Whoever has lost the shard stops at once: its writes are refused, and trying again would be in vain.
  const stop = (error: unknown): never => {
    if (isTaken(error)) void lifetime[Symbol.asyncDispose]();
    throw error;
  };
  const shardOwner = new ShardOwner(deps, owner, lifetime.signal);
  lifetime.own(
    startLoop(
      { logger: deps.logger, clock: systemClock },
      {
        name: `ingest shard ${owner.shard} catch-up`,
        async round() {
          const lagging = await shardOwner.catchUp(lagMs).catch(stop);
          // Asking costs a look at every node of the fleet: rarely while none lags, and in time once one does.
          return lagging === 0 ? Math.max(50, lagMs) : Math.max(50, lagMs / 3);
        },
      },
      lifetime.signal,
    ),
  );
  await deps.consume(owner.shard, (deliveries) => shardOwner.store(deliveries).catch(stop), lifetime.signal);
}

function isTaken(error: unknown): boolean {
  return typeof error === "object" && error !== null && (error as { reason?: unknown }).reason === "SHARD_TAKEN";
}
