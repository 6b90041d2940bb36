/** The collector; see gc.ts for the contract, and plan.ts and sweep.ts for what it does. */
import { anySignal, hasCode, KeyedLock, StatusError, throwIfAborted, type Clock, type Logger } from "@berth/base";
import type { ContentStore } from "@berth/content";
import type { Statement } from "@berth/metadata";
import type { NamespacedSnapshots } from "@berth/snapshots";
import type { LeaseStore } from "../leases/store.ts";
import type { Pins } from "../pins.ts";
import type { WatchedMetadata } from "./changes.ts";
import { Documents } from "./documents.ts";
import type { GarbageCollection, GcConfig, GcCounters, GcReport, GcRequest, GcTrigger } from "./gc.ts";
import { Graph } from "./graph.ts";
import { endedIngests } from "./ingests.ts";
import type { ImageUses } from "./uses.ts";
import { starts, walk, type WalkDeps } from "./mark.ts";
import { makePlan, type Plan, type PlanDeps } from "./plan.ts";
import { needed, quotas, type DiskSpace } from "./pressure.ts";
import type { ImageReferences } from "./references.ts";
import { expirePins, forgetGoneBlobs, GcRows } from "./rows.ts";
import { Slices } from "./slices.ts";
import { sweep, type Swept } from "./sweep.ts";

export interface CollectionDeps {
  readonly metadata: WatchedMetadata;
  readonly content: ContentStore;
  readonly snapshotters: readonly NamespacedSnapshots[];
  readonly leases: LeaseStore;
  readonly pins: Pins;
  readonly uses: ImageUses;
  readonly locks: KeyedLock;
  readonly references: () => Promise<ImageReferences>;
  /** Of the file system that the data root is on. */
  readonly disk?: () => DiskSpace;
  readonly clock: Clock;
  readonly logger: Logger;
}

const DEFAULT_SLICE_MS = 4;
const DAY_MS = 86_400_000;
/** Estimates may be too high, as where a file is still open: then it is measured and chosen again. */
const PRESSURE_ROUNDS = 3;

type Counters = { -readonly [K in keyof GcCounters]: GcCounters[K] };

