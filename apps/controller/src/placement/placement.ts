/**
 * Gives tasks a node, in batches.
 *
 * One batch at a time in the whole fleet (a transaction lock), so that two controllers never promise the same room twice.
 * What a batch does is `place-batch.ts`; what nodes mean, `libs/model/src/placement`; who must leave a node, `evict.ts`.
 */
import { Lifetime, type Failpoint, type Logger } from "@berth/base";
import { WORK_CHANNEL, type Store, type TaskRow, type UnplacedMark } from "@berth/store";
import { startLoop, type Round } from "../loop/loop.ts";
import type { PlacementMetrics } from "../metrics.ts";
import { evictTasks } from "./evict.ts";
import { NO_OVERCOMMIT, type OvercommitConfig } from "./fleet.ts";
import { placeBatch, type Pass } from "./place-batch.ts";

export interface PlacementDeps {
  readonly store: Store;
  readonly logger: Logger;
  readonly metrics: PlacementMetrics;
  readonly failpoint: Failpoint;
}

export interface PlacementConfig {
  readonly batchSize?: number;
  /** How often tasks that fit nowhere are looked at again though nothing rang. */
  readonly resyncMs?: number;
  readonly overcommit?: OvercommitConfig;
}

export interface PlacementLoop extends AsyncDisposable {
  ring(): void;
}

/** When to look whether the controller that is at it is done. */
const BUSY_MS = 250;

/**
 * Each batch reads the whole fleet, and raises the revision of each node that it gives something (D5); what it gives to one node
 * travels as one job. On a thousand nodes larger batches gained nothing more that could be told from the noise.
 */
const BATCH_SIZE = 5_000;
/** A task that still fits nowhere has its reason told anew only so often: it changes with every task that is placed. */
const REASON_MS = 5_000;

export async function startPlacement(
  deps: PlacementDeps,
  config: PlacementConfig = {},
  options: { readonly signal?: AbortSignal } = {},
): Promise<PlacementLoop> {
  const { store, logger } = deps;
  const { resyncMs = 10_000 } = config;
  const lifetime = new Lifetime(options.signal);
  const placer = new Placer(deps, config);
  const loop = startLoop(
    { logger },
    {
      name: "placement",
      round: async (ending): Promise<Round> => {
        const due = await evictTasks(store);
        if (due === undefined || !(await placer.pass(ending))) return BUSY_MS;
        return Math.min(resyncMs, due);
      },
    },
    lifetime.signal,
  );
  lifetime.own(loop);
  lifetime.own(await store.listen(WORK_CHANNEL, () => loop.ring()));
  return { ring: () => loop.ring(), [Symbol.asyncDispose]: () => lifetime[Symbol.asyncDispose]() };
}

export class Placer {
  readonly #deps: PlacementDeps;
  readonly #batchSize: number;
  readonly #overcommit: OvercommitConfig;
  /** When each unplaceable task's reason was last written, by the monotonic clock. */
  readonly #told = new Map<string, number>();

  constructor(deps: PlacementDeps, { batchSize = BATCH_SIZE, overcommit = NO_OVERCOMMIT }: PlacementConfig = {}) {
    this.#deps = deps;
    this.#batchSize = batchSize;
    this.#overcommit = overcommit;
  }

  /** Looks at every unplaced task once: those of higher priority first, then the oldest. False: another controller is at it. */
  async pass(signal?: AbortSignal): Promise<boolean> {
    const { store, metrics, failpoint } = this.#deps;
    const gangs = new Set<string>();
    let after: UnplacedMark | undefined;
    let unplaceable = 0;
    while (signal?.aborted !== true) {
      const started = performance.now();
      const from = after;
      const before = new Set(gangs);
      const batch = await store.transaction((tx) => placeBatch(tx, this.#passOf(gangs, before), from));
      if (batch === undefined) return false;
      if (batch.placed > 0) {
        failpoint("placement.after-assign");
        metrics.placed(batch.placed, (performance.now() - started) / 1_000);
      }
      unplaceable += batch.waiting;
      if (batch.next === undefined) break;
      after = batch.next;
    }
    if (unplaceable === 0) this.#told.clear();
    metrics.unplaceable(unplaceable);
    return true;
  }

  /** A transaction that is run again begins with the gangs that were decided before it. */
  #passOf(gangs: Set<string>, before: ReadonlySet<string>): Pass {
    gangs.clear();
    for (const uid of before) gangs.add(uid);
    const shouldTell = (row: TaskRow, reason: string): boolean => this.#shouldTell(row, reason);
    return {
      overcommit: this.#overcommit,
      batchSize: this.#batchSize,
      gangs,
      failpoint: this.#deps.failpoint,
      shouldTell,
    };
  }

  #shouldTell(row: TaskRow, reason: string): boolean {
    if (row.message === reason) return false;
    const now = performance.now();
    if (now - (this.#told.get(row.uid) ?? Number.NEGATIVE_INFINITY) < REASON_MS) return false;
    this.#told.set(row.uid, now);
    return true;
  }
}
