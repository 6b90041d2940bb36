/**
 * The newest migration runs while controllers of the build before it write: they see neither an error nor a long wait, before,
 * amid and after it. Those writes are made from the schema as that build knew it (its migration's snapshot), so the test needs
 * no old code, and holds every new migration to the promise.
 */
import assert from "node:assert/strict";
import { cpSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { test } from "node:test";
import { uuidv7 } from "@berth/base";
import { scratchDir, startPostgres } from "@berth/testkit/servers";
import { drizzle } from "drizzle-orm/postgres-js";
import { migrate } from "drizzle-orm/postgres-js/migrator";
import postgres from "postgres";
import { migrateDatabase } from "./migrate.ts";

const FOLDER = fileURLToPath(new URL("../migrations", import.meta.url));
const ROWS = 5_000;
/** So long may one write wait: the migration gives way to others after two seconds and tries again. */
const LONGEST_WAIT_MS = 4_000;

interface Column {
  readonly name: string;
  readonly type: string;
  readonly notNull: boolean;
  readonly default?: unknown;
  readonly generated?: unknown;
  readonly identity?: unknown;
  /** Rows of another table, one of which it names. */
  readonly references?: { readonly table: string; readonly column: string };
}

interface TableSnapshot {
  readonly name: string;
  readonly columns: Readonly<Record<string, Column>>;
  readonly foreignKeys: Readonly<Record<string, ForeignKey>>;
}

interface ForeignKey {
  readonly columnsFrom: readonly string[];
  readonly tableTo: string;
  readonly columnsTo: readonly string[];
}

interface Journal {
  readonly entries: readonly { readonly idx: number; readonly tag: string }[];
}

const journalOf = (folder: string): Journal =>
  JSON.parse(readFileSync(join(folder, "meta/_journal.json"), "utf8")) as Journal;

/** The migrations without the newest. */
function folderBefore(dir: string): {
  readonly folder: string;
  readonly columns: ReadonlyMap<string, readonly Column[]>;
} {
  const folder = join(dir, "before");
  rmSync(folder, { recursive: true, force: true });
  cpSync(FOLDER, folder, { recursive: true });
  const journal = journalOf(folder);
  const entries = journal.entries.slice(0, -1);
  writeFileSync(join(folder, "meta/_journal.json"), JSON.stringify({ ...journal, entries }));
  const last = String(entries.at(-1)!.idx).padStart(4, "0");
  const snapshot = JSON.parse(readFileSync(join(folder, `meta/${last}_snapshot.json`), "utf8")) as {
    tables: Record<string, TableSnapshot>;
  };
  // What others name comes first.
  const isReferring = (table: TableSnapshot): number => Object.keys(table.foreignKeys).length;
  const tables = Object.values(snapshot.tables).toSorted((a, b) => isReferring(a) - isReferring(b));
  return { folder, columns: new Map(tables.map((table) => [table.name, columnsOf(table)])) };
}

function columnsOf({ columns, foreignKeys }: TableSnapshot): Column[] {
  const references = new Map(
    Object.values(foreignKeys).flatMap(({ columnsFrom, tableTo, columnsTo }) =>
      columnsFrom.map((from, index) => [from, { table: tableTo, column: columnsTo[index]! }] as const),
    ),
  );
  return Object.values(columns).map((column) => {
    const referred = references.get(column.name);
    return referred === undefined ? column : { ...column, references: referred };
  });
}

/** What the build before gives when it inserts: every column that Postgres does not fill by itself. */
function insertOf(table: string, columns: readonly Column[]): string {
  const given = columns.filter((column) => column.notNull && column.default === undefined && !isNumbered(column));
  if (given.length === 0) return `insert into ${table} default values on conflict do nothing`;
  const names = given.map(({ name }) => `"${name}"`).join(", ");
  const values = given.map(valueOf).join(", ");
  return `insert into ${table} (${names}) select ${values} from generate_series(1, $1::int) on conflict do nothing`;
}

/** Postgres alone gives its value. */
function isNumbered({ generated, identity, type }: Column): boolean {
  return generated !== undefined || identity !== undefined || type === "bigserial";
}

function valueOf({ type, references }: Column): string {
  if (references !== undefined) return `(select "${references.column}" from ${references.table} limit 1)`;
  return VALUES[type] ?? `gen_random_uuid()::text::${type}`;
}

const VALUES: Readonly<Record<string, string>> = {
  uuid: "gen_random_uuid()",
  text: "gen_random_uuid()::text",
  jsonb: "'{}'::jsonb",
  bigint: "(random() * 1e9)::bigint",
  integer: "(random() * 1e9)::int",
  smallint: "(random() * 3e4)::smallint",
  boolean: "false",
  "text[]": "'{}'::text[]",
  bytea: "'\\x00'::bytea",
  "timestamp (3) with time zone": "now()",
};

/** Every column that may be written, written anew: an old build's update names them all. */
function updateOf(table: string, columns: readonly Column[]): string {
  const sets = columns.filter((column) => !isNumbered(column)).map(({ name }) => `"${name}" = "${name}"`);
  return `update ${table} set ${sets.join(", ")} where ctid in (select ctid from ${table} limit 5 for update skip locked)`;
}

/** Writes in a loop until told to stop; tells how often, and the longest wait. */
async function write(
  url: string,
  statements: readonly string[],
  stop: AbortSignal,
): Promise<{ count: number; longestMs: number }> {
  const client = postgres(url, { max: 1, onnotice: () => {}, fetch_types: false });
  let count = 0;
  let longestMs = 0;
  try {
    while (!stop.aborted) {
      for (const statement of statements) {
        const started = performance.now();
        await client.unsafe(statement, statement.includes("$1") ? [3] : []);
        longestMs = Math.max(longestMs, performance.now() - started);
        count += 1;
      }
    }
  } finally {
    await client.end({ timeout: 1 });
  }
  return { count, longestMs };
}

void test("the newest migration runs while the build before it writes, and behind one that reads for long", async () => {
  using scratch = scratchDir("berth-migration");
  await using server = await startPostgres({ dir: join(scratch.dir, "postgres") });
  const url = await server.createDatabase("online");
  const { folder, columns } = folderBefore(scratch.dir);
  const client = postgres(url, { max: 2, onnotice: () => {}, fetch_types: false });
  try {
    await migrate(drizzle(client), { migrationsFolder: folder });
    const tables = [...columns.keys()];
    assert.ok(tables.includes("tasks") && tables.includes("events"), tables.join(", "));
    for (const table of tables) {
      const insert = insertOf(table, columns.get(table)!);
      await client.unsafe(insert, insert.includes("$1") ? [ROWS] : []);
    }
    const stop = new AbortController();
    const writers = tables.map((table) => {
      const statements = [insertOf(table, columns.get(table)!), updateOf(table, columns.get(table)!)];
      return write(url, statements, stop.signal);
    });
    const settled = Promise.all(writers);
    // A transaction that reads for long, as a dump or a forgotten session does, keeps the migration from its locks.
    const reader = client.begin(async (tx) => {
      await tx.unsafe(tables.map((table) => `lock table ${table} in access share mode`).join("; "));
      await tx`select pg_sleep(5)`;
    });
    await migrateDatabase(url);
    await reader;
    const [row] = await client<{ count: number }[]>`select count(*)::int as count from drizzle.__drizzle_migrations`;
    assert.equal(row!.count, journalOf(FOLDER).entries.length);
    for (const table of tables) await client.unsafe(updateOf(table, columns.get(table)!));
    stop.abort();
    for (const [index, { count, longestMs }] of (await settled).entries()) {
      assert.ok(count > 2, `${tables[index]} was written ${count} times`);
      assert.ok(longestMs < LONGEST_WAIT_MS, `a write of ${tables[index]} waited ${Math.round(longestMs)} ms`);
    }
    const name = uuidv7();
    await client`insert into namespaces (uid, name) values (${name}, ${name})`;
  } finally {
    await client.end({ timeout: 1 });
  }
});