export class Collection implements GarbageCollection, AsyncDisposable {
  readonly #deps: CollectionDeps;
  readonly #config: GcConfig;
  readonly #rows: GcRows;
  readonly #turn = new KeyedLock();
  readonly #closing = new AbortController();
  /** Namespaces with a quota that got images since the last collection. */
  #grown: ReadonlySet<string> = new Set();
  #counters: Counters = {
    collections: {},
    failures: 0,
    durationMs: 0,
    busyMs: 0,
    freedBytes: 0,
    images: 0,
    leases: 0,
    blobs: 0,
    snapshots: 0,
    ingests: 0,
  };

  constructor(deps: CollectionDeps, config: GcConfig) {
    this.#deps = deps;
    this.#config = config;
    this.#rows = new GcRows(deps.metadata);
  }

  async run(request: GcRequest = {}): Promise<GcReport> {
    const signal = anySignal(this.#closing.signal, request.signal);
    throwIfAborted(signal);
    return await this.#turn.run("gc", () => this.#run({ ...request, signal }), signal);
  }

  /** Removes what of these keys (of pins.ts) nothing refers to: the leavings of one pull. No image or lease goes. */
  async runFor(only: ReadonlySet<string>): Promise<GcReport> {
    return await this.#turn.run("gc", () => this.#run({ signal: this.#closing.signal }, only));
  }

  /** Ends what runs, between two removals. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort(new StatusError("CANCELLED", "collection was called off", { reason: "GC_CLOSED" }));
    await this.#turn.run("gc", async () => {});
  }

  counters(): GcCounters {
    return this.#counters;
  }

  changes(): { readonly mutations: number; readonly deletions: number } {
    const { mutations, deletions } = this.#deps.metadata.changes;
    return { mutations, deletions };
  }

  isDiskPressing(): boolean {
    return this.#need() !== undefined;
  }

  isQuotaDue(): boolean {
    return this.#grown.size > 0;
  }

  /** A pull or import has ended. */
  grew(namespace: string): void {
    const quota = quotas(this.#config)?.(namespace) ?? 0;
    if (quota > 0) this.#grown = new Set([...this.#grown, namespace]);
  }

  async #run(request: GcRequest, only?: ReadonlySet<string>): Promise<GcReport> {
    const { trigger = "request", dryRun = false } = request;
    const { clock } = this.#deps;
    const startedAtMs = clock.nowMs();
    const begun = performance.now();
    const slices = new Slices(this.#config.sliceMs ?? DEFAULT_SLICE_MS, request.signal);
    let failed = true;
    const looksAtQuotas = !dryRun && only === undefined;
    const grown = this.#grown;
    if (looksAtQuotas) this.#grown = new Set();
    const total = { images: 0, leases: 0, blobs: 0, snapshots: 0, ingests: 0, freedBytes: 0 };
    try {
      let plan = await this.#round(request, only, slices, total);
      const removed = [...plan.removed];
      for (let round = 1; round < PRESSURE_ROUNDS && !dryRun && only === undefined; round += 1) {
        if (!plan.images.some(({ isEvicted }) => isEvicted)) break;
        await this.#deleted();
        if (this.#need() === undefined) break;
        plan = await this.#round(request, only, slices, total);
        removed.push(...plan.removed);
      }
      failed = false;
      const { kept, shortfall } = plan;
      const durationMs = performance.now() - begun;
      const report = { trigger, dryRun, startedAtMs, durationMs, busyMs: slices.busyMs, ...total, removed, kept };
      return shortfall === undefined ? report : { ...report, shortfall };
    } finally {
      if (failed && looksAtQuotas) this.#grown = new Set([...grown, ...this.#grown]);
      if (!dryRun) this.#count(trigger, failed, performance.now() - begun, slices.busyMs, total);
    }
  }

  async #round(request: GcRequest, only: ReadonlySet<string> | undefined, slices: Slices, total: Swept): Promise<Plan> {
    const { metadata, clock, pins, uses, leases } = this.#deps;
    using _ = pins.collecting();
    const { mutations, deletions } = metadata.changes;
    await uses.flush();
    const seen = { references: metadata.changes.references };
    // What was asked for before is now visible to readers.
    await metadata.transact(tidying(request, clock.nowMs()));
    const nowMs = clock.nowMs();
    const graph = new Graph({ ...this.#deps, rows: this.#rows, leases: leases.rows }, slices);
    slices.begin();
    await graph.read();
    const documents = new Documents(this.#deps.content, metadata, this.#rows, this.#deps.logger);
    const walkDeps: WalkDeps = { graph, documents, slices, snapshotters: this.#names() };
    const planDeps = this.#planDeps(walkDeps, nowMs);
    const { dryRun = false, details = dryRun } = request;
    const plan = await makePlan(planDeps, { config: this.#config, withImages: only === undefined, details });
    slices.rest();
    if (dryRun) return await this.#planned(plan, graph, nowMs, total);
    await documents.flush();
    const swept = await this.#sweep(request, planDeps, restricted(plan, only), seen);
    for (const key of Object.keys(total) as (keyof Swept)[]) total[key] += swept[key];
    if (only === undefined) {
      // Its own deletions (pins that ended, images with their pins, shared layers with their grants) call for no further one.
      const own = 1 + 2 * (swept.images + swept.snapshots) + swept.leases + swept.blobs;
      metadata.changes.settle(mutations + own, deletions + own);
    }
    return plan;
  }

  /** What a dry run says: the plan, and the ingests that a sweep would leave to the content store. */
  async #planned(plan: Plan, graph: Graph, nowMs: number, total: Swept): Promise<Plan> {
    const { content, leases } = this.#deps;
    const ttlMs = this.#config.ingestTtlMs ?? DAY_MS;
    const namespaces = this.#rows.blobNamespaces();
    const ingests = await endedIngests({ content, leases: leases.rows, namespaces, ttlMs, nowMs }, graph);
    const removed = [...plan.removed, ...ingests];
    total.leases += plan.leases.length;
    total.images += plan.images.length;
    total.snapshots += plan.snapshots.length;
    total.blobs += plan.contents.length;
    total.ingests += ingests.length;
    total.freedBytes += plan.removed.reduce((sum, { bytes }) => sum + bytes, 0);
    return { ...plan, removed };
  }

  async #sweep(request: GcRequest, planDeps: PlanDeps, plan: Plan, seen: { references: number }): Promise<Swept> {
    const { metadata } = this.#deps;
    const { graph, documents, slices } = planDeps.walk;
    const mark = async (tables: readonly string[]): Promise<void> => {
      slices.begin();
      await graph.readAgain(tables);
      await walk(planDeps.walk, plan.visits, starts(graph, new Set()), { isLater: true });
      slices.rest();
      await documents.flush();
    };
    let refreshing: Promise<void> | undefined;
    const catchUp = async (): Promise<void> => {
      while (metadata.changes.references !== seen.references) {
        const tables = metadata.changes.tablesSince(seen.references);
        seen.references = metadata.changes.references;
        // Noted when asked for: wait until readers see it.
        await metadata.transact([{ sql: "SELECT 1" }]);
        await mark(tables);
      }
    };
    // While images are still to be removed they are no roots; afterwards every row that is left is one.
    let areImagesDone = plan.images.length === 0;
    const refresh = async (): Promise<void> => {
      if (!areImagesDone || metadata.changes.references === seen.references) return await refreshing;
      refreshing ??= catchUp().finally(() => (refreshing = undefined));
      await refreshing;
    };
    return await sweep(
      {
        ...this.#deps,
        refresh,
        imagesRemoved: async () => {
          areImagesDone = true;
          await mark(["images"]);
          await refresh();
        },
        keep: (key) => plan.visits.has(key) || planDeps.isPinned(key),
        isBusy: planDeps.isBusy,
        signal: request.signal,
      },
      plan,
    );
  }

  #planDeps(walkDeps: WalkDeps, nowMs: number): PlanDeps {
    const { pins, uses, disk } = this.#deps;
    const { graph } = walkDeps;
    return {
      walk: walkDeps,
      nowMs,
      disk: disk?.(),
      isPinned: (key) => pins.isPinned(key),
      isBusy: (key) => {
        const image = graph.images.get(key);
        if (pins.isPinned(key) || image === undefined) return true;
        return (uses.notedAtMs(image.namespace, image.name) ?? 0) >= nowMs;
      },
      sizeOf: (key) => this.#sizeOf(graph, key),
    };
  }

  async #sizeOf(graph: Graph, key: string): Promise<number> {
    const { namespace, id, snapshotter } = graph.nodes.get(key)!;
    const all = this.#deps.snapshotters.find((each) => each.snapshotter.name === snapshotter);
    try {
      return (await all?.namespace(namespace).usage(id))?.sizeBytes ?? 0;
    } catch (error) {
      if (hasCode(error, "NOT_FOUND", "FAILED_PRECONDITION")) return 0;
      throw error;
    }
  }

  /** Snapshotters delete directories in the background: what is not gone yet must not cost further images. */
  async #deleted(): Promise<void> {
    for (const { snapshotter } of this.#deps.snapshotters) {
      try {
        await snapshotter.cleanup();
      } catch (error) {
        this.#deps.logger.warn({ snapshotter: snapshotter.name, err: error }, "a snapshotter could not clean up");
      }
    }
  }

  #need(): number | undefined {
    const { disk } = this.#deps;
    return disk === undefined || this.#config.watermarks === undefined ? undefined : needed(disk(), this.#config);
  }

  #names(): readonly string[] {
    return this.#deps.snapshotters.map(({ snapshotter }) => snapshotter.name);
  }

  #count(trigger: GcTrigger, failed: boolean, durationMs: number, busyMs: number, swept: Swept): void {
    const before = this.#counters;
    this.#counters = {
      collections: { ...before.collections, [trigger]: (before.collections[trigger] ?? 0) + 1 },
      failures: before.failures + (failed ? 1 : 0),
      durationMs: before.durationMs + durationMs,
      busyMs: before.busyMs + busyMs,
      freedBytes: before.freedBytes + swept.freedBytes,
      images: before.images + swept.images,
      leases: before.leases + swept.leases,
      blobs: before.blobs + swept.blobs,
      snapshots: before.snapshots + swept.snapshots,
      ingests: before.ingests + swept.ingests,
    };
  }
}

/** Rows that only time or a crash made useless; nothing of it in a dry run. */
function tidying({ dryRun = false, trigger }: GcRequest, nowMs: number): readonly Statement[] {
  if (dryRun) return [{ sql: "SELECT 1" }];
  return [expirePins(nowMs), ...(trigger === "startup" ? forgetGoneBlobs() : [])];
}

function restricted(plan: Plan, only: ReadonlySet<string> | undefined): Plan {
  if (only === undefined) return plan;
  const snapshots = plan.snapshots.filter(({ key }) => only.has(key));
  return { ...plan, leases: [], images: [], snapshots, contents: plan.contents.filter(({ key }) => only.has(key)) };
}
