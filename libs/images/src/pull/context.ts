/** What all steps of a pull share: the service's parts, and the one pull's own. */
import type { Clock, KeyedLock, Logger } from "@berth/base";
import type { ContentStore } from "@berth/content";
import type { Metadata } from "@berth/metadata";
import type { ImageReference, Platform } from "@berth/model";
import type { RegistryClient } from "@berth/registry";
import type { DevicePolicy } from "../archive/apply.ts";
import type { ArchiveLimits } from "../archive/entry.ts";
import type { PinSet, Pins } from "../pins.ts";
import type { ImageRows } from "../rows.ts";
import type { DecompressConfig } from "./decompress.ts";
import type { LayerSnapshots } from "./layer-snapshots.ts";
import type { LayerWorkers } from "./layer-workers.ts";
import type { ProgressTracker } from "./progress.ts";
import type { RangeConfig } from "./ranges.ts";
import type { LayerSlots, PullShare } from "./slots.ts";
import type { ImageVerifier, VerificationCandidate } from "./verification.ts";

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
  /** Whoever holds one waits for no lock. */
  readonly slots: LayerSlots;
  readonly limits: ArchiveLimits;
  readonly ranges: RangeConfig;
  /** From this size on, two threads may work on one layer. */
  readonly twoThreadsBytes: number;
  readonly decompress: Omit<DecompressConfig, "mediaType">;
  readonly devices: DevicePolicy;
  /** Absent where every image may be used. */
  readonly verify?: ImageVerifier | undefined;
  /** An existing directory for mount points. */
  readonly scratch: string;
  /** Told when a namespace's images became more: its quota may be exceeded. */
  readonly grew: (namespace: string) => void;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** The namespace's policy on images, as it stands for one pull. See verification.ts. */
export interface Gate {
  /** Has it agreed? */
  readonly open: boolean;
  /** Resolves when it has agreed; rejects when it refuses. */
  readonly passed: Promise<void>;
}

/** One pull, as the service begins it. */
export interface PullInput {
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
  /** Without it, only bytes are fetched. */
  readonly unpack: boolean;
  /** What the pull needs is added to it. */
  readonly lease?: string | undefined;
  /** Signatures that came along with the image, as in an archive. */
  readonly signatures?: VerificationCandidate["signatures"];
}

/** One pull whose layers are being worked on. */
export interface PullContext extends PullInput {
  /** What it holds of the slots. */
  readonly share: PullShare;
  readonly gate: Gate;
}
