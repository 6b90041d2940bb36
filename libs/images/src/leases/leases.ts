/**
 * The contract of leases: what a client is working with stays, though nothing refers to it yet.
 *
 * The story of a lease: a client makes one (`create`, usually with an expiry), does its work under the lease's id – a pull, an
 * import, writes through a door – and each resource that the work makes is added to it. When an image or a container
 * refers to the result, the client deletes the lease; if the client dies, the lease expires. From then on the resources
 * are judged by what else refers to them. The words and their meaning are containerd's (leases.v1).
 *
 * Invariants:
 *  1. A lease belongs to one namespace and holds only what that namespace has (D7).
 *  2. What a live lease holds is not collected, nor what that refers to; with the label `containerd.io/gc.flat` only the
 *     resources themselves are held.
 *  3. A lease past its `containerd.io/gc.expire` holds nothing; the next collection removes it, with the ingests that it held.
 *  4. Adding a resource is durable when its promise resolves, and no collection that is under way removes it from then on.
 */

/** Kept as the RFC 3339 label that containerd's clients read and write. */
export const EXPIRE_LABEL = "containerd.io/gc.expire";
export const FLAT_LABEL = "containerd.io/gc.flat";

export interface Lease {
  readonly namespace: string;
  readonly id: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly createdAtMs: number;
  /** Of the label; absent for a lease that lasts until it is deleted. */
  readonly expiresAtMs?: number;
}

export interface LeaseResource {
  /** `content`, `snapshots/<snapshotter>`, `ingests` or `images`. */
  readonly type: string;
  /** The digest, the snapshot's key, the ingest's ref or the image's name. */
  readonly id: string;
}

export interface NewLease {
  /** Made up when absent. */
  readonly id?: string;
  readonly labels?: Readonly<Record<string, string>>;
  /** Becomes the label `containerd.io/gc.expire`. */
  readonly expiresAtMs?: number;
}

export interface Leases {
  /** @throws ALREADY_EXISTS `LEASE_EXISTS`; INVALID_ARGUMENT `LEASE_INVALID` for a wrong id, or an expiry that is no RFC 3339 time. */
  create(namespace: string, lease?: NewLease): Promise<Lease>;
  /** @throws NOT_FOUND `LEASE_MISSING`. */
  get(namespace: string, id: string): Promise<Lease>;
  /**
   * What only this lease held goes with the next collection.
   * @param options.sync collects before it resolves
   * @throws NOT_FOUND `LEASE_MISSING`.
   */
  delete(namespace: string, id: string, options?: { readonly sync?: boolean }): Promise<void>;
  /**
   * Those that any of containerd's filters selects, all without one; fields are `id` and `labels.<key>`.
   * @throws INVALID_ARGUMENT `FILTER_INVALID`.
   */
  list(namespace: string, filters?: readonly string[]): Promise<readonly Lease[]>;
  /**
   * Adding what the lease has already succeeds quietly; the resource need not be there yet.
   * @throws NOT_FOUND `LEASE_MISSING`; FAILED_PRECONDITION `LEASE_EXPIRED`; INVALID_ARGUMENT `LEASE_RESOURCE_INVALID`;
   * UNIMPLEMENTED `LEASE_RESOURCE_UNSUPPORTED` for another type.
   */
  addResource(namespace: string, id: string, resource: LeaseResource): Promise<void>;
  /** Deleting what the lease does not have succeeds quietly. */
  deleteResource(namespace: string, id: string, resource: LeaseResource): Promise<void>;
  listResources(namespace: string, id: string): Promise<readonly LeaseResource[]>;
}
