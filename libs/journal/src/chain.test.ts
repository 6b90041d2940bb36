/** The hashes that SQL gives entries are those of @berth/base's chain, whatever happens around them. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { chainBegin, chainNext, ManualClock, sameHash } from "@berth/base";
import { temporaryMetadata, type TemporaryMetadata } from "@berth/metadata/testing";
import { journalMigrations, openJournal, type Entry, type Journal, type NewEntry } from "./index.ts";

const open = (metadata: TemporaryMetadata, clock = new ManualClock()): Promise<Journal> =>
  openJournal(
    { metadata, clock, markerPath: join(metadata.folder, "journal.epoch") },
    { node: "n1", identity: "machine 1" },
  );

const entry = (text: string): NewEntry => ({ kind: "test", payload: Buffer.from(text) });

/** The seqs of entries whose hash is not what follows from the one before. */
function broken(epoch: string, entries: readonly Entry[], before = chainBegin("n1", epoch)): number[] {
  let last = before;
  return entries.flatMap((each) => {
    const follows = each.hash !== undefined && sameHash(each.hash, chainNext(last, each));
    last = each.hash ?? last;
    return follows ? [] : [each.seq];
  });
}

void test("append chains each entry to the one before: in one transaction, over many, over a restart and a prune", async () => {
  await using metadata = await temporaryMetadata(journalMigrations);
  const clock = new ManualClock();
  const journal = await open(metadata, clock);
  await journal.append(["a", "b", ""].map(entry));
  clock.advance(1_234);
  await Promise.all(["c", "d", "e\0"].map((text) => journal.append([entry(text), entry(`${text}'`)])));
  await journal[Symbol.asyncDispose]();
  await using again = await open(metadata, clock);
  await again.append([entry("f")]);
  const all = again.read(1, 100);
  assert.equal(all.length, 10);
  assert.deepEqual(broken(again.epoch, all), []);
  await again.acknowledge(again.epoch, 10);
  await again.append([entry("after all was pruned"), entry("and on")]);
  assert.deepEqual(broken(again.epoch, again.read(11, 10), all.at(-1)!.hash), []);
});

void test("a transaction that fails leaves no mark on the chain", async () => {
  await using metadata = await temporaryMetadata(journalMigrations);
  await using journal = await open(metadata);
  await journal.append([entry("a")]);
  await assert.rejects(journal.transact([{ sql: "INSERT INTO nowhere VALUES (1)" }], [entry("never")]));
  await journal.append([entry("b")]);
  assert.deepEqual(broken(journal.epoch, journal.read(1, 10)), []);
});

void test("a history that was rolled back is chained anew in its new epoch", async () => {
  await using metadata = await temporaryMetadata(journalMigrations);
  await using journal = await open(metadata);
  await journal.append(["a", "b", "c"].map(entry));
  await journal.acknowledge(journal.epoch, 1);
  await journal.acknowledge(journal.epoch, 9);
  await journal.append([entry("d")]);
  assert.equal(journal.reason, "rolled back");
  const entries = journal.read(1, 10);
  assert.equal(entries.length, 3);
  assert.deepEqual(broken(journal.epoch, entries), []);
});

void test("a row that was changed in the file no longer follows", async () => {
  await using metadata = await temporaryMetadata(journalMigrations);
  await using journal = await open(metadata);
  await journal.append(["a", "b", "c", "d"].map(entry));
  await metadata.transact([{ sql: "UPDATE journal SET payload = x'7a' WHERE seq = 2" }]);
  assert.deepEqual(broken(journal.epoch, journal.read(1, 10)), [2]);
  await metadata.transact([{ sql: "UPDATE journal SET time_ms = time_ms + 1 WHERE seq = 4" }]);
  assert.deepEqual(broken(journal.epoch, journal.read(1, 10)), [2, 4]);
});

void test("entries from before there were chains stay as they are, and the chain begins after them", async () => {
  await using metadata = await temporaryMetadata(journalMigrations);
  await using journal = await open(metadata);
  await journal.append(["a", "b"].map(entry));
  await metadata.transact([
    { sql: "UPDATE journal SET hash = NULL" },
    { sql: "UPDATE journal_state SET head_hash = NULL" },
  ]);
  await journal.append(["c", "d"].map(entry));
  assert.deepEqual(broken(journal.epoch, journal.read(1, 10)), [1, 2]);
});
