import assert from "node:assert/strict";
import { test } from "node:test";
import type { Metadata, Statement } from "@berth/metadata";
import { deleteImage, tagImage } from "../rows.ts";
import { deleteLease, insertLease, insertLeaseResource } from "../leases/rows.ts";
import { StoreChanges, watchChanges } from "./changes.ts";
import { evictImage, insertPin } from "./rows.ts";

const GC_LABELS = '{"containerd.io/gc.root":"x"}';

function noted(...statements: Statement[]): readonly [mutations: number, deletions: number, references: number] {
  const changes = new StoreChanges();
  changes.note(statements);
  return [changes.mutations, changes.deletions, changes.references];
}

test("StoreChanges counts what makes reachable, what merely changes and what deletes", () => {
  const lease = { namespace: "shop", id: "l", labels: {}, createdAtMs: 0 };
  const target = { namespace: "shop", name: "a", target: "sha256:0", labels: {}, usedAtMs: 0 } as never;
  const record = { namespace: "shop", name: "a", target: { mediaType: "", digest: "", size: 0 }, labels: {} } as never;
  const sql = (text: string, ...params: string[]): Statement => ({ sql: text, params });
  assert.deepEqual(noted(insertLease(lease)), [1, 0, 1]);
  assert.deepEqual(noted(insertLeaseResource("shop", "l", { type: "content", id: "x" })), [1, 0, 1]);
  assert.deepEqual(noted(insertPin({ namespace: "shop", name: "a", holder: "u" })), [1, 0, 1]);
  assert.deepEqual(noted(tagImage(record, "b", 0)), [1, 0, 1]);
  assert.deepEqual(noted(deleteLease("shop", "l"), deleteImage("shop", "a"), evictImage(target, 0)), [3, 3, 0]);
  assert.deepEqual(noted(sql("INSERT OR REPLACE INTO containers\n (namespace) VALUES (?)", "shop")), [1, 0, 1]);
  assert.deepEqual(noted(sql("UPDATE blob_refs SET labels = ?", "{}")), [1, 0, 0]);
  assert.deepEqual(noted(sql("UPDATE blob_refs SET labels = ?", GC_LABELS)), [1, 0, 1]);
  assert.deepEqual(noted(sql("  insert into snapshots (key, labels) VALUES (?, ?)", "k", GC_LABELS)), [1, 0, 1]);
  assert.deepEqual(noted(sql("DELETE FROM snapshot_refs WHERE name = ?", "x")), [1, 1, 0]);
  assert.deepEqual(noted(sql("SELECT * FROM images"), sql("INSERT INTO journal VALUES (1)")), [0, 0, 0]);
});

test("StoreChanges says which tables to read again, and forgets what a collection has dealt with", () => {
  const changes = new StoreChanges();
  changes.note([{ sql: "INSERT INTO images VALUES (1)" }, { sql: "DELETE FROM leases" }]);
  const { references } = changes;
  assert.deepEqual(changes.tablesSince(references), []);
  changes.note([{ sql: "INSERT INTO leases VALUES (1)" }]);
  assert.deepEqual(changes.tablesSince(references), ["leases"]);
  changes.settle(2, 5);
  assert.deepEqual([changes.mutations, changes.deletions], [1, 0]);
});

test("watchChanges notes a transaction when it is asked for, and wraps once", async () => {
  const { promise, resolve } = Promise.withResolvers<[]>();
  const metadata = { transact: () => promise } as unknown as Metadata;
  const watched = watchChanges(metadata);
  const writing = watched.transact([{ sql: "INSERT INTO images VALUES (1)" }]);
  assert.equal(watched.changes.references, 1);
  resolve([]);
  await writing;
  assert.equal(watchChanges(watched), watched);
});
