/**
 * What was verified here, and the signatures that it was verified by.
 *
 * A verdict is of a namespace, of what was required in which version, and of a digest; only allowing ones are kept. The
 * signatures are kept so that an image can be judged again by a changed policy without asking its registry.
 */
import { digestOf, type Digest } from "@berth/base";
import type { Metadata, Migration, SqlRow, Statement } from "@berth/metadata";
import { materialFromJson, materialToJson, SIGNATURE_LIMITS, type SignatureMaterial } from "./material.ts";

export const verificationMigrations: readonly Migration[] = [
  {
    name: "images-0010-verification",
    sql: `
      CREATE TABLE image_verdicts (
        namespace TEXT NOT NULL,
        digest TEXT NOT NULL,
        -- Of the requirement with all it says; for programs, of the programs too.
        requirement TEXT NOT NULL,
        -- The image's name where the answer depends on it, else empty.
        name TEXT NOT NULL,
        kind TEXT NOT NULL,
        by_whom TEXT NOT NULL,
        at_ms INTEGER NOT NULL,
        PRIMARY KEY (namespace, digest, requirement, name)
      ) STRICT, WITHOUT ROWID;

      CREATE TABLE image_signatures (
        namespace TEXT NOT NULL,
        digest TEXT NOT NULL,
        id TEXT NOT NULL,
        material TEXT NOT NULL,
        at_ms INTEGER NOT NULL,
        PRIMARY KEY (namespace, digest, id)
      ) STRICT;
    `,
  },
];

export interface VerdictKey {
  readonly namespace: string;
  readonly digest: Digest;
  readonly requirement: string;
  readonly name: string;
}

export interface Verdict extends VerdictKey {
  readonly kind: string;
  readonly by: string;
  readonly atMs: number;
}

export class VerificationRows {
  readonly #metadata: Metadata;

  constructor(metadata: Metadata) {
    this.#metadata = metadata;
  }

  verdict({ namespace, digest, requirement, name }: VerdictKey): Verdict | undefined {
    const sql = `SELECT * FROM image_verdicts WHERE namespace = ? AND digest = ? AND requirement = ? AND name = ?`;
    const row = this.#metadata.get(sql, namespace, digest, requirement, name);
    return row === undefined ? undefined : toVerdict(row);
  }

  verdicts(namespace: string, digest: Digest): Verdict[] {
    const sql = "SELECT * FROM image_verdicts WHERE namespace = ? AND digest = ? ORDER BY at_ms";
    return this.#metadata.all(sql, namespace, digest).map(toVerdict);
  }

  signatures(namespace: string, digest: Digest): SignatureMaterial[] {
    const sql = "SELECT material FROM image_signatures WHERE namespace = ? AND digest = ? ORDER BY at_ms LIMIT ?";
    const rows = this.#metadata.all(sql, namespace, digest, SIGNATURE_LIMITS.count);
    return rows.map((row) => materialFromJson(row["material"] as string));
  }

  async allow(verdict: Verdict, signature: SignatureMaterial | undefined): Promise<void> {
    const { namespace, digest, requirement, name, kind, by, atMs } = verdict;
    const statements: Statement[] = [
      {
        sql: "INSERT OR REPLACE INTO image_verdicts VALUES (?, ?, ?, ?, ?, ?, ?)",
        params: [namespace, digest, requirement, name, kind, by, atMs],
      },
    ];
    if (signature !== undefined) {
      const text = materialToJson(signature);
      statements.push({
        sql: "INSERT OR IGNORE INTO image_signatures VALUES (?, ?, ?, ?, ?)",
        params: [namespace, digest, digestOf(text), text, atMs],
      });
    }
    await this.#metadata.transact(statements);
  }

  /** Forgets what is of no image, unless it is newer: a pull that is under way has no row yet. */
  async forget(beforeMs: number): Promise<void> {
    const gone = (table: string): Statement => ({
      sql: `DELETE FROM ${table} WHERE at_ms < ? AND NOT EXISTS (SELECT 1 FROM images i WHERE i.namespace = ${table}.namespace
        AND (i.target_digest = ${table}.digest OR i.manifest = ${table}.digest))`,
      params: [beforeMs],
    });
    await this.#metadata.transact([gone("image_verdicts"), gone("image_signatures")]);
  }
}

function toVerdict(row: SqlRow): Verdict {
  return {
    namespace: row["namespace"] as string,
    digest: row["digest"] as Digest,
    requirement: row["requirement"] as string,
    name: row["name"] as string,
    kind: row["kind"] as string,
    by: row["by_whom"] as string,
    atMs: Number(row["at_ms"]),
  };
}
