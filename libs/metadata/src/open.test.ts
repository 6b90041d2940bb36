import assert from "node:assert/strict";
import { mkdtemp, open, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { StatusError } from "@berth/base";
import { openMetadata, type Migration, type OpenedMetadata } from "./index.ts";

const TABLE: Migration = { name: "test-0001", sql: "CREATE TABLE t (id INTEGER PRIMARY KEY, v ANY) STRICT" };

async function folderOf(t: TestContext): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "berth-metadata-test-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

function reason(code: string, name: string, text?: RegExp): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof StatusError, String(error));
    assert.deepEqual([error.code, error.reason], [code, name], error.message);
    if (text !== undefined) assert.match(error.message, text);
    return true;
  };
}

test("openMetadata makes the file for its owner alone, durable and in WAL mode", async (t) => {
  const path = join(await folderOf(t), "deep", "metadata.db");
  await using metadata = await openMetadata({ path, migrations: [TABLE] });
  await metadata.transact([{ sql: "INSERT INTO t (v) VALUES ('x')" }]);
  for (const file of [path, `${path}-wal`, `${path}-shm`]) {
    assert.equal((await stat(file)).mode & 0o777, 0o600, file);
  }
  assert.equal(metadata.get("PRAGMA journal_mode")?.["journal_mode"], "wal");
});

test("openMetadata applies each migration once, in the order of their names", async (t) => {
  const path = join(await folderOf(t), "metadata.db");
  const second: Migration = { name: "test-0002", sql: "ALTER TABLE t ADD COLUMN w TEXT DEFAULT 'w'" };
  await using first = await openMetadata({ path, migrations: [TABLE] });
  await first.transact([{ sql: "INSERT INTO t (v) VALUES (1)" }]);
  await first[Symbol.asyncDispose]();
  for (let again = 0; again < 2; again += 1) {
    await using metadata = await openMetadata({ path, migrations: [second, TABLE] });
    assert.deepEqual(metadata.all("SELECT v, w FROM t"), [{ v: 1, w: "w" }]);
    const names = metadata.all("SELECT name FROM schema_migrations ORDER BY name").map((row) => row["name"]);
    assert.deepEqual(names, ["test-0001", "test-0002"]);
  }
});

test("openMetadata refuses a changed migration, an unknown one, and two of a name", async (t) => {
  const path = join(await folderOf(t), "metadata.db");
  await (await openMetadata({ path, migrations: [TABLE] }))[Symbol.asyncDispose]();
  const changed = { ...TABLE, sql: `${TABLE.sql} ` };
  const refused = (migrations: Migration[]): Promise<OpenedMetadata> => openMetadata({ path, migrations });
  await assert.rejects(refused([changed]), reason("FAILED_PRECONDITION", "METADATA_MIGRATION_CHANGED", /test-0001/));
  await assert.rejects(refused([]), reason("FAILED_PRECONDITION", "METADATA_NEWER", /upgrade/));
  await assert.rejects(refused([TABLE, TABLE]), reason("FAILED_PRECONDITION", "METADATA_MIGRATION_TWICE"));
});

test("openMetadata goes on with a file that a newer program only added to, and that program with it afterwards", async (t) => {
  const path = join(await folderOf(t), "metadata.db");
  const added: Migration = { name: "test-0002", sql: "ALTER TABLE t ADD COLUMN w TEXT", additive: true };
  await (await openMetadata({ path, migrations: [TABLE, added] }))[Symbol.asyncDispose]();
  {
    await using older = await openMetadata({ path, migrations: [TABLE] });
    await older.transact([{ sql: "INSERT INTO t (v) VALUES (7)" }]);
  }
  await using newer = await openMetadata({ path, migrations: [TABLE, added] });
  assert.deepEqual(newer.all("SELECT v, w FROM t"), [{ v: 7, w: null }]);
});

