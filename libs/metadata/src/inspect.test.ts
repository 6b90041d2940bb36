import assert from "node:assert/strict";
import { open, readdir, readFile, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { backupMetadata, checkMetadata, openMetadata, readMetadata, type Migration } from "./index.ts";
import { temporaryMetadata } from "./testing/index.ts";

const migrations: readonly Migration[] = [
  {
    name: "test-0001",
    sql: `CREATE TABLE parents (id INTEGER PRIMARY KEY) STRICT;
      CREATE TABLE children (id INTEGER PRIMARY KEY, parent INTEGER NOT NULL REFERENCES parents (id), what TEXT) STRICT;`,
  },
];

test("readMetadata and backupMetadata see what a living agent committed, and change nothing", async () => {
  await using metadata = await temporaryMetadata(migrations);
  const path = join(metadata.folder, "metadata.db");
  await metadata.transact([{ sql: "INSERT INTO parents VALUES (7)" }]);
  using reader = await readMetadata(path);
  assert.deepEqual(reader.get("SELECT id FROM parents WHERE id = ?", 7), { id: 7 });
  assert.throws(() => reader.all("INSERT INTO parents VALUES (8)"));
  const copy = join(metadata.folder, "copy.db");
  await backupMetadata(path, copy);
  await metadata.transact([{ sql: "INSERT INTO parents VALUES (9)" }]);
  assert.equal((await stat(copy)).mode & 0o777, 0o600);
  assert.deepEqual((await checkMetadata(copy)).damage, []);
  const beside = (await readdir(metadata.folder)).filter((name) => name.startsWith("copy.db"));
  assert.deepEqual(beside, ["copy.db"], "looking at a copy leaves nothing beside it");
  await using restored = await openMetadata({ path: copy, migrations });
  assert.deepEqual(restored.all("SELECT id FROM parents"), [{ id: 7 }]);
  await assert.rejects(backupMetadata(path, copy), { code: "ALREADY_EXISTS" });
});

test("checkMetadata finds nothing in a sound file, torn pages and dangling rows in others", async () => {
  await using metadata = await temporaryMetadata(migrations);
  const path = join(metadata.folder, "metadata.db");
  const rows = Array.from({ length: 400 }, (_, n) => ({ sql: "INSERT INTO parents VALUES (?)", params: [n] }));
  await metadata.transact(rows);
  await metadata.transact([{ sql: "INSERT INTO children VALUES (1, 5, ?)", params: ["x".repeat(20_000)] }]);
  assert.deepEqual(await checkMetadata(path), { kind: "checked", damage: [], dangling: [] });
  const copy = join(metadata.folder, "copy.db");
  await backupMetadata(path, copy);
  {
    const { DatabaseSync } = await import("node:sqlite");
    using db = new DatabaseSync(copy, { enableForeignKeyConstraints: false });
    db.exec("DELETE FROM parents WHERE id = 5");
  }
  assert.deepEqual((await checkMetadata(copy)).dangling, ["row 1 of children names no row of parents"]);
  const pages = (await readFile(copy)).length / 4_096;
  {
    await using file = await open(copy, "r+");
    for (let page = 2; page < pages; page += 1) await file.write(Buffer.alloc(2_000, 0xff), 0, 2_000, page * 4_096);
  }
  const torn = await checkMetadata(copy).then(
    ({ damage }) => damage.length,
    (error: { reason: string }) => error.reason,
  );
  assert.ok(torn === "METADATA_CORRUPT" || (typeof torn === "number" && torn > 0), String(torn));
  await rm(copy);
  await assert.rejects(checkMetadata(copy), { code: "NOT_FOUND", reason: "METADATA_MISSING" });
  await assert.rejects(readMetadata(copy), { code: "NOT_FOUND", reason: "METADATA_MISSING" });
});
