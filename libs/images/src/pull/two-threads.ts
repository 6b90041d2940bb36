/**
 * A large layer by two threads: one fetches, hashes and decompresses, the other hashes and extracts what comes out of it,
 * from memory that both see (ring.ts).
 *
 * Only for a layer that is most of what the pull has to do: with several, each thread has layers of its own to do.
 * What goes wrong while extracting is not told apart here (was it the archive, or its decompression?): the blob, once it has
 * proved to be the right one, is judged again by a single job.
 */
import { throwIfAborted } from "@berth/base";
import { isDiskFull } from "./blobs.ts";
import type { PullContext } from "./context.ts";
import type { JobResult, LayerJob, UnpackTarget } from "./layer-job.ts";
import type { Layer } from "./layers.ts";
import { ringMemory } from "./ring.ts";
import { jobOf, watch } from "./transfer.ts";

/** Below this, a second thread costs more than it brings. */
export const DEFAULT_TWO_THREADS_BYTES = 8 * 1024 * 1024;

export function fillsTwoThreads({ shared, share }: PullContext, { descriptor }: Layer): boolean {
  const { size } = descriptor;
  return size >= shared.twoThreadsBytes && size * 2 >= share.missingBytes && shared.workers.spare >= 2;
}

/** @param job fetches the layer */
export async function runInTwo(
  pull: PullContext,
  layer: Layer,
  job: LayerJob,
  unpack: UnpackTarget,
): Promise<JobResult> {
  const { workers } = pull.shared;
  const stop = new AbortController();
  const signal = AbortSignal.any([pull.signal, stop.signal]);
  throwIfAborted(signal);
  const memory = ringMemory();
  const extracting = workers.run(
    { ...jobOf(pull, layer, { kind: "ring", memory }), diffId: layer.diffId, unpack },
    { signal },
  );
  const fetching = workers.run({ ...job, output: memory }, { ...watch(pull, layer), signal });
  const extracted = extracting.catch((error: unknown) => {
    if (isDiskFull(error)) stop.abort(error);
    return error;
  });
  try {
    const { computed } = await fetching;
    const outcome = await extracted;
    if (isDiskFull(outcome)) throw outcome;
    throwIfAborted(signal);
    return {
      ...(isResult(outcome) ? outcome : inconclusive(outcome)),
      ...(computed === undefined ? {} : { computed }),
    };
  } catch (error) {
    stop.abort(error);
    const outcome = await extracted;
    throw isDiskFull(outcome) ? outcome : error;
  }
}

function isResult(outcome: unknown): outcome is JobResult {
  return typeof outcome === "object" && outcome !== null && "entries" in outcome;
}

/** To be extracted again. */
function inconclusive(error: unknown): JobResult {
  const notes = {
    inventedDirectories: [],
    assumedDirectories: [],
    whiteoutDirectories: [],
    missingLinks: [],
    needsMerged: error instanceof Error ? error.message : String(error),
  };
  return { entries: 0, usage: { sizeBytes: 0, inodes: 0 }, warnings: [], notes };
}
