/**
 * Brings the file's schema to what this program knows, in one transaction: either every pending step is applied or none.
 *
 * An applied step never changes (its sha256 is kept). A file that has steps this program does not know was written by a newer one:
 * where they only added (`Migration.additive`) it goes on with the file, otherwise its rows must not be touched.
 */
import { createHash } from "node:crypto";
import type { DatabaseSync } from "node:sqlite";
import { FailureError, failureOf } from "./failure.ts";
import type { Migration } from "./metadata.ts";

const TABLE = `CREATE TABLE IF NOT EXISTS schema_migrations (
  name TEXT PRIMARY KEY, applied_at_ms INTEGER NOT NULL, sha256 TEXT NOT NULL
) STRICT, WITHOUT ROWID`;

/** A table of its own, for the one above cannot be changed: versions before this one read it. */
const ADDITIVE = `CREATE TABLE IF NOT EXISTS schema_additive (name TEXT PRIMARY KEY) STRICT, WITHOUT ROWID`;

export function migrate(db: DatabaseSync, path: string, migrations: readonly Migration[], nowMs: number): void {
  const known = new Map<string, Migration>();
  for (const migration of migrations) {
    if (known.has(migration.name))
      throw refuse("METADATA_MIGRATION_TWICE", `two migrations are named "${migration.name}"`);
    known.set(migration.name, migration);
  }
  db.exec("BEGIN IMMEDIATE");
  try {
    db.exec(TABLE);
    db.exec(ADDITIVE);
    const applied = appliedSteps(db);
    refuseForeignSteps(path, known, applied, additiveSteps(db));
    const recordAdditive = db.prepare("INSERT INTO schema_additive (name) VALUES (?)");
    const record = db.prepare("INSERT INTO schema_migrations (name, applied_at_ms, sha256) VALUES (?, ?, ?)");
    const pending = [...known.values()].filter((m) => !applied.has(m.name));
    for (const migration of pending.sort((a, b) => (a.name < b.name ? -1 : 1))) {
      apply(db, path, migration);
      record.run(migration.name, nowMs, sha256(migration.sql));
      if (migration.additive === true) recordAdditive.run(migration.name);
    }
    db.exec("COMMIT");
  } catch (error) {
    if (db.isTransaction) db.exec("ROLLBACK");
    throw error;
  }
}

function appliedSteps(db: DatabaseSync): Map<string, string> {
  const rows = db.prepare("SELECT name, sha256 FROM schema_migrations").all();
  return new Map(rows.map((row) => [String(row["name"]), String(row["sha256"])]));
}

function additiveSteps(db: DatabaseSync): ReadonlySet<string> {
  return new Set(db.prepare("SELECT name FROM schema_additive").all().map((row) => String(row["name"]))); // prettier-ignore
}

function refuseForeignSteps(
  path: string,
  known: ReadonlyMap<string, Migration>,
  applied: ReadonlyMap<string, string>,
  additive: ReadonlySet<string>,
): void {
  for (const [name, hash] of applied) {
    const migration = known.get(name);
    if (migration === undefined) {
      if (additive.has(name)) continue;
      throw refuse(
        "METADATA_NEWER",
        `metadata "${path}" has the step "${name}", which this version does not know; upgrade to the version that wrote it`,
      );
    }
    if (sha256(migration.sql) !== hash) {
      throw refuse(
        "METADATA_MIGRATION_CHANGED",
        `metadata "${path}": step "${name}" was applied with another text; an applied migration never changes, add a new one`,
      );
    }
  }
}

function apply(db: DatabaseSync, path: string, migration: Migration): void {
  try {
    db.exec(migration.sql);
  } catch (error) {
    const failure = failureOf(error, path);
    throw new FailureError({ ...failure, message: `migration "${migration.name}": ${failure.message}` });
  }
}

function refuse(reason: string, message: string): FailureError {
  return new FailureError({ code: "FAILED_PRECONDITION", reason, message });
}

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
