import assert from "node:assert/strict";
import { join } from "node:path";
import { test } from "node:test";
import { aborted, ManualClock, StatusError } from "@berth/base";
import { temporaryMetadata } from "@berth/metadata/testing";
import {
  journalMigrations,
  openJournal,
  startPublisher,
  type Batch,
  type Journal,
  type PublisherConfig,
} from "./index.ts";
import type { JournalTransport } from "./publisher.ts";
import { until } from "./testing/until.ts";

const CONFIG: PublisherConfig = { batchEntries: 3, stallMs: 30_000, maxStallMs: 100_000 };

/** A broker that takes everything, unless a test says otherwise. */
class FakeBroker implements JournalTransport {
  readonly taken: Batch[] = [];
  attempts = 0;
  /** Asked before each batch; what it throws is what the publisher gets. */
  onPublish: (batch: Batch, signal: AbortSignal) => Promise<void> | void = () => undefined;

  async publish(batch: Batch, signal: AbortSignal): Promise<void> {
    this.attempts += 1;
    await this.onPublish(batch, signal);
    this.taken.push(batch);
  }

  get seqs(): number[] {
    return this.taken.flatMap(({ entries }) => entries.map(({ seq }) => seq));
  }
}

async function openBench() {
  const metadata = await temporaryMetadata(journalMigrations);
  const clock = new ManualClock();
  const broker = new FakeBroker();
  const open = (identity = "machine"): Promise<Journal> =>
    openJournal({ metadata, markerPath: join(metadata.folder, "journal.epoch"), clock }, { node: "n1", identity });
  return {
    metadata,
    clock,
    broker,
    open,
    journal: await open(),
    start: (journal: Journal) => startPublisher({ journal, transport: broker, clock, random: () => 0.5 }, CONFIG),
    [Symbol.asyncDispose]: () => metadata[Symbol.asyncDispose](),
  };
}

async function append(journal: Journal, count: number): Promise<void> {
  await journal.append(Array.from({ length: count }, (_, n) => ({ kind: "test", payload: Buffer.from(`${n}`) })));
}

test("publisher publishes what was there and what comes, in order and in bounded batches", async () => {
  await using bench = await openBench();
  const { broker, journal } = bench;
  await append(journal, 7);
  await using publisher = bench.start(journal);
  await until(() => broker.seqs.length === 7);
  await append(journal, 1);
  await until(() => broker.seqs.length === 8);
  assert.deepEqual(broker.seqs, [1, 2, 3, 4, 5, 6, 7, 8]);
  assert.ok(
    broker.taken.every(({ entries, epoch, pass }) => entries.length <= 3 && epoch === journal.epoch && pass === 0),
  );
  assert.deepEqual(publisher.backlog(), { unpublished: 0, unstored: 8 });
});

test("publisher has one batch in flight", async () => {
  await using bench = await openBench();
  const { broker, journal } = bench;
  const gate = Promise.withResolvers<void>();
  broker.onPublish = () => gate.promise;
  await append(journal, 7);
  await using publisher = bench.start(journal);
  await until(() => broker.attempts === 1);
  await append(journal, 1);
  assert.deepEqual([broker.attempts, publisher.backlog().unpublished], [1, 8]);
  gate.resolve();
  await until(() => broker.seqs.length === 8);
  assert.deepEqual(broker.seqs, [1, 2, 3, 4, 5, 6, 7, 8]);
});

test("publisher tries a batch again, later and later, and lets no entry pass it", async () => {
  await using bench = await openBench();
  const { broker, clock, journal } = bench;
  const seen: number[] = [];
  broker.onPublish = ({ entries }) => {
    seen.push(entries[0]!.seq);
    // Taken, though it says that it was not: the copy that follows is for the receiver to recognise.
    if (seen.length === 2) broker.taken.push({ epoch: journal.epoch, entries, pass: 0 });
    if (seen.length <= 3) throw new StatusError("UNAVAILABLE", "the broker is away");
  };
  await append(journal, 5);
  await using _publisher = bench.start(journal);
  for (const [failures, waitMs] of [
    [1, 150],
    [2, 300],
    [3, 600],
  ] as const) {
    await until(() => seen.length === failures && clock.sleeping === 2);
    clock.advance(waitMs - 1);
    assert.equal(seen.length, failures);
    clock.advance(1);
  }
  await until(() => broker.seqs.length === 8);
  assert.deepEqual(seen, [1, 1, 1, 1, 4]);
  assert.deepEqual(broker.seqs, [1, 2, 3, 1, 2, 3, 4, 5]);
});

test("publisher waits as long as the broker asks", async () => {
  await using bench = await openBench();
  const { broker, clock, journal } = bench;
  broker.onPublish = () => {
    if (broker.attempts === 1) throw new StatusError("RESOURCE_EXHAUSTED", "slow down", { retryAfterMs: 9_000 });
  };
  await append(journal, 1);
  await using _publisher = bench.start(journal);
  await until(() => clock.sleeping === 2);
  clock.advance(8_999);
  assert.equal(clock.sleeping, 1, "only the marker's wait has run out");
  clock.advance(1);
  await until(() => broker.seqs.length === 1);
});

