/** Journals through a cluster of three real nats-servers, of which one is killed. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { jetstreamManager } from "@nats-io/jetstream";
import { silentLogger } from "@berth/base";
import { JournalBatchSchema } from "@berth/proto";
import { connectBus, consumeShard, ensureStream, JOURNAL_STREAM, publishJournal, type Bus } from "./index.ts";
import { startTestCluster, type TestCluster } from "./testing/nats-server.ts";
import { until } from "./testing/until.ts";

const ON_THREE = { replicas: 3 };

void describe("journal stream on a cluster of three", { timeout: 120_000 }, () => {
  let cluster: TestCluster;
  let bus: Bus;
  before(async () => {
    cluster = await startTestCluster();
    bus = connectBus({ url: cluster.url, name: "test", inboxPrefix: "inbox.test", logger: silentLogger });
    await bus.connected();
  });
  after(async () => {
    await bus?.[Symbol.asyncDispose]();
    await cluster?.[Symbol.asyncDispose]();
  });

  /** Undefined while it is not there, or nobody can say. */
  const streamInfo = async () => {
    const manager = await jetstreamManager(bus.connection(), { checkAPI: false, timeout: 2_000 });
    return await manager.streams.info(JOURNAL_STREAM);
  };
  const tried = (step: () => Promise<unknown>): Promise<boolean> =>
    step().then(
      () => true,
      () => false,
    );

  void test("a stream of one server is brought to three, and goes on, whole and in order, when its leader is killed", async () => {
    await until("the stream is there", () => tried(() => ensureStream(bus)));
    const seqs: number[] = [];
    const abort = new AbortController();
    const running = consumeShard(
      bus,
      0,
      async (deliveries) => {
        for (const { batch } of deliveries) seqs.push(...batch.entries.map(({ seq }) => Number(seq)));
      },
      { signal: abort.signal, logger: silentLogger, limits: ON_THREE },
    );
    let published = 0;
    const publishOne = async (): Promise<void> => {
      published += 1;
      const entries = [{ seq: BigInt(published), body: { case: "agent" as const, value: { step: "warning" } } }];
      const batch = create(JournalBatchSchema, { node: "a", epoch: "e1", entries });
      const taken = () => tried(() => publishJournal(bus, 0, batch, { timeoutMs: 1_000 }));
      await until(`entry ${published} is taken`, taken, 60_000);
    };
    try {
      let leader: string | undefined;
      await until("three servers have it", async () => {
        const { cluster: state } = await streamInfo().catch(() => ({ cluster: undefined }));
        leader = state?.leader;
        return leader !== undefined && state?.replicas?.length === 2 && state.replicas.every(({ current }) => current);
      });
      for (let n = 0; n < 3; n += 1) await publishOne();
      await cluster.servers[Number(leader!.slice(1)) - 1]!.stop();
      for (let n = 0; n < 3; n += 1) await publishOne();
      await until("all were handed over", () => new Set(seqs).size === published, 60_000);
      // Handed over again at most, never out of order.
      const firsts = seqs.filter((seq, index) => seqs.indexOf(seq) === index);
      assert.deepEqual(firsts, [1, 2, 3, 4, 5, 6]);
    } finally {
      abort.abort();
      await running;
    }
  });
});
