/** Leases as rows of the metadata; see leases.ts for the contract. */
import { hasCode, isDigest, StatusError, uuidv7, type Clock, type Logger } from "@berth/base";
import type { ContentStore } from "@berth/content";
import type { Metadata, Statement } from "@berth/metadata";
import { anyFilterMatches, parseFilter, type FieldOf } from "@berth/model";
import { parseTime } from "../gc/labels.ts";
import { EXPIRE_LABEL, type Lease, type LeaseResource, type Leases, type NewLease } from "./leases.ts";
import {
  deleteLease,
  deleteLeaseResource,
  insertLease,
  insertLeaseResource,
  leaseMissing,
  LeaseRows,
  requireLease,
} from "./rows.ts";

export interface LeaseStoreDeps {
  readonly metadata: Metadata;
  readonly content: Pick<ContentStore, "abort" | "releaseLease">;
  readonly clock: Clock;
  readonly logger: Logger;
  /** A lease has gone and somebody waits for what that frees. */
  readonly collect: () => Promise<unknown>;
}

/** containerd's bounds on identifiers and labels. */
const ID = /^[A-Za-z0-9]+(?:[-._][A-Za-z0-9]+)*$/;
const MAX_ID_LENGTH = 76;
const MAX_LABEL_LENGTH = 4_096;
const MAX_RESOURCE_LENGTH = 4_096;

export class LeaseStore implements Leases {
  readonly rows: LeaseRows;
  readonly #deps: LeaseStoreDeps;

  constructor(deps: LeaseStoreDeps) {
    this.#deps = deps;
    this.rows = new LeaseRows(deps.metadata);
  }

  async create(namespace: string, given: NewLease = {}): Promise<Lease> {
    checkNamespace(namespace);
    const { expiresAtMs } = given;
    const expire = expiresAtMs === undefined ? {} : { [EXPIRE_LABEL]: timeLabel(expiresAtMs) };
    const labels = { ...given.labels, ...expire };
    const id = given.id ?? uuidv7();
    checkLease(id, labels);
    await this.#deps.metadata.transact([insertLease({ namespace, id, labels, createdAtMs: this.#deps.clock.nowMs() })]);
    return await this.get(namespace, id);
  }

  async get(namespace: string, id: string): Promise<Lease> {
    const lease = this.rows.find(namespace, id);
    if (lease === undefined) throw leaseMissing(namespace, id);
    return lease;
  }

  async delete(namespace: string, id: string, options: { readonly sync?: boolean } = {}): Promise<void> {
    const ingests = this.rows.resources(namespace, id).filter(({ type }) => type === "ingests");
    await this.#deps.metadata.transact([deleteLease(namespace, id)]);
    await this.dropIngests(namespace, id, ingests);
    if (options.sync === true) await this.#deps.collect();
  }

  async list(namespace: string, filters: readonly string[] = []): Promise<readonly Lease[]> {
    const parsed = filters.map(parseFilter);
    return this.rows.list(namespace).filter((lease) => anyFilterMatches(parsed, fieldsOf(lease)));
  }

  async addResource(namespace: string, id: string, resource: LeaseResource): Promise<void> {
    checkResource(resource);
    await this.addResources(namespace, id, [resource]);
  }

  /** Many at once, checked by the caller. */
  async addResources(namespace: string, id: string, resources: readonly LeaseResource[]): Promise<void> {
    await this.assertLive(namespace, id);
    const added = resources.map((resource): Statement => insertLeaseResource(namespace, id, resource));
    await this.#deps.metadata.transact([requireLease(namespace, id), ...added]);
  }

  async deleteResource(namespace: string, id: string, resource: LeaseResource): Promise<void> {
    checkResource(resource);
    const deleted = deleteLeaseResource(namespace, id, resource);
    await this.#deps.metadata.transact([requireLease(namespace, id), deleted]);
  }

  async listResources(namespace: string, id: string): Promise<readonly LeaseResource[]> {
    await this.get(namespace, id);
    return this.rows.resources(namespace, id);
  }

