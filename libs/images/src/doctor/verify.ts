/**
 * Reads everything again that a node has committed, and mends what can be mended: what `berthd verify` does.
 *
 * Blobs are hashed again, in the order of their digests, so that a verification that was stopped goes on `after` the last
 * one. With `layers`, each unpacked layer is extracted a second time beside the first, from its blob and over the layers
 * below it, and both are compared as they appear when mounted: names, kinds, sizes, modes, owners, times, attributes, links
 * and the bytes of files. Layers are taken from the base up, so that each is compared over layers known to be right.
 *
 * Mending (`repair`): a bad blob is fetched again from where its `containerd.io/distribution.source.*` label says it came
 * from, with the credentials of a namespace that has it, and replaced at once when its digest is right. A bad layer's
 * directory is exchanged for the new extraction, unless something stands on it. What could not be mended is reported with the
 * reason and left as it is: a reader of a bad blob must not be told that it was never there.
 *
 * Safe while pulls, starts and collections go on. Reading, hashing, fetching, extracting and comparing happen in worker
 * threads (A4).
 */
import { throwIfAborted, silentLogger, type Digest, type Logger } from "@berth/base";
import type { FileContentStore } from "@berth/content";
import type { Metadata } from "@berth/metadata";
import type { RegistryClient } from "@berth/registry";
import type { NamespacedSnapshots } from "@berth/snapshots";
import { LayerWorkers } from "../pull/layer-workers.ts";
import { verifyBlobs } from "./blobs.ts";
import { verifyLayers } from "./layers.ts";

export interface VerifyDeps {
  readonly metadata: Metadata;
  readonly content: FileContentStore;
  readonly snapshotters: readonly NamespacedSnapshots[];
  /** A client with this namespace's credentials; stays the caller's. Only used to mend. */
  readonly registry: (namespace: string) => RegistryClient;
  /** An existing folder for mount points. */
  readonly scratch: string;
  readonly logger?: Logger;
}

export interface VerifyOptions {
  readonly repair?: boolean;
  /** Also compares unpacked layers, which takes as long as unpacking them. */
  readonly layers?: boolean;
  /** Reads blobs no faster than this. */
  readonly rateBytesPerSecond?: number;
  /** Goes on after this blob. */
  readonly after?: Digest;
  /** Ends it; what was found until then is reported. */
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: VerifyProgress) => void;
}

export interface VerifyProgress {
  readonly phase: "blobs" | "layers";
  readonly done: number;
  readonly total: number;
  /** Of blobs read so far. */
  readonly readBytes: number;
  /** Pass it as `after` to go on from here. */
  readonly cursor: Digest | undefined;
}

/** One thing that is not as it was committed. */
export interface VerifyProblem {
  readonly kind: "blob" | "layer";
  /** Digest of the blob, or chain id of the layer. */
  readonly id: string;
  readonly snapshotter?: string;
  readonly namespaces: readonly string[];
  /** Names of the images it belongs to, as far as known. */
  readonly images: readonly string[];
  readonly what: string;
  /** `found`: nobody asked to mend it. `unchecked`: it could not be looked at. */
  readonly outcome: "found" | "mended" | "unmended" | "unchecked";
  /** Why it was not mended or not checked, with what to do. */
  readonly why?: string;
}

export interface VerifyReport {
  readonly blobs: number;
  readonly readBytes: number;
  readonly layers: number;
  readonly problems: readonly VerifyProblem[];
  /** False when it was ended before its end. */
  readonly complete: boolean;
  readonly cursor: Digest | undefined;
}

/** What the two halves share. */
export interface VerifyRun extends VerifyDeps {
  readonly options: VerifyOptions;
  readonly workers: LayerWorkers;
  readonly log: Logger;
  readonly found: { blobs: number; readBytes: number; layers: number; cursor: Digest | undefined };
  readonly problems: VerifyProblem[];
}

export async function verify(deps: VerifyDeps, options: VerifyOptions = {}): Promise<VerifyReport> {
  await using workers = new LayerWorkers({ idleMs: 5_000, graceMs: 5_000 });
  const found: VerifyRun["found"] = { blobs: 0, readBytes: 0, layers: 0, cursor: options.after };
  const run: VerifyRun = { ...deps, options, workers, log: deps.logger ?? silentLogger, found, problems: [] };
  let complete = false;
  try {
    throwIfAborted(options.signal);
    await verifyBlobs(run);
    if (options.layers === true) await verifyLayers(run);
    complete = true;
  } catch (error) {
    if (options.signal?.aborted !== true) throw error;
  }
  return { ...found, problems: run.problems, complete };
}
