/** Journals through a real JetStream: order, redelivery, restarts and a wiped store. */
import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { hasCode, silentLogger, StatusError } from "@berth/base";
import { JournalBatchSchema, type JournalBatch } from "@berth/proto";
import { connectBus, consumeShard, ensureStream, publishJournal, type Bus, type JournalDelivery } from "./index.ts";
import { startTestNats, type TestNats } from "./testing/nats-server.ts";
import { until } from "./testing/until.ts";

function batch(node: string, from: number, count: number, message = ""): JournalBatch {
  const entries = Array.from({ length: count }, (_, index) => ({
    seq: BigInt(from + index),
    time: timestampFromMs(1_700_000_000_000),
    namespace: "shop",
    body: { case: "agent" as const, value: { step: "warning", message } },
  }));
  return create(JournalBatchSchema, { node, epoch: "e1", entries });
}

/** Collects the sequence numbers handed over per node, and fails as told. */
class Ingest {
  readonly seqs = new Map<string, number[]>();
  failWith: StatusError | undefined;
  readonly handler = async (deliveries: readonly JournalDelivery[]): Promise<void> => {
    if (this.failWith !== undefined) throw this.failWith;
    for (const { node, batch } of deliveries) {
      const seen = this.seqs.get(node) ?? [];
      seen.push(...batch.entries.map((entry) => Number(entry.seq)));
      this.seqs.set(node, seen);
    }
  };
  of(node: string): number[] {
    return this.seqs.get(node) ?? [];
  }
}

const oneTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index + 1);

describe("journal stream on a real nats-server", () => {
  let nats: TestNats;
  let bus: Bus;
  const stops: (() => Promise<void>)[] = [];
  beforeEach(async () => {
    nats = await startTestNats();
    bus = connectBus({ url: nats.url, name: "test", inboxPrefix: "inbox.test", logger: silentLogger });
    await bus.connected();
  });
  afterEach(async () => {
    for (const stop of stops.splice(0)) await stop();
    await bus[Symbol.asyncDispose]();
    await nats[Symbol.asyncDispose]();
  });
  const consume = (ingest: Ingest, shard = 0): { stop: () => Promise<void>; running: Promise<void> } => {
    const abort = new AbortController();
    const running = consumeShard(bus, shard, ingest.handler, { signal: abort.signal, logger: silentLogger });
    running.catch(() => {});
    const stop = async (): Promise<void> => {
      abort.abort();
      await running.catch(() => {});
    };
    stops.push(stop);
    return { stop, running };
  };

  test("consumeShard hands over its own shard's batches in each node's order", async () => {
    await ensureStream(bus);
    const ingest = new Ingest();
    for (let at = 1; at <= 91; at += 10) {
      for (const node of ["a", "b"]) await publishJournal(bus, 0, batch(node, at, 10));
      await publishJournal(bus, 1, batch("other", at, 10));
    }
    consume(ingest);
    await until("all there", () => ingest.of("a").length === 100 && ingest.of("b").length === 100);
    assert.deepEqual([ingest.of("a"), ingest.of("b"), ingest.of("other")], [oneTo(100), oneTo(100), []]);
    await publishJournal(bus, 0, batch("a", 101, 1));
    await until("news, too", () => ingest.of("a").length === 101);
  });

  test("publishJournal of the same entries twice stores them once", async () => {
    await ensureStream(bus);
    await publishJournal(bus, 0, batch("a", 1, 5));
    await publishJournal(bus, 0, batch("a", 1, 5));
    await publishJournal(bus, 0, batch("a", 6, 1));
    const ingest = new Ingest();
    consume(ingest);
    await until("the last is there", () => ingest.of("a").includes(6));
    assert.deepEqual(ingest.of("a"), oneTo(6));
  });

  test("publishJournal cuts what is larger than a message may be", async () => {
    await ensureStream(bus);
    await publishJournal(bus, 0, batch("a", 1, 40, "x".repeat(60_000)));
    const ingest = new Ingest();
    consume(ingest);
    await until("all there", () => ingest.of("a").length === 40);
    assert.deepEqual(ingest.of("a"), oneTo(40));
  });

  test("publishJournal without a stream fails with UNAVAILABLE", async () => {
    await assert.rejects(publishJournal(bus, 0, batch("a", 1, 1)), (error) => hasCode(error, "UNAVAILABLE"));
  });

  test("consumeShard hands the same messages over again after a transient error, in order", async () => {
    await ensureStream(bus);
    const ingest = new Ingest();
    ingest.failWith = new StatusError("UNAVAILABLE", "no database");
    consume(ingest);
    for (let at = 1; at <= 5; at += 1) await publishJournal(bus, 0, batch("a", at, 1));
    ingest.failWith = undefined;
    await until("all there", () => ingest.of("a").length >= 5);
    assert.deepEqual(ingest.of("a"), oneTo(5));
  });

  test("consumeShard ends with the handler's own error, and the next owner gets what was not acknowledged first", async () => {
    await ensureStream(bus);
    const fenced = new Ingest();
    fenced.failWith = new StatusError("FAILED_PRECONDITION", "another owner");
    await publishJournal(bus, 0, batch("a", 1, 1));
    const { running } = consume(fenced);
    await assert.rejects(running, (error) => hasCode(error, "FAILED_PRECONDITION"));
    await publishJournal(bus, 0, batch("a", 2, 1));
    const next = new Ingest();
    consume(next);
    await until("both there", () => next.of("a").length === 2);
    assert.deepEqual(next.of("a"), [1, 2]);
  });

  test("consumeShard goes on after a restart without handing over again what was acknowledged", async () => {
    await ensureStream(bus);
    const ingest = new Ingest();
    consume(ingest);
    await publishJournal(bus, 0, batch("a", 1, 3));
    await until("first", () => ingest.of("a").length === 3);
    await nats.stop();
    await nats.start();
    await until("published", () =>
      publishJournal(bus, 0, batch("a", 4, 2)).then(
        () => true,
        () => false,
      ),
    );
    await until("second", () => ingest.of("a").includes(5));
    assert.deepEqual(ingest.of("a"), oneTo(5));
  });

  test("consumeShard makes stream and consumer again when the store was wiped", async () => {
    await ensureStream(bus);
    const ingest = new Ingest();
    consume(ingest);
    await publishJournal(bus, 0, batch("a", 1, 3));
    await until("first", () => ingest.of("a").length === 3);
    await nats.stop();
    await nats.wipe();
    await nats.start();
    await until("published", () =>
      publishJournal(bus, 0, batch("a", 4, 2)).then(
        () => true,
        () => false,
      ),
    );
    await until("second", () => ingest.of("a").includes(5));
    assert.deepEqual(
      ingest.of("a").toSorted((x, y) => x - y),
      oneTo(5),
    );
  });
});
