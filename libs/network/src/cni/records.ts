/**
 * Attachments in the agent's metadata: written before anything is made, deleted after everything is gone (A6).
 *
 *   (none) ─► adding ─► attached ─► removing ─► (none)
 *
 * `adding` after a restart means that nobody knows how far it came; `removing`, that what is left is not usable. Both are
 * released before the name is used again.
 */
import type { Metadata, Migration, SqlRow, Statement } from "@berth/metadata";
import type { NetworkMode, PortMapping } from "../network.ts";
import type { Conflist } from "./conflist.ts";
import type { CniResult } from "./plugin.ts";

export const networkMigrations: readonly Migration[] = [
  {
    name: "network-0001-attachments",
    sql: `CREATE TABLE network_attachments (
      namespace TEXT NOT NULL,
      id TEXT NOT NULL,
      phase TEXT NOT NULL CHECK (phase IN ('adding', 'attached', 'removing')),
      mode TEXT NOT NULL CHECK (mode IN ('bridge', 'host', 'none')),
      container_id TEXT NOT NULL UNIQUE,
      netns_path TEXT,
      ports TEXT NOT NULL,
      conflist TEXT,
      result TEXT,
      created_at_ms INTEGER NOT NULL,
      PRIMARY KEY (namespace, id)
    ) STRICT, WITHOUT ROWID`,
  },
];

export interface AttachmentRecord {
  readonly namespace: string;
  readonly id: string;
  readonly phase: "adding" | "attached" | "removing";
  readonly mode: NetworkMode;
  /** CNI's name for it: unique for every attachment ever made, so that no plugin mixes up an old one with a new one. */
  readonly containerId: string;
  readonly netnsPath: string | undefined;
  readonly ports: readonly PortMapping[];
  readonly conflist: Conflist | undefined;
  readonly result: CniResult | undefined;
  readonly createdAtMs: number;
}

export class AttachmentRecords {
  readonly #metadata: Metadata;

  constructor(metadata: Metadata) {
    this.#metadata = metadata;
  }

  get(namespace: string, id: string): AttachmentRecord | undefined {
    const row = this.#metadata.get("SELECT * FROM network_attachments WHERE namespace = ? AND id = ?", namespace, id);
    return row === undefined ? undefined : toRecord(row);
  }

  all(): readonly AttachmentRecord[] {
    return this.#metadata.all("SELECT * FROM network_attachments ORDER BY namespace, id").map(toRecord);
  }

  async insert(record: AttachmentRecord): Promise<void> {
    await this.#write({
      sql: `INSERT INTO network_attachments
        (namespace, id, phase, mode, container_id, netns_path, ports, conflist, result, created_at_ms)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL, ?)`,
      params: [
        record.namespace,
        record.id,
        record.phase,
        record.mode,
        record.containerId,
        record.netnsPath ?? null,
        JSON.stringify(record.ports),
        record.conflist === undefined ? null : JSON.stringify(record.conflist),
        record.createdAtMs,
      ],
    });
  }

  async keepResult(record: AttachmentRecord, result: CniResult): Promise<void> {
    await this.#write({
      sql: "UPDATE network_attachments SET result = ? WHERE container_id = ?",
      params: [JSON.stringify(result), record.containerId],
    });
  }

  async setPhase(record: AttachmentRecord, phase: AttachmentRecord["phase"]): Promise<void> {
    await this.#write({
      sql: "UPDATE network_attachments SET phase = ? WHERE container_id = ?",
      params: [phase, record.containerId],
    });
  }

  async remove(record: AttachmentRecord): Promise<void> {
    await this.#write({
      sql: "DELETE FROM network_attachments WHERE container_id = ?",
      params: [record.containerId],
    });
  }

  async #write(statement: Statement): Promise<void> {
    await this.#metadata.transact([statement]);
  }
}

function toRecord(row: SqlRow): AttachmentRecord {
  const text = (column: string): string => row[column] as string;
  const json = (column: string): unknown =>
    typeof row[column] === "string" ? (JSON.parse(row[column]) as unknown) : undefined;
  return {
    namespace: text("namespace"),
    id: text("id"),
    phase: text("phase") as AttachmentRecord["phase"],
    mode: text("mode") as NetworkMode,
    containerId: text("container_id"),
    netnsPath: typeof row.netns_path === "string" ? row.netns_path : undefined,
    ports: json("ports") as PortMapping[],
    conflist: json("conflist") as Conflist | undefined,
    result: json("result") as CniResult | undefined,
    createdAtMs: Number(row.created_at_ms),
  };
}
