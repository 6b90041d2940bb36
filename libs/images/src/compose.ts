/**
 * What the image service is made of: what its owner gives and decides, and the parts that share rows, locks and pins. What the
 * parts do for callers is in service.ts.
 */
import { availableParallelism } from "node:os";
import { KeyedLock, silentLogger, systemClock, type Clock, type Logger } from "@berth/base";
import type { ContentStore } from "@berth/content";
import type { Metadata } from "@berth/metadata";
import type { RegistryClient } from "@berth/registry";
import type { NamespacedSnapshots } from "@berth/snapshots";
import type { DevicePolicy } from "./archive/apply.ts";
import { defaultArchiveLimits, type ArchiveLimits } from "./archive/entry.ts";
import { watchChanges } from "./gc/changes.ts";
import { Collection } from "./gc/collection.ts";
import type { GcConfig } from "./gc/gc.ts";
import { ImagePinStore } from "./gc/image-pins.ts";
import type { DiskSpace } from "./gc/pressure.ts";
import type { ImageReferences } from "./gc/references.ts";
import { ImageUses } from "./gc/uses.ts";
import { LeaseStore } from "./leases/store.ts";
import { Pins } from "./pins.ts";
import type { Shared } from "./pull/context.ts";
import type { DecompressConfig } from "./pull/decompress.ts";
import { LayerWorkers } from "./pull/layer-workers.ts";
import { defaultRanges, type RangeConfig } from "./pull/ranges.ts";
import { defaultSlots, LayerSlots, type SlotsConfig } from "./pull/slots.ts";
import { DEFAULT_TWO_THREADS_BYTES } from "./pull/two-threads.ts";
import { ImageRows } from "./rows.ts";
import type { PolicyVerifier } from "./verify/verifier.ts";

export interface ImagesDeps {
  /** Opened with `imageMigrations` among its migrations. Where others write to it too, it and they get one `watchChanges`. */
  readonly metadata: Metadata;
  readonly content: ContentStore;
  /** Each opened once per process. */
  readonly snapshotters: readonly NamespacedSnapshots[];
  /** A client with this namespace's credentials; stays the caller's. */
  readonly registry: (namespace: string) => RegistryClient;
  /** A folder of this service alone, for mount points. */
  readonly scratch: string;
  /** Asked at each collection. */
  readonly references?: () => Promise<ImageReferences>;
  /** Of the file system that content and snapshots are on; needed for watermarks. */
  readonly disk?: () => DiskSpace;
  /** Asked at every pull, import and start; absent, every image may be used. */
  readonly verifier?: PolicyVerifier;
  readonly logger?: Logger;
  readonly clock?: Clock;
}

export interface ImagesConfig {
  /** How many layers are worked on at once, and how they are shared out; see pull/slots.ts. */
  readonly slots?: Partial<SlotsConfig>;
  /** How long an idle worker thread is kept. Default 30 s. */
  readonly workerIdleMs?: number;
  readonly limits?: Partial<ArchiveLimits>;
  /** When large layers are fetched by several streams at once; see pull/ranges.ts. */
  readonly ranges?: Partial<RangeConfig>;
  /** From this size on, two threads may work on one layer. Default 8 MiB; see pull/two-threads.ts. */
  readonly twoThreadsBytes?: number;
  /** Stream processors for layers of other media types, and programs that are not to be used. */
  readonly decompress?: Omit<DecompressConfig, "mediaType">;
  /** What is done with device nodes in layers. Default: they are made. */
  readonly devices?: DevicePolicy;
  readonly gc?: GcConfig;
}

/** Each is opened and closed by the service. */
export interface ImageParts {
  readonly shared: Shared;
  readonly leases: LeaseStore;
  readonly pins: ImagePinStore;
  readonly uses: ImageUses;
  readonly gc: Collection;
  readonly references: () => Promise<ImageReferences>;
}

/** Of one process, one. */
export function composeImages(deps: ImagesDeps, config: ImagesConfig): ImageParts {
  const metadata = watchChanges(deps.metadata);
  const shared = sharedOf(deps, config, metadata, (namespace) => gc.grew(namespace));
  const { clock, logger, locks } = shared;
  const collect = (): Promise<unknown> => gc.run({ trigger: "lease-delete" });
  const leases = new LeaseStore({ metadata, content: deps.content, clock, logger, collect });
  const uses = new ImageUses(metadata, clock, logger);
  const references = deps.references ?? (async () => ({ snapshots: [] }));
  const parts = { metadata, pins: shared.pins, locks, clock, logger, references, leases, uses };
  const gc = new Collection({ ...deps, ...parts }, config.gc ?? {});
  return { shared, leases, pins: new ImagePinStore(metadata, clock), uses, gc, references };
}

function sharedOf(deps: ImagesDeps, config: ImagesConfig, metadata: Metadata, grew: Shared["grew"]): Shared {
  return {
    metadata,
    rows: new ImageRows(metadata),
    content: deps.content,
    workers: new LayerWorkers({ idleMs: config.workerIdleMs ?? 30_000, graceMs: 5_000 }),
    locks: new KeyedLock(),
    pins: new Pins(),
    slots: new LayerSlots({ ...defaultSlots(availableParallelism()), ...config.slots }),
    limits: { ...defaultArchiveLimits, ...config.limits },
    ranges: { ...defaultRanges, ...config.ranges },
    twoThreadsBytes: config.twoThreadsBytes ?? DEFAULT_TWO_THREADS_BYTES,
    decompress: config.decompress ?? {},
    devices: config.devices ?? "allow",
    verify: deps.verifier?.check,
    scratch: deps.scratch,
    grew,
    clock: deps.clock ?? systemClock,
    logger: deps.logger ?? silentLogger,
  };
}
