/**
 * The contract of collection: what nothing refers to goes, and under pressure what has not been used for longest.
 *
 * The story of a collection: **mark** what is reachable from the roots, in all namespaces; **plan** what is not, and what has to
 * go although it is, because the disk or a namespace's quota is full; **sweep** it. A dry run ends with the plan.
 *
 * Roots are images, live leases, containers and their snapshots, objects labelled `containerd.io/gc.root`, and what running
 * pulls have pinned (pins.ts). Edges are the children of manifests, indexes and configs, the parents of snapshots, and
 * containerd's labels `gc.ref.*` and `gc.bref.*`.
 *
 * Invariants:
 *  1. What was reachable when the mark began, and what became so since by any transaction (changes.ts), is not removed.
 *  2. No transaction spans file-system work: a row says that the thing is gone before its bytes go (A2).
 *  3. Mark and plan work in slices of a few milliseconds on the event loop (A4).
 *  4. Nothing in use goes under pressure: no image of a container or of a running pull, none pinned, none leased.
 */

/** Why a collection runs: for counters and logs. */
export type GcTrigger =
  | "request"
  | "mutations"
  | "deletions"
  | "schedule"
  | "startup"
  | "watermark"
  | "quota"
  | "lease-delete";

export type GcKind = "image" | "lease" | "content" | "snapshot" | "ingest";

export interface GcItem {
  readonly kind: GcKind;
  readonly namespace: string;
  /** The digest, image name, lease id or ref; `<snapshotter>/<key>` of a snapshot. */
  readonly key: string;
  /** What its removal gives back: nothing while another namespace has the same content or layer. */
  readonly bytes: number;
  /** For people: `no reference`, `lease "l1" expired 3 h ago`, `least recently used, high watermark 85 %`. */
  readonly reason: string;
}

export interface GcReport {
  readonly trigger: GcTrigger;
  readonly dryRun: boolean;
  readonly startedAtMs: number;
  readonly durationMs: number;
  /** Time on the event loop, of `durationMs`. */
  readonly busyMs: number;
  readonly images: number;
  readonly leases: number;
  readonly blobs: number;
  readonly snapshots: number;
  readonly ingests: number;
  /** Of a dry run: what would be freed. */
  readonly freedBytes: number;
  /** What went, or would go; empty unless asked for by `dryRun` or `details`. */
  readonly removed: readonly GcItem[];
  /** Roots, and why each stays; empty unless asked for. */
  readonly kept: readonly GcItem[];
  /** What pressure could not free, in a sentence; absent when all is well. */
  readonly shortfall?: string;
}

export interface GcRequest {
  readonly trigger?: GcTrigger;
  /** Changes nothing and fills `removed` and `kept`. */
  readonly dryRun?: boolean;
  /** Fills `removed` and `kept` of a real run too. */
  readonly details?: boolean;
  readonly signal?: AbortSignal;
}

export interface GcCounters {
  readonly collections: Readonly<Partial<Record<GcTrigger, number>>>;
  readonly failures: number;
  readonly durationMs: number;
  readonly busyMs: number;
  readonly freedBytes: number;
  readonly images: number;
  readonly leases: number;
  readonly blobs: number;
  readonly snapshots: number;
  readonly ingests: number;
}

export interface GarbageCollection {
  /** One at a time; a run that is asked for while another one goes on waits for it and then runs. */
  run(request?: GcRequest): Promise<GcReport>;
  counters(): GcCounters;
  /** Mutations and deletions since the last collection, by whoever wrote them: what schedules go by. */
  changes(): { readonly mutations: number; readonly deletions: number };
  /** Is the disk above its high watermark? */
  isDiskPressing(): boolean;
  /** Did a namespace that has a quota get images since the last collection began? */
  isQuotaDue(): boolean;
}

/** From when on the disk is full, and from when on no longer; per cent of its size. */
export interface Watermarks {
  readonly highPercent: number;
  readonly lowPercent: number;
}

export interface GcConfig {
  /** Absent: no image goes for want of space. Needs `disk`. */
  readonly watermarks?: Watermarks;
  /** What the images of each namespace may take; absent or 0: no bound. */
  readonly cacheQuotaBytes?: number;
  /** In its place for these namespaces. */
  readonly cacheQuotas?: Readonly<Record<string, number>>;
  /** After how long without a write the content store drops an ingest, for dry runs to say so. Default: a day. */
  readonly ingestTtlMs?: number;
  /** Time on the event loop after which it is given back. Default 4. */
  readonly sliceMs?: number;
}

export interface ImagePin {
  readonly namespace: string;
  /** Normalised reference. */
  readonly name: string;
  /** Who pinned it; an image stays while any holder's pin lasts. */
  readonly holder: string;
  readonly untilMs?: number;
}

/** Keeps images from being evicted or expiring; removing one by name also removes its pins. */
export interface ImagePins {
  /** Pinning again replaces the expiry. @throws NOT_FOUND `IMAGE_MISSING`. */
  pin(
    namespace: string,
    image: string,
    options?: { readonly until?: number; readonly holder?: string },
  ): Promise<ImagePin>;
  /** @throws NOT_FOUND `PIN_MISSING`. */
  unpin(namespace: string, image: string, options?: { readonly holder?: string }): Promise<void>;
  list(namespace: string): Promise<readonly ImagePin[]>;
}
