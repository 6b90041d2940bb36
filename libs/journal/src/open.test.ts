import assert from "node:assert/strict";
import { copyFile, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import * as fc from "fast-check";
import { ManualClock, StatusError } from "@berth/base";
import { openMetadata, type Migration, type Statement } from "@berth/metadata";
import { temporaryMetadata } from "@berth/metadata/testing";
import { journalMigrations, openJournal, type Journal, type JournalConfig, type NewEntry } from "./index.ts";
import { until } from "./testing/until.ts";

const STATE: Migration = {
  name: "test-0001",
  sql: "CREATE TABLE state (k TEXT PRIMARY KEY, v INTEGER NOT NULL) STRICT",
};
const MIGRATIONS = [...journalMigrations, STATE];
const CONFIG: JournalConfig = { node: "n1", identity: "machine 1" };

function entry(text: string, more: Partial<NewEntry> = {}): NewEntry {
  return { kind: "test", payload: Buffer.from(text), ...more };
}

function texts(entries: readonly { readonly payload: Uint8Array }[]): string[] {
  return entries.map(({ payload }) => Buffer.from(payload).toString());
}

function fails(code: string, reason: string): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof StatusError, String(error));
    assert.deepEqual([error.code, error.reason], [code, reason], error.message);
    return true;
  };
}

async function openBench(config: Partial<JournalConfig> = {}) {
  const metadata = await temporaryMetadata(MIGRATIONS);
  const markerPath = join(metadata.folder, "journal.epoch");
  const clock = new ManualClock();
  const reopen = (changed: Partial<JournalConfig> = {}): Promise<Journal> =>
    openJournal({ metadata, markerPath, clock }, { ...CONFIG, ...config, ...changed });
  const journal = await reopen();
  return {
    metadata,
    markerPath,
    clock,
    journal,
    reopen,
    async [Symbol.asyncDispose]() {
      await journal[Symbol.asyncDispose]();
      await metadata[Symbol.asyncDispose]();
    },
  };
}

test("transact makes the caller's statements and the entries one transaction", async () => {
  await using bench = await openBench();
  const { journal, metadata } = bench;
  const set = (v: number): Statement => ({ sql: "INSERT INTO state VALUES ('x', ?) RETURNING v", params: [v] });
  const { results, positions } = await journal.transact([set(1)], [entry("first"), entry("second")]);
  assert.deepEqual(results, [{ rows: [{ v: 1 }], changes: 1 }]);
  assert.deepEqual(
    positions,
    [1, 2].map((seq) => ({ epoch: journal.epoch, seq })),
  );
  await assert.rejects(journal.transact([set(2)], [entry("never")]), fails("ALREADY_EXISTS", "METADATA_CONSTRAINT"));
  assert.deepEqual(await journal.append([entry("third")]), [{ epoch: journal.epoch, seq: 3 }]);
  assert.deepEqual(texts(journal.read(1, 10)), ["first", "second", "third"]);
  assert.deepEqual(metadata.all("SELECT v FROM state"), [{ v: 1 }]);
  assert.deepEqual((await journal.transact([], [])).positions, []);
});

test("journals of several nodes share a file and have their own numbers, epochs, watermarks and sizes", async () => {
  const metadata = await temporaryMetadata(MIGRATIONS);
  await using _ = metadata;
  const open = (node: string): Promise<Journal> =>
    openJournal({ metadata }, { ...CONFIG, node, sharesFile: true, maxEntries: 4, reserveShare: 0 });
  const [a, b] = [await open("a"), await open("b")];
  assert.deepEqual([a.owner, b.owner, a.reason, a.epoch === b.epoch], ["a", "b", "new", false]);
  await Promise.all([
    a.append([entry("a1"), entry("a2")]),
    b.append([entry("b1"), entry("b2"), entry("b3")]),
    a.append([entry("a3")]),
  ]);
  assert.deepEqual([texts(a.read(1, 10)), texts(b.read(1, 10))], [["a1", "a2", "a3"], ["b1", "b2", "b3"]]); // prettier-ignore
  assert.deepEqual([a.head(), b.head(), a.epochs().length], [3, 3, 1]);
  assert.equal(await a.acknowledge(a.epoch, 2), true);
  assert.deepEqual([texts(a.read(1, 10)), texts(b.read(1, 10))], [["a3"], ["b1", "b2", "b3"]]); // prettier-ignore
  await b.append([entry("b4")]);
  assert.deepEqual([a.isFull(), b.isFull()], [false, true], "a counts its own alone");
  const again = await open("a");
  assert.deepEqual([again.reason, again.epoch, again.head(), texts(again.read(1, 10))], ["kept", a.epoch, 3, ["a3"]]);
  assert.equal(again.isFull(), false);
  assert.equal(await a.acknowledge(a.epoch, 9), true, "rolled back: only a's history ends");
  assert.deepEqual([a.reason, b.reason, texts(b.read(1, 10)).length], ["rolled back", "new", 4]);
});