test("openMetadata applies all pending migrations or none", async (t) => {
  const path = join(await folderOf(t), "metadata.db");
  const broken: Migration = { name: "test-0002", sql: "CREATE TABLE u (x) ; CREATE TABLE nonsense (" };
  await assert.rejects(
    openMetadata({ path, migrations: [TABLE, broken] }),
    reason("INTERNAL", "METADATA_STATEMENT", /test-0002/),
  );
  await using metadata = await openMetadata({ path, migrations: [TABLE] });
  const tables = metadata
    .all("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
    .map((row) => row["name"]);
  assert.deepEqual(tables, ["schema_additive", "schema_migrations", "t"]);
});

test("openMetadata names a file that is no database", async (t) => {
  const path = join(await folderOf(t), "metadata.db");
  await writeFile(path, Buffer.alloc(8_192, "not a database "));
  await assert.rejects(openMetadata({ path, migrations: [TABLE] }), (error: unknown) => {
    assert.ok(error instanceof StatusError && error.message.includes(path));
    return reason("DATA_LOSS", "METADATA_CORRUPT", /backup/)(error);
  });
});

test("all and transact report a torn page as METADATA_CORRUPT", async (t) => {
  const path = join(await folderOf(t), "metadata.db");
  await using before = await openMetadata({ path, migrations: [TABLE] });
  for (let i = 0; i < 50; i += 1)
    await before.transact([{ sql: "INSERT INTO t (v) VALUES (?)", params: ["y".repeat(1_000)] }]);
  await before[Symbol.asyncDispose]();
  const file = await open(path, "r+");
  // All but the schema's pages, which come first.
  const { size } = await file.stat();
  await file.write(Buffer.alloc(size - 16_384, 0xa5), 0, size - 16_384, 16_384);
  await file.close();
  await using metadata = await openMetadata({ path, migrations: [TABLE] });
  assert.throws(() => metadata.all("SELECT v FROM t"), reason("DATA_LOSS", "METADATA_CORRUPT"));
  await assert.rejects(metadata.transact([{ sql: "UPDATE t SET v = 1" }]), reason("DATA_LOSS", "METADATA_CORRUPT"));
});

test("openMetadata gives up when its signal fires", async (t) => {
  const path = join(await folderOf(t), "metadata.db");
  const abort = new AbortController();
  const opening = openMetadata({ path, migrations: [TABLE], signal: abort.signal });
  abort.abort();
  await assert.rejects(opening, reason("CANCELLED", "CANCELLED"));
  await assert.rejects(
    openMetadata({ path, migrations: [TABLE], signal: abort.signal }),
    reason("CANCELLED", "CANCELLED"),
  );
});

test("all gives back every kind of value, integers beyond 2^53 as bigint", async (t) => {
  await using metadata = await openMetadata({ path: join(await folderOf(t), "m.db"), migrations: [TABLE] });
  const large = 9_007_199_254_740_993n;
  const pool = Buffer.from("a view into a pooled buffer").subarray(2, 6);
  const values = [null, 7, -1.5, large, Number.MAX_SAFE_INTEGER, "text ✓", pool];
  const [inserted] = await metadata.transact([
    { sql: "INSERT INTO t (v) VALUES (?), (?), (?), (?), (?), (?), (?) RETURNING v", params: values },
  ]);
  const expected = [null, 7, -1.5, large, Number.MAX_SAFE_INTEGER, "text ✓", new Uint8Array(pool)].map((v) => ({ v }));
  assert.deepEqual(inserted, { rows: expected, changes: 7 });
  assert.deepEqual(metadata.all("SELECT v FROM t ORDER BY id"), expected);
  assert.deepEqual(metadata.get("SELECT v FROM t WHERE id = ?", 2), { v: 7 });
  assert.equal(metadata.get("SELECT v FROM t WHERE id = ?", 99), undefined);
});

test("all sees every transaction whose promise has resolved, and cannot write", async (t) => {
  await using metadata = await openMetadata({ path: join(await folderOf(t), "m.db"), migrations: [TABLE] });
  for (let n = 1; n <= 20; n += 1) {
    await metadata.transact([{ sql: "INSERT INTO t (v) VALUES (?)", params: [n] }]);
    assert.equal(metadata.get("SELECT max(v) AS v FROM t")?.["v"], n);
  }
  assert.throws(() => metadata.all("DELETE FROM t"), reason("FAILED_PRECONDITION", "METADATA_READ_ONLY"));
  assert.throws(() => metadata.all("SELEC"), reason("INTERNAL", "METADATA_STATEMENT"));
});

test("backup writes a consistent copy while transactions go on, and nothing over an existing file", async (t) => {
  const folder = await folderOf(t);
  await using metadata = await openMetadata({ path: join(folder, "m.db"), migrations: [TABLE] });
  const insert = (v: number): Promise<unknown> =>
    metadata.transact([{ sql: "INSERT INTO t (v) VALUES (?)", params: [v] }]);
  await insert(0);
  const enough = new AbortController();
  const writing = (async () => {
    for (let n = 1; !enough.signal.aborted; n += 1) await insert(n);
  })();
  const copy = join(folder, "copy.db");
  await metadata.backup(copy);
  enough.abort();
  await writing;
  assert.equal((await stat(copy)).mode & 0o777, 0o600);
  const bytes = await readFile(copy);
  await assert.rejects(metadata.backup(copy), reason("ALREADY_EXISTS", "EEXIST"));
  assert.deepEqual(await readFile(copy), bytes);
  await using restored = await openMetadata({ path: copy, migrations: [TABLE] });
  const row = restored.get("SELECT count(*) AS n, max(v) AS last FROM t");
  assert.equal(row?.["n"], Number(row?.["last"]) + 1);
  assert.equal(restored.get("PRAGMA integrity_check")?.["integrity_check"], "ok");
});

test("dispose applies what was asked for, may be called twice, and refuses what comes later", async (t) => {
  const path = join(await folderOf(t), "m.db");
  const metadata = await openMetadata({ path, migrations: [TABLE] });
  const asked = Array.from({ length: 300 }, (_, n) =>
    metadata.transact([{ sql: "INSERT INTO t (v) VALUES (?)", params: [n] }]),
  );
  const disposed = metadata[Symbol.asyncDispose]();
  await assert.rejects(metadata.transact([]), reason("UNAVAILABLE", "METADATA_CLOSED"));
  await Promise.all(asked);
  await Promise.all([disposed, metadata[Symbol.asyncDispose]()]);
  assert.throws(() => metadata.all("SELECT 1"), reason("UNAVAILABLE", "METADATA_CLOSED"));
  await assert.rejects(stat(`${path}-wal`), { code: "ENOENT" }, "the log was not folded into the file");
  await using again = await openMetadata({ path, migrations: [TABLE] });
  assert.equal(again.get("SELECT count(*) AS n FROM t")?.["n"], 300);
});
