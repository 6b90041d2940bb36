/** What all steps of a pull share: the service's parts, and the one pull's own. */
import type { Clock, KeyedLock, Logger, Semaphore } from "@berth/base";
import type { ContentStore } from "@berth/content";
import type { Metadata } from "@berth/metadata";
import type { ImageReference, Platform } from "@berth/model";
import type { RegistryClient } from "@berth/registry";
import type { ArchiveLimits } from "../archive/entry.ts";
import type { PinSet, Pins } from "../pins.ts";
import type { ImageRows } from "../rows.ts";
import type { LayerSnapshots } from "./layer-snapshots.ts";
import type { LayerWorkers } from "./layer-workers.ts";
import type { ProgressTracker } from "./progress.ts";

/** Parts of the image service, one of each. */
export interface Shared {
  readonly metadata: Metadata;
  readonly rows: ImageRows;
  readonly content: ContentStore;
  readonly workers: LayerWorkers;
  /** By `blob <digest>` and `chain <snapshotter> <chain id>`: each is fetched or extracted once, whoever asks. A holder of
   *  a chain may wait for a blob, never the reverse. */
  readonly locks: KeyedLock;
  readonly pins: Pins;
  /** Taken in this order: unpacks, then downloads. */
  readonly unpacks: Semaphore;
  readonly downloads: Semaphore;
  readonly limits: ArchiveLimits;
  /** An existing directory for mount points. */
  readonly scratch: string;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** One pull. */
export interface PullContext {
  readonly shared: Shared;
  readonly namespace: string;
  readonly ref: ImageReference;
  /** The normalised reference. */
  readonly image: string;
  readonly platform: Platform;
  readonly snapshots: LayerSnapshots;
  /** With this namespace's credentials. */
  readonly registry: RegistryClient;
  readonly signal: AbortSignal;
  readonly pins: PinSet;
  readonly progress: ProgressTracker;
}
