/** The rows of leases: SQL in, records out. Writes are statements, for callers to join into one transaction. */
import { StatusError } from "@berth/base";
import type { Metadata, SqlRow, Statement } from "@berth/metadata";
import { expiryOf } from "../gc/labels.ts";
import type { Lease, LeaseResource } from "./leases.ts";

export interface LeaseResourceRow extends LeaseResource {
  readonly namespace: string;
  readonly lease: string;
}

export class LeaseRows {
  readonly #metadata: Metadata;

  constructor(metadata: Metadata) {
    this.#metadata = metadata;
  }

  find(namespace: string, id: string): Lease | undefined {
    const row = this.#metadata.get("SELECT * FROM leases WHERE namespace = ? AND id = ?", namespace, id);
    return row === undefined ? undefined : toLease(row);
  }

  list(namespace: string): Lease[] {
    return this.#metadata.all("SELECT * FROM leases WHERE namespace = ? ORDER BY id", namespace).map(toLease);
  }

  /** A page of all namespaces' leases, after one of them. */
  page(after: { readonly namespace: string; readonly id: string } | undefined, limit: number): Lease[] {
    const sql = "SELECT * FROM leases WHERE (namespace, id) > (?, ?) ORDER BY namespace, id LIMIT ?";
    return this.#metadata.all(sql, after?.namespace ?? "", after?.id ?? "", limit).map(toLease);
  }

  resources(namespace: string, lease: string): LeaseResource[] {
    const sql = "SELECT type, id FROM lease_resources WHERE namespace = ? AND lease = ? ORDER BY type, id";
    return this.#metadata.all(sql, namespace, lease).map(toResource);
  }

  /** Has any lease the resource? */
  isHeld(namespace: string, { type, id }: LeaseResource): boolean {
    const sql = "SELECT 1 FROM lease_resources WHERE namespace = ? AND type = ? AND id = ? LIMIT 1";
    return this.#metadata.get(sql, namespace, type, id) !== undefined;
  }

  /** A page of a lease's resources. */
  resourcePage(
    namespace: string,
    lease: string,
    after: LeaseResource | undefined,
    limit: number,
  ): readonly LeaseResource[] {
    const sql = `SELECT type, id FROM lease_resources
      WHERE namespace = ? AND lease = ? AND (type, id) > (?, ?) ORDER BY type, id LIMIT ?`;
    return this.#metadata.all(sql, namespace, lease, after?.type ?? "", after?.id ?? "", limit).map(toResource);
  }
}

export function leaseMissing(namespace: string, id: string): StatusError {
  return new StatusError("NOT_FOUND", `lease "${id}" is not in namespace "${namespace}"`, { reason: "LEASE_MISSING" });
}

export function insertLease({ namespace, id, labels, createdAtMs }: Lease): Statement {
  return {
    sql: "INSERT INTO leases VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
    params: [namespace, id, JSON.stringify(labels), createdAtMs],
    expect: {
      changes: 1,
      otherwise: {
        code: "ALREADY_EXISTS",
        reason: "LEASE_EXISTS",
        message: `lease "${id}" exists already in namespace "${namespace}"`,
      },
    },
  };
}

export function deleteLease(namespace: string, id: string): Statement {
  return { ...removeLease(namespace, id), expect: { changes: 1, otherwise: leaseMissing(namespace, id) } };
}

/** The same for one that may be gone. */
export function removeLease(namespace: string, id: string): Statement {
  return { sql: "DELETE FROM leases WHERE namespace = ? AND id = ?", params: [namespace, id] };
}

/** Fails the transaction unless the lease is there. */
export function requireLease(namespace: string, id: string): Statement {
  return {
    sql: "SELECT 1 FROM leases WHERE namespace = ? AND id = ?",
    params: [namespace, id],
    expect: { rows: 1, otherwise: leaseMissing(namespace, id) },
  };
}

export function insertLeaseResource(namespace: string, lease: string, { type, id }: LeaseResource): Statement {
  return {
    sql: "INSERT INTO lease_resources VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
    params: [namespace, lease, type, id],
  };
}

export function deleteLeaseResource(namespace: string, lease: string, { type, id }: LeaseResource): Statement {
  return {
    sql: "DELETE FROM lease_resources WHERE namespace = ? AND lease = ? AND type = ? AND id = ?",
    params: [namespace, lease, type, id],
  };
}

function toLease(row: SqlRow): Lease {
  const labels = JSON.parse(String(row["labels"])) as Record<string, string>;
  const expiresAtMs = expiryOf(labels);
  return {
    namespace: String(row["namespace"]),
    id: String(row["id"]),
    labels,
    createdAtMs: Number(row["created_at_ms"]),
    ...(expiresAtMs === undefined ? {} : { expiresAtMs }),
  };
}

function toResource(row: SqlRow): LeaseResource {
  return { type: String(row["type"]), id: String(row["id"]) };
}