test("publisher begins again at the watermark after a restart", async () => {
  await using bench = await openBench();
  const { broker, journal } = bench;
  await append(journal, 6);
  await using first = bench.start(journal);
  await until(() => broker.seqs.length === 6);
  await first.acknowledge(journal.epoch, 4);
  await first[Symbol.asyncDispose]();
  await using _second = bench.start(await bench.open());
  await until(() => broker.seqs.length === 8);
  assert.deepEqual(broker.seqs, [1, 2, 3, 4, 5, 6, 5, 6]);
});

test("publisher publishes again what a wiped broker lost, ever more rarely, until the watermark moves", async () => {
  await using bench = await openBench();
  const { broker, clock, journal } = bench;
  await append(journal, 2);
  await using publisher = bench.start(journal);
  let passes = 1;
  const published = (): Promise<void> => until(() => broker.taken.length === passes && clock.sleeping > 0);
  await published();
  clock.advance(1_000); // The marker's wait, so that only the publisher's remains.
  await until(() => clock.sleeping === 1);
  for (const stallMs of [29_000, 60_000, 100_000, 100_000]) {
    clock.advance(stallMs - 1);
    assert.equal(clock.sleeping, 1, `too early after ${stallMs} ms`);
    clock.advance(1);
    passes += 1;
    await published();
  }
  assert.deepEqual(
    broker.taken.map(({ pass }) => pass),
    [0, 1, 2, 3, 4],
  );
  assert.deepEqual(broker.seqs, [1, 2, 1, 2, 1, 2, 1, 2, 1, 2]);
  await publisher.acknowledge(journal.epoch, 1);
  clock.advance(29_999);
  assert.equal(broker.taken.length, passes);
  clock.advance(1);
  passes += 1;
  await until(() => broker.taken.length === passes);
  assert.deepEqual(
    broker.taken.at(-1)?.entries.map(({ seq }) => seq),
    [2],
  );
});

test("publisher rests once everything is stored", async () => {
  await using bench = await openBench();
  const { broker, clock, journal } = bench;
  await append(journal, 3);
  await using publisher = bench.start(journal);
  await until(() => broker.seqs.length === 3);
  await publisher.acknowledge(journal.epoch, 3);
  assert.deepEqual(publisher.backlog(), { unpublished: 0, unstored: 0 });
  await until(() => clock.sleeping > 0);
  clock.advance(10_000_000);
  await append(journal, 1);
  await until(() => broker.seqs.length === 4);
  assert.deepEqual(broker.seqs, [1, 2, 3, 4]);
});

test("publisher publishes what earlier epochs still have first", async () => {
  await using bench = await openBench();
  const { broker } = bench;
  const old = bench.journal.epoch;
  await append(bench.journal, 5);
  await bench.journal.acknowledge(old, 1);
  const current = await bench.open("another machine");
  await append(current, 2);
  await using publisher = bench.start(current);
  await until(() => broker.seqs.length === 6);
  const seen = broker.taken.flatMap(({ entries }) => entries.map(({ epoch, seq }) => [epoch, seq]));
  const expected = [...[2, 3, 4, 5].map((seq) => [old, seq]), ...[1, 2].map((seq) => [current.epoch, seq])];
  assert.deepEqual(seen, expected);
  await publisher.acknowledge(old, 5);
  assert.deepEqual(current.epochs(), [{ epoch: current.epoch, headSeq: 2, storedSeq: 0 }]);
});

test("publisher goes on in the new epoch when the controller proves a roll back", async () => {
  await using bench = await openBench();
  const { broker, journal } = bench;
  await append(journal, 2);
  const before = journal.epoch;
  await using publisher = bench.start(journal);
  await until(() => broker.seqs.length === 2);
  await publisher.acknowledge(before, 7);
  await until(() => broker.seqs.length === 4);
  assert.deepEqual(
    broker.taken.map(({ epoch }) => epoch),
    [before, journal.epoch],
  );
});

test("dispose ends a publish that hangs, and nothing is published afterwards", async () => {
  await using bench = await openBench();
  const { broker, journal } = bench;
  broker.onPublish = async (_batch, signal) => {
    await aborted(signal);
    throw new Error("cut off");
  };
  await append(journal, 1);
  const publisher = bench.start(journal);
  await until(() => broker.attempts === 1);
  await Promise.all([publisher[Symbol.asyncDispose](), publisher[Symbol.asyncDispose]()]);
  await append(journal, 1);
  assert.equal(broker.attempts, 1);
});

test("publisher holds an interim entry back for what it leads to, and not for long", async () => {
  await using bench = await openBench();
  const { broker, clock, metadata } = bench;
  const journal = await openJournal({ metadata, clock }, { node: "n1", identity: "machine" });
  const config = { ...CONFIG, gatherMs: 10, gatherInterimMs: 100 };
  await using _publisher = startPublisher({ journal, transport: broker, clock }, config);
  const note = async (kind: string, interim: boolean, sleeping: number): Promise<void> => {
    await journal.append([{ kind, payload: Buffer.from(kind), interim }]);
    await until(() => clock.sleeping === sleeping);
  };
  await note("begun", true, 1);
  clock.advance(99);
  assert.deepEqual(broker.seqs, []);
  clock.advance(1);
  await until(() => broker.seqs.length === 1 && clock.sleeping === 1);

  await note("begun", true, 2);
  clock.advance(50);
  await note("done", false, 3);
  clock.advance(10);
  await until(() => broker.seqs.length === 3);
  assert.deepEqual(
    broker.taken.map(({ entries }) => entries.length),
    [1, 2],
  );
});
