/** What others on this host hold on to, as whoever owns containers tells it at each collection. */
import type { Digest } from "@berth/base";

export interface ImageReferences {
  /** Snapshots in use, by key: layers by chain id. */
  readonly snapshots: readonly {
    readonly namespace: string;
    readonly snapshotter: string;
    readonly chainId: string;
    readonly reason?: string;
  }[];
  /** Content that is no image's. */
  readonly blobs?: readonly { readonly namespace: string; readonly digest: Digest }[];
  /** Container objects: each holds its snapshot, what its labels name, and its image against eviction. */
  readonly containers?: readonly HeldContainer[];
  /** Images that must not be evicted for another reason, such as a campaign's. */
  readonly images?: readonly { readonly namespace: string; readonly name: string; readonly reason: string }[];
}

export interface HeldContainer {
  readonly namespace: string;
  readonly id: string;
  readonly image: string;
  readonly snapshotter: string;
  readonly snapshotKey: string;
  readonly labels: Readonly<Record<string, string>>;
}