  /** Of a lease that is gone: those it began, and those that were added to it and that no other lease has. */
  async dropIngests(namespace: string, lease: string, added: readonly LeaseResource[]): Promise<number> {
    const { content, logger } = this.#deps;
    let dropped = await content.releaseLease(namespace, lease);
    for (const { id } of added) {
      if (this.rows.isHeld(namespace, { type: "ingests", id })) continue;
      try {
        await content.abort(namespace, id);
        dropped += 1;
      } catch (error) {
        // Committed or dropped already; or somebody writes to it, and then it expires like any other.
        if (!hasCode(error, "NOT_FOUND", "UNAVAILABLE")) throw error;
        logger.debug({ namespace, ref: id, err: error }, "an ingest of an ended lease was left");
      }
    }
    return dropped;
  }

  /** What works under an expired lease would lose what it makes. */
  async assertLive(namespace: string, id: string): Promise<void> {
    const { expiresAtMs } = await this.get(namespace, id);
    if (expiresAtMs === undefined || expiresAtMs > this.#deps.clock.nowMs()) return;
    const text = `lease "${id}" of namespace "${namespace}" expired at ${timeLabel(expiresAtMs)}; create another one`;
    throw new StatusError("FAILED_PRECONDITION", text, { reason: "LEASE_EXPIRED" });
  }
}

function fieldsOf({ id, labels }: Lease): FieldOf {
  return (path) => {
    if (path[0] === "id" && path.length === 1) return id;
    return path[0] === "labels" && path.length > 1 ? labels[path.slice(1).join(".")] : undefined;
  };
}

function timeLabel(ms: number): string {
  const time = new Date(ms);
  if (!Number.isNaN(time.getTime())) return time.toISOString();
  throw StatusError.invalid([{ field: "expiresAtMs", description: "is no time" }], "LEASE_INVALID");
}

function checkNamespace(namespace: string): void {
  if (namespace !== "" && !namespace.includes("/")) return;
  throw StatusError.invalid([{ field: "namespace", description: "must be a name without a slash" }], "LEASE_INVALID");
}

function checkLease(id: string, labels: Readonly<Record<string, string>>): void {
  const wrong = (field: string, description: string): StatusError =>
    StatusError.invalid([{ field, description }], "LEASE_INVALID");
  if (id.length > MAX_ID_LENGTH || !ID.test(id)) {
    throw wrong("id", `must be letters and digits, joined by single "-", "." or "_", at most ${MAX_ID_LENGTH}`);
  }
  for (const [key, value] of Object.entries(labels)) {
    if (key === "") throw wrong("labels", "has an empty key");
    if (key.length + value.length > MAX_LABEL_LENGTH) {
      throw wrong(
        `labels.${key.slice(0, 64)}`,
        `is longer than ${MAX_LABEL_LENGTH} characters, key and value together`,
      );
    }
  }
  const expire = labels[EXPIRE_LABEL];
  if (expire !== undefined && parseTime(expire) === undefined) {
    throw wrong(`labels.${EXPIRE_LABEL}`, "is not an RFC 3339 time such as 2026-01-31T12:00:00Z");
  }
}

function checkResource({ type, id }: LeaseResource): void {
  const wrong = (field: string, description: string): StatusError =>
    StatusError.invalid([{ field, description }], "LEASE_RESOURCE_INVALID");
  if (id === "" || id.length > MAX_RESOURCE_LENGTH)
    throw wrong("id", `must have 1 to ${MAX_RESOURCE_LENGTH} characters`);
  if (type === "content" && !isDigest(id)) throw wrong("id", "is not a digest of the form sha256:<64 hex digits>");
  if (type === "content" || type === "ingests" || type === "images") return;
  if (type === "snapshots") throw wrong("type", "names no snapshotter; write snapshots/overlayfs");
  if (/^snapshots\/[^/\s]+$/.test(type)) return;
  const text = `a lease cannot hold ${JSON.stringify(type)}; there are content, snapshots/<snapshotter>, ingests and images`;
  throw new StatusError("UNIMPLEMENTED", text, { reason: "LEASE_RESOURCE_UNSUPPORTED" });
}
