/**
 * One layer into its snapshot: while it streams from the registry, or from the blob that is here.
 *
 * Where the snapshotter can rebase, a layer is extracted apart from what is below it, as soon as a slot is free; when the
 * layers below are committed, what the extraction could not know is put right (mend.ts) and the layer gets its parent at
 * commit. In the rare case that it cannot be put right, it is extracted again over the mounted chain.
 *
 * Invariants:
 *  - A snapshot is committed only after digest and diff id matched (A3).
 *  - Nothing is extracted before the namespace's policy has agreed (verification.ts).
 */
import { throwIfAborted } from "@berth/base";
import { overlayOptions } from "@berth/snapshots";
import type { ApplyMode } from "../archive/apply.ts";
import type { DetachedNotes } from "../archive/detached-notes.ts";
import { insertDiff } from "../rows.ts";
import { adopt, ingestLayer } from "./blobs.ts";
import type { PullContext } from "./context.ts";
import { fillsTwoThreads, runInTwo } from "./two-threads.ts";
import { HalfLayer, makeMountPoint, withBelow } from "./half-layer.ts";
import type { JobResult, LayerSource, MendResult, UnpackTarget } from "./layer-job.ts";
import type { LayerUsage } from "./layer-snapshots.ts";
import type { Layer } from "./layers.ts";
import { ensureBlob, jobOf, registrySource, slotFor, watch } from "./transfer.ts";

/** Over the mounted layers below, which are committed. */
export async function extractMerged(pull: PullContext, layer: Layer): Promise<void> {
  await using half = await HalfLayer.prepare(pull, layer, layer.parent);
  await using mountPoint = await makeMountPoint(pull.shared.scratch);
  const mode: ApplyMode = layer.parent === "" ? "base" : "merged";
  const { usage } = await fill(pull, layer, half, mode, mountPoint.path);
  await half.commit(usage);
}

/** Apart from the layers below. @param below resolves when they are committed */
export async function extractApart(pull: PullContext, layer: Layer, below: Promise<void>): Promise<void> {
  pull.share.missingBytes += layer.descriptor.size;
  {
    await using half = await HalfLayer.prepare(pull, layer, "");
    const { usage, notes } = await fill(pull, layer, half, layer.parent === "" ? "base" : "detached", "");
    await below;
    const mended = await mend(pull, layer, half, notes);
    if (mended.kind === "mended") {
      throwIfAborted(pull.signal);
      await half.commit(sum(usage, mended.usage));
      return;
    }
    pull.shared.logger.debug({ layer: layer.descriptor.digest, why: mended.why }, "a layer is extracted once more");
  }
  await extractMerged(pull, layer);
}

async function fill(
  pull: PullContext,
  layer: Layer,
  half: HalfLayer,
  mode: ApplyMode,
  mountPoint: string,
): Promise<JobResult> {
  const { shared } = pull;
  const { limits, devices } = shared;
  if (!pull.gate.open) await Promise.all([ensureBlob(pull, layer), pull.gate.passed]);
  const overlayXattrs = overlayOptions().includes("userxattr") ? "user" : "trusted";
  const target: UnpackTarget = { mounts: half.mounts, mountPoint, mode, overlayXattrs, limits, devices };
  const result = await extractTo(pull, layer, target);
  for (const warning of result.warnings) shared.logger.debug({ layer: layer.descriptor.digest }, warning);
  throwIfAborted(pull.signal);
  if (result.notes?.needsMerged === undefined) {
    await shared.metadata.transact([insertDiff(layer.descriptor.digest, layer.diffId)]);
  }
  return result;
}

/** From the blob if it is here by now, else while it streams. */
async function extractTo(pull: PullContext, layer: Layer, unpack: UnpackTarget): Promise<JobResult> {
  const { locks, content, workers } = pull.shared;
  const { descriptor, diffId, index } = layer;
  const streamed = await locks.run(
    `blob ${descriptor.digest}`,
    async () => {
      if (await adopt(pull, descriptor.digest)) return undefined;
      using _ = await slotFor(pull, layer, "transfer");
      pull.progress.state(index, "downloading");
      let result: JobResult | undefined;
      await ingestLayer(pull, descriptor, async ({ dataPath }) => {
        const job = jobOf(pull, layer, registrySource(pull, dataPath));
        const split = unpack.mode !== "merged" && fillsTwoThreads(pull, layer);
        if (split) result = await runInTwo(pull, layer, job, unpack);
        else result = await workers.run({ ...job, diffId, unpack }, watch(pull, layer));
        return result;
      });
      return result;
    },
    pull.signal,
  );
  if (streamed !== undefined) return streamed;
  pull.progress.offset(index, descriptor.size);
  using _ = await slotFor(pull, layer, "local");
  pull.progress.state(index, "unpacking");
  const source: LayerSource = { kind: "file", path: await content.path(pull.namespace, descriptor.digest) };
  return await workers.run({ ...jobOf(pull, layer, source), diffId, unpack }, { signal: pull.signal });
}

/** Puts right what the extraction could not know; the layers below are committed. */
async function mend(
  pull: PullContext,
  layer: Layer,
  half: HalfLayer,
  notes: DetachedNotes | undefined,
): Promise<MendResult> {
  if (notes?.needsMerged !== undefined) return { kind: "merge", why: notes.needsMerged };
  if (notes === undefined || isComplete(notes)) return { kind: "mended", usage: { sizeBytes: 0, inodes: 0 } };
  const { workers, scratch, slots } = pull.shared;
  const { subject } = jobOf(pull, layer, { kind: "file", path: "" });
  return await withBelow(pull, layer, async (below) => {
    await using mountPoint = await makeMountPoint(scratch);
    using _ = await slots.acquire({ share: pull.share, sizeBytes: 0, index: layer.index }, pull.signal);
    return await workers.mend(
      { subject, upper: half.mounts, below, mountPoint: mountPoint.path, notes },
      { signal: pull.signal },
    );
  });
}

function isComplete({
  inventedDirectories,
  assumedDirectories,
  whiteoutDirectories,
  missingLinks,
}: DetachedNotes): boolean {
  return [inventedDirectories, assumedDirectories, whiteoutDirectories, missingLinks].every(
    ({ length }) => length === 0,
  );
}

function sum(a: LayerUsage, b: LayerUsage): LayerUsage {
  return { sizeBytes: a.sizeBytes + b.sizeBytes, inodes: a.inodes + b.inodes };
}