test("transact numbers without a gap, whatever fails around it", async () => {
  await using bench = await openBench();
  const { journal } = bench;
  const sizes = fc.array(fc.record({ entries: fc.integer({ min: 0, max: 4 }), fails: fc.boolean() }), {
    maxLength: 30,
  });
  const expected: string[] = [];
  const otherwise = { code: "ABORTED", reason: "ON_PURPOSE", message: "on purpose" };
  let made = 0;
  await fc.assert(
    fc.asyncProperty(sizes, async (steps) => {
      const outcomes = steps.map(({ entries, fails: failing }) => {
        const batch = Array.from({ length: entries }, () => `${(made += 1)}`);
        if (!failing) expected.push(...batch);
        const check: Statement = { sql: "SELECT 1 WHERE ?", params: [failing ? 0 : 1], expect: { rows: 1, otherwise } };
        return journal.transact(
          [check],
          batch.map((text) => entry(text)),
        );
      });
      await Promise.allSettled(outcomes);
      const stored = journal.read(1, 100_000, Number.MAX_SAFE_INTEGER);
      assert.deepEqual(texts(stored), expected);
      assert.deepEqual(
        stored.map(({ seq }) => seq),
        expected.map((_, index) => index + 1),
      );
      assert.equal(journal.head(), expected.length);
    }),
    { numRuns: 25, seed: 11 },
  );
});

test("read is bounded by entries and by bytes, and gives at least one", async () => {
  await using bench = await openBench();
  const { journal } = bench;
  await journal.append(Array.from({ length: 450 }, (_, n) => entry(`${n}`.padStart(1_000, "."))));
  const seqs = (from: number, limit: number, maxBytes?: number): number[] =>
    journal.read(from, limit, maxBytes).map(({ seq }) => seq);
  assert.deepEqual(seqs(3, 3), [3, 4, 5]);
  assert.deepEqual(seqs(1, 10, 3_500), [1, 2, 3]);
  assert.deepEqual(seqs(7, 10, 1), [7]);
  assert.equal(seqs(1, 1_000, 10_000_000).length, 450);
  assert.deepEqual(seqs(450, 9), [450]);
  assert.deepEqual(seqs(451, 9), []);
});

test("onAppend hears of each durable append, and of no other", async () => {
  await using bench = await openBench();
  const { journal } = bench;
  const heard: number[] = [];
  const listening = journal.onAppend(({ seq }) => heard.push(seq));
  await journal.append([entry("a"), entry("b")]);
  await assert.rejects(journal.transact([{ sql: "INSERT INTO nowhere VALUES (1)" }], [entry("c")]));
  await journal.transact([{ sql: "INSERT INTO state VALUES ('x', 1)" }], []);
  await journal.append([entry("c")]);
  listening[Symbol.dispose]();
  await journal.append([entry("d")]);
  assert.deepEqual(heard, [2, 3]);
});

test("a full journal refuses new work, takes results, and takes work again once stored", async () => {
  await using bench = await openBench({ maxEntries: 10, reserveShare: 0.2 });
  const { journal } = bench;
  const work = entry("work", { newWork: true });
  for (let n = 0; n < 8; n += 1) await journal.append([work]);
  assert.equal(journal.isFull(), true);
  await assert.rejects(journal.append([entry("result"), work]), fails("RESOURCE_EXHAUSTED", "JOURNAL_FULL"));
  for (let n = 0; n < 8; n += 1) await journal.append([entry("result")]);
  assert.equal(journal.head(), 16);
  await journal.acknowledge(journal.epoch, 8);
  assert.equal(journal.isFull(), true);
  await using again = await bench.reopen();
  assert.equal(again.isFull(), true, "a restart forgets nothing");
  await journal.acknowledge(journal.epoch, 9);
  assert.equal(journal.isFull(), false);
  await journal.append([work]);
});

