/** The layers' half of a verification: extract again, compare, exchange. */
import { mkdtemp, readdir, rename, rmdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { hasCode, StatusError, throwIfAborted, uuidv7, type Digest } from "@berth/base";
import { fsyncDirectory, unmountAll } from "@berth/linux";
import { MANIFEST_LIMITS, parseImageConfig, parseManifest } from "@berth/model";
import {
  lowerDirectories,
  mountAll,
  overlayOptions,
  unmountTarget,
  writableDirectory,
  type Mount,
  type NamespacedSnapshots,
} from "@berth/snapshots";
import { defaultArchiveLimits } from "../archive/entry.ts";
import type { LayerJob, UnpackTarget } from "../pull/layer-job.ts";
import { layersOf, type Layer } from "../pull/layers.ts";
import { ImageRows, type ImageRow } from "../rows.ts";
import { compareTrees } from "./compare.ts";
import { syncFileSystem } from "./sync.ts";
import type { VerifyProblem, VerifyRun } from "./verify.ts";

/** Keys of this verification's own snapshots: no namespace's, for theirs have its name in front. */
const KEY_PREFIX = "berth-verify ";
const MOUNT_POINT = "verify-";
/** As the extractions of pulls, so that a crash in the middle of one is cleaned up like those. */
const LABELS = { "berth.dev/extract": "true" };

interface Known {
  readonly layer: Layer;
  readonly namespace: string;
  readonly images: string[];
}

export async function verifyLayers(run: VerifyRun): Promise<void> {
  await clearScratch(run.scratch);
  const layers = await knownLayers(run);
  const total = layers.length * run.snapshotters.length;
  let done = 0;
  for (const snapshots of run.snapshotters) {
    await removeLeavings(snapshots);
    const bad = new Set<string>();
    for (const known of layers) {
      throwIfAborted(run.options.signal);
      await verifyOne(run, snapshots, known, bad);
      done += 1;
      const { readBytes, cursor } = run.found;
      run.options.onProgress?.({ phase: "layers", done, total, readBytes, cursor });
    }
  }
}

/** Every layer that an image names, once, parents before children. */
async function knownLayers(run: VerifyRun): Promise<readonly Known[]> {
  const known = new Map<string, Known>();
  for (const row of new ImageRows(run.metadata).all()) {
    const { namespace, name } = row.record;
    for (const layer of await layersOfImage(run, row)) {
      const before = known.get(layer.chainId);
      if (before === undefined) known.set(layer.chainId, { layer, namespace, images: [`${namespace}/${name}`] });
      else before.images.push(`${namespace}/${name}`);
    }
  }
  return [...known.values()].sort((a, b) => a.layer.index - b.layer.index);
}

async function layersOfImage(run: VerifyRun, { record, manifest }: ImageRow): Promise<readonly Layer[]> {
  const { namespace, name } = record;
  const read = (digest: Digest, maxBytes: number): Promise<Uint8Array> =>
    run.content.readAll(namespace, digest, maxBytes);
  try {
    const document = parseManifest(await read(manifest, MANIFEST_LIMITS.manifestBytes), name);
    if (document.kind !== "manifest") return [];
    const config = parseImageConfig(await read(document.manifest.config.digest, MANIFEST_LIMITS.configBytes), name);
    return layersOf({ manifest: document.manifest, config });
  } catch (error) {
    const id = `${namespace}/${name}`;
    const what = `the image's manifest or config cannot be read: ${StatusError.from(error).message}`;
    const why = "its layers are not known; mend its blobs, or pull it again";
    run.problems.push({ kind: "layer", id, namespaces: [namespace], images: [id], what, outcome: "unchecked", why });
    return [];
  }
}

async function verifyOne(
  run: VerifyRun,
  snapshots: NamespacedSnapshots,
  { layer, namespace, images }: Known,
  bad: Set<string>,
): Promise<void> {
  const { snapshotter } = snapshots;
  // Not unpacked with this one.
  if (!(await isThere(snapshots, layer))) return;
  const problem = {
    kind: "layer",
    id: layer.chainId,
    snapshotter: snapshotter.name,
    namespaces: [namespace],
    images,
  } as const;
  const note = (what: string, rest: Pick<VerifyProblem, "outcome" | "why">): void => {
    if (rest.outcome !== "mended") bad.add(layer.chainId);
    run.problems.push({ ...problem, what, ...rest });
  };
  if (bad.has(layer.parent)) {
    note("the layer below it is bad", { outcome: "unchecked", why: "mend that one, then verify again" });
    return;
  }
  try {
    const differences = await checkLayer(run, snapshots, namespace, layer, note);
    if (differences !== undefined) run.found.layers += 1;
  } catch (error) {
    throwIfAborted(run.options.signal);
    // Collected meanwhile.
    if (hasCode(error, "NOT_FOUND") && !(await isThere(snapshots, layer))) return;
    note("it could not be compared", { outcome: "unchecked", why: StatusError.from(error).message });
  }
}

async function isThere({ snapshotter }: NamespacedSnapshots, layer: Layer): Promise<boolean> {
  try {
    return (await snapshotter.stat(layer.chainId)).kind === "committed";
  } catch (error) {
    if (hasCode(error, "NOT_FOUND")) return false;
    throw error;
  }
}

type Note = (what: string, rest: Pick<VerifyProblem, "outcome" | "why">) => void;

async function checkLayer(
  run: VerifyRun,
  snapshots: NamespacedSnapshots,
  namespace: string,
  layer: Layer,
  note: Note,
): Promise<readonly string[] | undefined> {
  const { snapshotter } = snapshots;
  const [viewKey, againKey] = [`${KEY_PREFIX}${uuidv7()}`, `${KEY_PREFIX}${uuidv7()}`];
  try {
    const kept = await snapshotter.view(viewKey, layer.chainId, { labels: LABELS });
    const again = await snapshotter.prepare(againKey, layer.parent, { labels: LABELS });
    await extractAgain(run, namespace, layer, again);
    const differences = await withMounts(run.scratch, [kept, again], ([one, other]) =>
      compareTrees(one!, other!, run.options.signal),
    );
    if (differences.length === 0) return differences;
    const what = `differs from its blob in ${differences.join(", ")}`;
    if (run.options.repair !== true) note(what, { outcome: "found" });
    else {
      await snapshotter.remove(viewKey);
      const why = await exchange(snapshots, layer, kept, again);
      note(what, why === undefined ? { outcome: "mended" } : { outcome: "unmended", why });
    }
    return differences;
  } finally {
    for (const key of [viewKey, againKey]) {
      await snapshotter.remove(key).catch((error: unknown) => {
        if (!hasCode(error, "NOT_FOUND")) run.log.warn({ error, key }, "removing a snapshot of a verification failed");
      });
    }
  }
}

async function extractAgain(run: VerifyRun, namespace: string, layer: Layer, mounts: readonly Mount[]): Promise<void> {
  const { descriptor, diffId } = layer;
  const mountPoint = await mkdtemp(join(run.scratch, MOUNT_POINT));
  try {
    const unpack: UnpackTarget = {
      mounts,
      mountPoint,
      mode: layer.parent === "" ? "base" : "merged",
      overlayXattrs: overlayOptions().includes("userxattr") ? "user" : "trusted",
      limits: defaultArchiveLimits,
    };
    const job: LayerJob = {
      subject: `layer ${descriptor.digest}`,
      digest: descriptor.digest,
      sizeBytes: descriptor.size,
      source: { kind: "file", path: await run.content.path(namespace, descriptor.digest) },
      diffId,
      unpack,
    };
    await run.workers.run(job, { signal: run.options.signal });
  } finally {
    unmountAll(mountPoint, { detach: true });
    await rmdir(mountPoint);
  }
}

async function withMounts<T>(
  scratch: string,
  all: readonly (readonly Mount[])[],
  body: (targets: readonly string[]) => Promise<T>,
): Promise<T> {
  const targets: string[] = [];
  try {
    for (const mounts of all) {
      const target = await mkdtemp(join(scratch, MOUNT_POINT));
      targets.push(target);
      mountAll(mounts, target);
    }
    return await body(targets);
  } finally {
    for (const target of targets) {
      unmountTarget(target);
      await rmdir(target);
    }
  }
}

/**
 * Puts the new extraction in the place of the layer's directory. A crash between the two renames leaves no directory there,
 * which the snapshotter's next start takes for a layer that did not survive: it is then pulled again.
 * @returns why not, if not
 */
async function exchange(
  snapshots: NamespacedSnapshots,
  layer: Layer,
  kept: readonly Mount[],
  again: readonly Mount[],
): Promise<string | undefined> {
  const [bad, good] = [layerDirectory(kept), writableDirectory(again)];
  if (bad === undefined || good === undefined) {
    return `snapshotter ${snapshots.snapshotter.name} keeps layers in no directory of their own; remove the image and pull it again`;
  }
  const users = await standingOn(snapshots, layer.chainId);
  if (users.length > 0) return `${users.join(", ")} stand on it; remove them, then verify again`;
  await syncFileSystem(good);
  const aside = `${good}.bad`;
  await rename(bad, aside);
  await rename(good, bad);
  // Goes with the snapshot of the verification.
  await rename(aside, good);
  await fsyncDirectory(dirname(bad));
  await fsyncDirectory(dirname(good));
  return undefined;
}

/** A view's own top layer: the nearest lower directory of an overlay, or what is bound. */
function layerDirectory(mounts: readonly Mount[]): string | undefined {
  const [only, more] = mounts;
  if (only === undefined || more !== undefined) return undefined;
  const bound = only.options.includes("bind") || only.options.includes("rbind");
  return lowerDirectories(mounts)[0] ?? (bound ? only.source : undefined);
}

/** Containers and views on the layer or on what is built on it. */
async function standingOn({ snapshotter }: NamespacedSnapshots, chainId: string): Promise<string[]> {
  const above = new Set([chainId]);
  const users: string[] = [];
  for await (const { key, kind, parent } of snapshotter.walk()) {
    if (!above.has(parent)) continue;
    if (kind === "committed") above.add(key);
    else if (!key.startsWith(KEY_PREFIX)) users.push(key);
  }
  return users;
}

/** Mount points of a verification that a crash ended. */
async function clearScratch(scratch: string): Promise<void> {
  for (const name of await readdir(scratch)) {
    if (!name.startsWith(MOUNT_POINT)) continue;
    unmountAll(join(scratch, name), { detach: true });
    await rmdir(join(scratch, name));
  }
}

/** Snapshots of a verification that a crash ended. */
async function removeLeavings({ snapshotter }: NamespacedSnapshots): Promise<void> {
  const left: string[] = [];
  for await (const { key } of snapshotter.walk()) if (key.startsWith(KEY_PREFIX)) left.push(key);
  for (const key of left) await snapshotter.remove(key);
}
