/**
 * Carries out a plan. Right before each removal, under the key's own lock, it is asked again whether the thing is needed: by
 * a pull, or by anything that was written since the mark (invariant 1 of gc.ts).
 */
import { hasCode, throwIfAborted, type Clock, type Digest, type KeyedLock, type Logger } from "@berth/base";
import type { ContentStore } from "@berth/content";
import type { Metadata, Statement } from "@berth/metadata";
import type { NamespacedSnapshots } from "@berth/snapshots";
import { removeLease } from "../leases/rows.ts";
import type { LeaseStore } from "../leases/store.ts";
import { deleteDiff } from "../rows.ts";
import type { GcNode } from "./graph.ts";
import type { Plan } from "./plan.ts";
import { deleteEdges, evictImage, forgetImage } from "./rows.ts";

export interface SweepDeps {
  readonly metadata: Metadata;
  readonly content: ContentStore & { dropExpiredIngests?(): Promise<number> };
  readonly snapshotters: readonly NamespacedSnapshots[];
  readonly leases: LeaseStore;
  readonly locks: KeyedLock;
  readonly clock: Clock;
  readonly logger: Logger;
  /** Takes what was written since the mark into account. Quick when nothing was. */
  readonly refresh: () => Promise<void>;
  /** Images are gone: from now on those whose rows are left are roots. */
  readonly imagesRemoved: () => Promise<void>;
  readonly keep: (key: string) => boolean;
  readonly isBusy: (imageKey: string) => boolean;
  readonly signal: AbortSignal | undefined;
}

export interface Swept {
  images: number;
  leases: number;
  blobs: number;
  snapshots: number;
  ingests: number;
  freedBytes: number;
}

/** Deletions of blobs at a time: they share fsyncs, and leave threads of the pool to others. */
const PARALLEL = 3;
const FORGET_AT = 200;

export async function sweep(deps: SweepDeps, plan: Plan): Promise<Swept> {
  const swept: Swept = { images: 0, leases: 0, blobs: 0, snapshots: 0, ingests: 0, freedBytes: 0 };
  await sweepLeases(deps, plan, swept);
  await sweepImages(deps, plan, swept);
  for (const node of plan.snapshots) await sweepSnapshot(deps, node, swept);
  await sweepContents(deps, plan.contents, swept);
  await sweepIngests(deps, swept);
  return swept;
}

async function sweepLeases({ metadata, leases }: SweepDeps, plan: Plan, swept: Swept): Promise<void> {
  if (plan.leases.length === 0) return;
  await metadata.transact(plan.leases.map(({ lease }) => removeLease(lease.namespace, lease.id)));
  swept.leases += plan.leases.length;
  for (const { lease, resources } of plan.leases) {
    const ingests = resources.filter(({ type }) => type === "ingests");
    swept.ingests += await leases.dropIngests(lease.namespace, lease.id, ingests);
  }
}

async function sweepImages(deps: SweepDeps, plan: Plan, swept: Swept): Promise<void> {
  if (plan.images.length === 0) return;
  await deps.refresh();
  for (const { image, key, reason } of plan.images) {
    if (deps.keep(key) || deps.isBusy(key)) continue;
    const { namespace, name } = image;
    const removal = [evictImage(image, deps.clock.nowMs()), ...forgetImage(namespace, name)];
    const [removed] = await deps.metadata.transact(removal);
    if (removed!.changes === 0) continue;
    swept.images += 1;
    deps.logger.info({ namespace, image: name }, `image removed: ${reason}`);
  }
  await deps.imagesRemoved();
}

async function sweepSnapshot(deps: SweepDeps, node: GcNode, swept: Swept): Promise<void> {
  const all = deps.snapshotters.find(({ snapshotter }) => snapshotter.name === node.snapshotter)!;
  await deps.refresh();
  if (deps.keep(node.key)) return;
  throwIfAborted(deps.signal);
  await deps.locks.run(`chain ${node.snapshotter} ${node.id}`, async () => {
    await deps.refresh();
    if (deps.keep(node.key)) return;
    try {
      const bytes = node.bytes ?? (await usage(all, node));
      await all.namespace(node.namespace).remove(node.id);
      swept.snapshots += 1;
      if (!(await isThere(all, node))) swept.freedBytes += bytes;
    } catch (error) {
      // Something is built on it, or it is gone.
      if (!hasCode(error, "FAILED_PRECONDITION", "NOT_FOUND")) throw error;
    }
  });
}

async function usage(all: NamespacedSnapshots, { namespace, id }: GcNode): Promise<number> {
  return (await all.namespace(namespace).usage(id)).sizeBytes;
}

/** Another namespace may have the layer. */
async function isThere(all: NamespacedSnapshots, { id }: GcNode): Promise<boolean> {
  if (!all.isShared(id)) return false;
  try {
    await all.snapshotter.stat(id);
    return true;
  } catch (error) {
    if (hasCode(error, "NOT_FOUND")) return false;
    throw error;
  }
}

async function sweepContents(deps: SweepDeps, nodes: readonly GcNode[], swept: Swept): Promise<void> {
  const forget: Statement[] = [];
  const waiting = nodes.values();
  const take = async (): Promise<void> => {
    for (const node of waiting) {
      if (await sweepContent(deps, node, swept)) {
        forget.push(deleteDiff(node.id as Digest), deleteEdges(node.id as Digest));
      }
      if (forget.length >= FORGET_AT) await deps.metadata.transact(forget.splice(0));
    }
  };
  const outcomes = await Promise.allSettled(Array.from({ length: PARALLEL }, take));
  if (forget.length > 0) await deps.metadata.transact(forget);
  for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
}

/** Is the blob gone from the host? */
async function sweepContent(deps: SweepDeps, node: GcNode, swept: Swept): Promise<boolean> {
  const { content, locks, keep } = deps;
  if (keep(node.key)) return false;
  throwIfAborted(deps.signal);
  const digest = node.id as Digest;
  return await locks.run(`blob ${digest}`, async () => {
    await deps.refresh();
    if (keep(node.key)) return false;
    try {
      await content.delete(node.namespace, digest);
    } catch (error) {
      if (hasCode(error, "NOT_FOUND")) return false;
      throw error;
    }
    swept.blobs += 1;
    if ((await content.physical(digest)) !== undefined) return false;
    swept.freedBytes += node.bytes ?? 0;
    return true;
  });
}

/** Those of leases that are no more, and those nobody has written to for long. */
async function sweepIngests({ content, leases }: SweepDeps, swept: Swept): Promise<void> {
  for (const { namespace, lease } of await content.ingestLeases()) {
    if (leases.rows.find(namespace, lease) === undefined) swept.ingests += await content.releaseLease(namespace, lease);
  }
  swept.ingests += (await content.dropExpiredIngests?.()) ?? 0;
}