test("a full journal counts what is on its way, and what failed no more", async () => {
  await using bench = await openBench({ maxEntries: 10, reserveShare: 0 });
  const { journal } = bench;
  const work = entry("work", { newWork: true });
  const failing = Array.from({ length: 10 }, () =>
    journal.transact([{ sql: "INSERT INTO nowhere VALUES (1)" }], [work]),
  );
  await assert.rejects(journal.append([work]), fails("RESOURCE_EXHAUSTED", "JOURNAL_FULL"));
  await Promise.allSettled(failing);
  const outcomes = await Promise.allSettled(Array.from({ length: 15 }, () => journal.append([work])));
  assert.equal(outcomes.filter(({ status }) => status === "fulfilled").length, 10);
});

test("a journal is full by bytes, too, and refuses an entry that no message can hold", async () => {
  await using bench = await openBench({ maxBytes: 100_000, reserveShare: 0 });
  const { journal } = bench;
  await journal.append([entry("x".repeat(60_000)), entry("x".repeat(60_000))]);
  assert.equal(journal.isFull(), true);
  await journal.acknowledge(journal.epoch, 1);
  assert.equal(journal.isFull(), false);
  const large = journal.append([entry("x".repeat(600_000))]);
  await assert.rejects(large, fails("INVALID_ARGUMENT", "JOURNAL_ENTRY_TOO_LARGE"));
});

test("acknowledge prunes below the watermark only, and never goes back", async () => {
  await using bench = await openBench();
  const { journal } = bench;
  await journal.append(Array.from({ length: 12_000 }, (_, n) => entry(`${n + 1}`)));
  assert.equal(await journal.acknowledge(journal.epoch, 11_000), true);
  assert.equal(await journal.acknowledge(journal.epoch, 11_000), false);
  assert.equal(await journal.acknowledge(journal.epoch, 4), false);
  assert.equal(await journal.acknowledge("01890000-0000-7000-8000-000000000000", 4), false);
  assert.equal(journal.firstAvailable(journal.epoch), 11_001);
  assert.deepEqual(texts(journal.read(1, 1)), ["11001"]);
  assert.deepEqual(journal.epochs(), [{ epoch: journal.epoch, headSeq: 12_000, storedSeq: 11_000 }]);
  await journal.acknowledge(journal.epoch, 12_000);
  assert.deepEqual(
    await journal.append([entry("next")]),
    [{ epoch: journal.epoch, seq: 12_001 }],
    "an empty table is no new epoch",
  );
});

test("the epoch is kept over a restart, with and without a clean end", async () => {
  await using bench = await openBench();
  assert.equal(bench.journal.reason, "new");
  await bench.journal.append([entry("a")]);
  const killed = await bench.reopen();
  assert.deepEqual([killed.reason, killed.epoch, killed.head()], ["kept", bench.journal.epoch, 1]);
  await killed.append([entry("b")]);
  await killed[Symbol.asyncDispose]();
  assert.equal(await readFile(bench.markerPath, "utf8"), `${killed.epoch} 2\n`);
  await assert.rejects(killed.append([entry("c")]), fails("UNAVAILABLE", "JOURNAL_CLOSED"));
  await using again = await bench.reopen();
  assert.deepEqual([again.reason, again.head()], ["kept", 2]);
});

test("the marker follows the head, at most once a second", async () => {
  await using bench = await openBench();
  const { journal, clock, markerPath } = bench;
  await journal.append([entry("a")]);
  await journal.append([entry("b")]);
  assert.equal(await readFile(markerPath, "utf8"), `${journal.epoch} 0\n`);
  assert.equal(clock.sleeping, 1);
  clock.advance(1_000);
  await until(async () => (await readFile(markerPath, "utf8")) === `${journal.epoch} 2\n`);
});

test("a new epoch begins on another machine, and entries of the old one stay to be stored", async () => {
  await using bench = await openBench();
  const first = bench.journal.epoch;
  await bench.journal.append([entry("old")]);
  await using cloned = await bench.reopen({ identity: "machine 2" });
  assert.equal(cloned.reason, "cloned");
  assert.ok(cloned.epoch > first);
  assert.deepEqual(
    cloned.epochs().map(({ epoch, headSeq }) => [epoch, headSeq]),
    [
      [first, 1],
      [cloned.epoch, 0],
    ],
  );
  assert.deepEqual(texts(cloned.readEpoch(first, 1, 9)), ["old"]);
});

