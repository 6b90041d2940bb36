/**
 * What is written to the agent's metadata, as far as collection must know: how much changed and was deleted since the last
 * one, and whether anything was written since a mark that could make reachable what the mark did not reach.
 *
 * Every library's transactions pass through {@link watchChanges}, whichever door they came by; a statement is judged by the
 * table it writes. Noted when a transaction is asked for, which is before anybody can rely on it.
 */
import type { Metadata, SqlRow, SqlValue, Statement, StatementResult } from "@berth/metadata";

/** Rows that are roots or carry edges. `labels`: only when they bear a label that collection obeys. */
const TABLES: Readonly<Record<string, "always" | "labels">> = {
  images: "always",
  image_pins: "always",
  leases: "always",
  lease_resources: "always",
  containers: "always",
  blob_refs: "labels",
  snapshots: "labels",
  snapshot_refs: "labels",
};
const WRITE = /^\s*(INSERT|REPLACE|UPDATE|DELETE)\b(?:\s+OR\s+\w+)?(?:\s+(?:INTO|FROM))?\s+(\w+)/i;
const LABEL = "containerd.io/gc.";
const MAX_KNOWN = 512;

interface Write {
  readonly table: string;
  readonly deletes: boolean;
}

export class StoreChanges {
  readonly #known = new Map<string, Write | undefined>();
  readonly #referencesBy = new Map<string, number>();
  #mutations = 0;
  #deletions = 0;
  #references = 0;

  get mutations(): number {
    return this.#mutations;
  }

  get deletions(): number {
    return this.#deletions;
  }

  /** Grows with every write that may have made something reachable. */
  get references(): number {
    return this.#references;
  }

  /** Tables with such a write since `references` had this value. */
  tablesSince(references: number): readonly string[] {
    return [...this.#referencesBy].filter(([, at]) => at > references).map(([table]) => table);
  }

  note(statements: readonly Statement[]): void {
    for (const { sql, params } of statements) {
      const write = this.#read(sql);
      if (write === undefined) continue;
      this.#mutations += 1;
      if (write.deletes) this.#deletions += 1;
      else if (TABLES[write.table] === "always" || params?.some(bearsLabel) === true) {
        this.#references += 1;
        this.#referencesBy.set(write.table, this.#references);
      }
    }
  }

  /** A collection has dealt with this many. */
  settle(mutations: number, deletions: number): void {
    this.#mutations = Math.max(0, this.#mutations - mutations);
    this.#deletions = Math.max(0, this.#deletions - deletions);
  }

  #read(sql: string): Write | undefined {
    if (this.#known.has(sql)) return this.#known.get(sql);
    const [, verb, table = ""] = WRITE.exec(sql) ?? [];
    const write = table in TABLES ? { table, deletes: verb!.toUpperCase() === "DELETE" } : undefined;
    if (this.#known.size >= MAX_KNOWN) this.#known.clear();
    this.#known.set(sql, write);
    return write;
  }
}

function bearsLabel(value: SqlValue): boolean {
  return typeof value === "string" && value.includes(LABEL);
}

export interface WatchedMetadata extends Metadata {
  readonly changes: StoreChanges;
}

/** The same metadata, watched. Wrap it once, before any library gets it; a watched one is given back as it is. */
export function watchChanges(metadata: Metadata): WatchedMetadata {
  return metadata instanceof Watched ? metadata : new Watched(metadata);
}

class Watched implements WatchedMetadata {
  readonly changes = new StoreChanges();
  readonly #metadata: Metadata;

  constructor(metadata: Metadata) {
    this.#metadata = metadata;
  }

  transact(statements: readonly Statement[]): Promise<readonly StatementResult[]> {
    this.changes.note(statements);
    return this.#metadata.transact(statements);
  }

  all(sql: string, ...params: SqlValue[]): SqlRow[] {
    return this.#metadata.all(sql, ...params);
  }

  get(sql: string, ...params: SqlValue[]): SqlRow | undefined {
    return this.#metadata.get(sql, ...params);
  }

  backup(path: string): Promise<void> {
    return this.#metadata.backup(path);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#metadata[Symbol.asyncDispose]();
  }
}
