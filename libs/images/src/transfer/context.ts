/** What all transfers share, and what one of them holds. */
import type { Digest } from "@berth/base";
import type { RegistryClient } from "@berth/registry";
import type { PinSet } from "../pins.ts";
import type { Shared } from "../pull/context.ts";
import type { LayerSnapshots } from "../pull/layer-snapshots.ts";
import type { VerificationRows } from "../verify/rows.ts";
import type { TransferThread } from "./transfer-thread.ts";

export interface TransferDeps {
  readonly shared: Shared;
  readonly registry: (namespace: string) => RegistryClient;
  /** @throws INVALID_ARGUMENT `SNAPSHOTTER_MISSING` */
  readonly snapshotter: (name: string) => LayerSnapshots;
  /** Any: where nothing is unpacked. */
  readonly anySnapshotter: () => LayerSnapshots;
  readonly signatures: VerificationRows;
  /** The pins of one transfer, and what they are noted in; disposed at its end. */
  readonly hold: (namespace: string, lease: string | undefined) => Promise<Hold>;
  /** Gives back what only these pins held, and the pins. */
  readonly giveBack: (namespace: string, pins: PinSet, what: string) => Promise<void>;
  /** Ends transfers when the service closes. */
  readonly closing: AbortSignal;
}

export interface Hold extends AsyncDisposable {
  readonly pins: PinSet;
}

/** One transfer. */
export interface TransferContext {
  readonly deps: TransferDeps;
  readonly namespace: string;
  readonly pins: PinSet;
  readonly thread: TransferThread;
  readonly signal: AbortSignal;
  readonly progress: BlobTracker;
}

/** What a transfer tells of one blob. */
export interface BlobTracker {
  state(digest: Digest, state: "copying" | "done" | "exists" | "mounted"): void;
  offset(digest: Digest, offsetBytes: number): void;
}
