/**
 * Divides numbered partitions of work among the controllers that are alive.
 *
 * Each partition is an advisory lock. A controller takes no more than its fair share (partitions by controllers, rounded up),
 * and gives back what is above it, so a controller that joins gets work within two rounds; one that dies loses its locks
 * with its connection. For as long as a partition is held, `hold` runs; its signal fires before the lock is given back.
 */
import { anySignal, Lifetime, StatusError, type Logger } from "@berth/base";
import { MEMBERS_LOCK, type HeldLock, type LockKey, type Store } from "@berth/store";
import { startLoop, type Loop } from "./loop.ts";

export interface PartitionsSpec {
  readonly name: string;
  readonly count: number;
  lockOf(partition: number): LockKey;
  /** Works until the signal fires. When it returns or throws earlier, the partition is given back and taken anew. */
  hold(partition: number, signal: AbortSignal): Promise<void>;
}

export interface Partitions extends AsyncDisposable {
  readonly held: ReadonlySet<number>;
}

const ROUND_MS = 2_000;
/** While partitions are missing: their owner may just have ended. */
const EAGER_MS = 500;

interface Holding {
  readonly lock: HeldLock;
  readonly stop: AbortController;
  readonly done: Promise<void>;
}

export async function startPartitions(
  deps: { readonly store: Store; readonly logger: Logger },
  spec: PartitionsSpec,
  signal?: AbortSignal,
): Promise<Partitions> {
  const { store, logger } = deps;
  const lifetime = new Lifetime(signal);
  const holdings = new Map<number, Holding>();

  const begin = (partition: number, lock: HeldLock): void => {
    const stop = new AbortController();
    const ending = anySignal(stop.signal, lock.signal, lifetime.signal);
    const done = spec
      .hold(partition, ending)
      .catch((error: unknown) => {
        if (ending.aborted) return;
        logger.warn(
          { err: StatusError.from(error), partition },
          `${spec.name} partition failed; it will be taken anew`,
        );
      })
      .then(async () => {
        holdings.delete(partition);
        await lock[Symbol.asyncDispose]();
      });
    holdings.set(partition, { lock, stop, done });
  };

  const round = async (): Promise<number> => {
    const fair = Math.ceil(spec.count / (await store.locks.members(MEMBERS_LOCK)));
    for (const holding of [...holdings.values()].slice(fair)) {
      holding.stop.abort();
      await holding.done;
    }
    for (let partition = 0; partition < spec.count && holdings.size < fair; partition += 1) {
      if (lifetime.signal.aborted) break;
      if (holdings.has(partition)) continue;
      const lock = await store.locks.tryAcquire(spec.lockOf(partition));
      if (lock !== undefined) begin(partition, lock);
    }
    return holdings.size < fair ? EAGER_MS : ROUND_MS;
  };

  lifetime.defer(async () => {
    await Promise.allSettled([...holdings.values()].map((holding) => holding.done));
  });
  await round().catch((error: unknown) =>
    logger.warn({ err: StatusError.from(error) }, `${spec.name}: no partition yet`),
  );
  const loop: Loop = lifetime.own(startLoop(deps, { name: `${spec.name} partitions`, round }, lifetime.signal));
  void loop;
  return {
    get held() {
      return new Set(holdings.keys());
    },
    [Symbol.asyncDispose]: () => lifetime[Symbol.asyncDispose](),
  };
}

/** Which partition a name belongs to (FNV-1a); the same in every controller, for ever. */
export function partitionOf(name: string, count: number): number {
  let hash = 0x811c9dc5;
  for (const byte of Buffer.from(name, "utf8")) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return hash % count;
}
