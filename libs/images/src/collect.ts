/**
 * Mark and sweep: what no image, container or running pull refers to goes.
 *
 * The mark is taken without locks. What makes the sweep safe is asked again right before each removal, under the key's own
 * lock: whether a pull needs the thing, or did at any time since the collection began (see pins.ts).
 */
import { hasCode, type Digest } from "@berth/base";
import { chainIds, MANIFEST_LIMITS, parseImageConfig, parseManifest } from "@berth/model";
import { blobPin, snapshotPin } from "./pins.ts";
import type { LayerSnapshots } from "./pull/layer-snapshots.ts";
import type { Shared } from "./pull/context.ts";
import { deleteDiff } from "./rows.ts";

/** What others on this host hold on to. */
export interface ImageReferences {
  /** Layers under containers and views, by chain id. */
  readonly snapshots: readonly { readonly namespace: string; readonly snapshotter: string; readonly chainId: string }[];
  /** Content that is no image's, such as what a client wrote under a lease. */
  readonly blobs?: readonly { readonly namespace: string; readonly digest: Digest }[];
}

export interface CollectDeps {
  readonly shared: Shared;
  readonly snapshotters: readonly LayerSnapshots[];
  readonly references: () => Promise<ImageReferences>;
}

export interface Collected {
  readonly blobs: number;
  readonly snapshots: number;
  readonly freedBytes: number;
}

/** @param only restricts the sweep to these keys (of pins.ts): the leavings of one pull */
export async function collect(deps: CollectDeps, only?: ReadonlySet<string>): Promise<Collected> {
  using _ = deps.shared.pins.collecting();
  const marked = await mark(deps);
  const keep = (key: string): boolean =>
    marked.has(key) || deps.shared.pins.isPinned(key) || (only !== undefined && !only.has(key));
  const total = { blobs: 0, snapshots: 0, freedBytes: 0 };
  for (const namespace of deps.shared.rows.namespaces()) {
    for (const snapshots of deps.snapshotters) await sweepSnapshots(deps.shared, snapshots, namespace, keep, total);
    await sweepBlobs(deps.shared, namespace, keep, total);
  }
  if (total.blobs > 0) await forgetDiffs(deps.shared);
  return total;
}

async function mark({ shared, snapshotters, references }: CollectDeps): Promise<Set<string>> {
  const marked = new Set<string>();
  const held = await references();
  for (const { namespace, snapshotter, chainId } of held.snapshots)
    marked.add(snapshotPin(namespace, snapshotter, chainId));
  for (const { namespace, digest } of held.blobs ?? []) marked.add(blobPin(namespace, digest));
  const names = snapshotters.map(({ name }) => name);
  for (const { record } of shared.rows.all()) {
    await markDocument(shared, record.namespace, record.target.digest, names, marked);
  }
  return marked;
}

async function markDocument(
  shared: Shared,
  namespace: string,
  digest: Digest,
  snapshotters: readonly string[],
  marked: Set<string>,
): Promise<void> {
  if (marked.has(blobPin(namespace, digest))) return;
  marked.add(blobPin(namespace, digest));
  const bytes = await readIfThere(shared, namespace, digest, MANIFEST_LIMITS.manifestBytes);
  // The other platforms of an index were never fetched.
  if (bytes === undefined) return;
  const document = parseManifest(bytes, digest);
  if (document.kind === "index") {
    for (const child of document.index.manifests) {
      await markDocument(shared, namespace, child.digest, snapshotters, marked);
    }
    return;
  }
  const { config, layers } = document.manifest;
  for (const { digest: blob } of [config, ...layers]) marked.add(blobPin(namespace, blob));
  const configBytes = await readIfThere(shared, namespace, config.digest, MANIFEST_LIMITS.configBytes);
  if (configBytes === undefined) return;
  for (const chainId of chainIds(parseImageConfig(configBytes, digest).rootfs.diff_ids)) {
    for (const name of snapshotters) marked.add(snapshotPin(namespace, name, chainId));
  }
}

async function readIfThere(
  shared: Shared,
  namespace: string,
  digest: Digest,
  maxBytes: number,
): Promise<Uint8Array | undefined> {
  try {
    return await shared.content.readAll(namespace, digest, maxBytes);
  } catch (error) {
    if (hasCode(error, "NOT_FOUND")) return undefined;
    throw error;
  }
}

type Totals = { -readonly [K in keyof Collected]: Collected[K] };

async function sweepSnapshots(
  shared: Shared,
  snapshots: LayerSnapshots,
  namespace: string,
  keep: (key: string) => boolean,
  total: Totals,
): Promise<void> {
  const chain: string[] = [];
  for await (const chainId of snapshots.layers(namespace)) chain.push(chainId);
  for (const chainId of chain.reverse()) {
    const key = snapshotPin(namespace, snapshots.name, chainId);
    if (keep(key)) continue;
    await shared.locks.run(`chain ${snapshots.name} ${chainId}`, async () => {
      if (keep(key)) return;
      try {
        total.freedBytes += await snapshots.remove(namespace, chainId);
        total.snapshots += 1;
      } catch (error) {
        // Something is built on it, or it is gone.
        if (!hasCode(error, "FAILED_PRECONDITION", "NOT_FOUND")) throw error;
      }
    });
  }
}

async function sweepBlobs(
  shared: Shared,
  namespace: string,
  keep: (key: string) => boolean,
  total: Totals,
): Promise<void> {
  const { content, locks } = shared;
  for await (const { digest, sizeBytes } of content.walk(namespace)) {
    const key = blobPin(namespace, digest);
    if (keep(key)) continue;
    await locks.run(`blob ${digest}`, async () => {
      if (keep(key)) return;
      try {
        await content.delete(namespace, digest);
      } catch (error) {
        if (hasCode(error, "NOT_FOUND")) return;
        throw error;
      }
      total.blobs += 1;
      if ((await content.physical(digest)) === undefined) total.freedBytes += sizeBytes;
    });
  }
}

async function forgetDiffs({ rows, content, metadata }: Shared): Promise<void> {
  const gone: Digest[] = [];
  for (const blob of rows.knownDiffs()) if ((await content.physical(blob)) === undefined) gone.push(blob);
  if (gone.length > 0) await metadata.transact(gone.map(deleteDiff));
}