test("a clone under another node's name does not speak for the first", async () => {
  await using bench = await openBench();
  await bench.journal.append([entry("theirs")]);
  await using cloned = await bench.reopen({ identity: "machine 2", node: "n2" });
  assert.deepEqual(cloned.epochs(), [{ epoch: cloned.epoch, headSeq: 0, storedSeq: 0 }]);
  assert.equal(bench.metadata.get("SELECT count(*) AS n FROM journal")?.["n"], 0);
});

test("a new epoch begins when the marker is gone, or is nonsense", async () => {
  await using bench = await openBench();
  const epochs = [bench.journal.epoch];
  for (const damage of [() => rm(bench.markerPath), () => writeFile(bench.markerPath, "\0\0\0\0")]) {
    await damage();
    const reopened = await bench.reopen();
    assert.equal(reopened.reason, "restored");
    epochs.push(reopened.epoch);
  }
  assert.deepEqual(epochs, [...new Set(epochs)].toSorted());
});

test("a new epoch begins when the database was thrown away", async () => {
  await using bench = await openBench();
  const before = bench.journal.epoch;
  await bench.journal.append([entry("a")]);
  await bench.metadata.transact([{ sql: "DELETE FROM journal" }, { sql: "DELETE FROM journal_state" }]);
  await using reset = await bench.reopen();
  assert.deepEqual([reset.reason, reset.head()], ["reset", 0]);
  assert.ok(reset.epoch > before);
});

test("a new epoch begins when the database was put back from a backup", async () => {
  await using bench = await openBench();
  const { journal, metadata, markerPath } = bench;
  await journal.append([entry("1"), entry("2")]);
  const backup = join(metadata.folder, "backup.db");
  await metadata.backup(backup);
  await journal.append([entry("3")]);
  await journal[Symbol.asyncDispose]();
  const restoredPath = join(metadata.folder, "restored.db");
  await copyFile(backup, restoredPath);
  await using restoredMetadata = await openMetadata({ path: restoredPath, migrations: MIGRATIONS });
  await using restored = await openJournal({ metadata: restoredMetadata, markerPath, clock: bench.clock }, CONFIG);
  assert.equal(restored.reason, "restored");
  await restored.append([entry("other 3")]);
  assert.deepEqual(texts(restored.readEpoch(journal.epoch, 1, 9)), ["1", "2"]);
  assert.deepEqual(texts(restored.read(1, 9)), ["other 3"]);
  // A backup made after the last append is the whole history: nothing is lost by going on with it.
  await restored[Symbol.asyncDispose]();
  await using whole = await openJournal({ metadata: restoredMetadata, markerPath, clock: bench.clock }, CONFIG);
  assert.equal(whole.reason, "kept");
});

test("a history that was rolled back goes on in a new epoch, with all that is not known to be stored", async () => {
  await using bench = await openBench();
  const { journal, clock } = bench;
  const before = journal.epoch;
  await journal.append(["1", "2", "3", "4"].map((text) => entry(text)));
  await journal.acknowledge(before, 2);
  // The controller has more of this epoch than was ever written: 3 and 4 may stand for something else there.
  const running = journal.append([entry("5")]);
  assert.equal(await journal.acknowledge(before, 9), true);
  await running;
  assert.equal(journal.reason, "rolled back");
  assert.ok(journal.epoch > before);
  assert.deepEqual(texts(journal.read(1, 9)), ["3", "4", "5"]);
  assert.deepEqual(journal.epochs(), [{ epoch: journal.epoch, headSeq: 3, storedSeq: 0 }]);
  assert.deepEqual(await journal.append([entry("6")]), [{ epoch: journal.epoch, seq: 4 }]);
  assert.equal(await journal.acknowledge(before, 9), false);
  clock.advance(1_000);
  await until(async () => (await readFile(bench.markerPath, "utf8")) === `${journal.epoch} 4\n`);
});

test("an epoch sorts after the ones before it even when the wall clock went back", async () => {
  await using bench = await openBench();
  const past = new ManualClock(1_000_000);
  const { metadata, markerPath } = bench;
  const before = bench.journal.epoch;
  await using later = await openJournal({ metadata, markerPath, clock: past }, { ...CONFIG, identity: "machine 2" });
  assert.ok(later.epoch > before);
});
