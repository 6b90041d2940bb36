/** Hash-chained journals (D4) on real Postgres: what does not follow is kept and marked, what was altered since is found. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { chainBegin, chainNext, noFailpoints, silentLogger, uuidv7 } from "@berth/base";
import {
  AcknowledgeJournalRequestSchema,
  JournalBatchSchema,
  JournalEntrySchema,
  type JournalBatch,
  type JournalEntry,
  type JournalService,
} from "@berth/proto";
import type { Handlers } from "@berth/rpc";
import {
  getNode,
  insertNewNodes,
  journalEvents,
  listEvents,
  nodeMessages,
  openStore,
  storedEpochs,
  takeShard,
  type Store,
  type Tx,
} from "@berth/store";
import { journalService } from "../api/journals.ts";
import { noMetrics } from "../testing/no-metrics.ts";
import { startTestDatabases, type TestDatabases } from "../testing/test-fleet.ts";
import { ShardOwner } from "./shard.ts";
import { auditEpoch, type EpochAudit } from "./verify.ts";

let databases: TestDatabases;
before(async () => {
  databases = await startTestDatabases();
});
after(() => databases[Symbol.asyncDispose]());

const NODE = "a";

/** A node's journal as an agent chains it. */
class Chained {
  readonly epoch = uuidv7();
  readonly entries: JournalEntry[] = [];
  /** Of the journal the fetches read: entries below are gone. */
  firstAvailable = 1;
  #hash = chainBegin(NODE, this.epoch);

  add(count: number): this {
    for (let n = 0; n < count; n += 1) {
      const seq = this.entries.length + 1;
      const timeMs = 1_700_000_000_000 + seq;
      const said = { case: "agent" as const, value: { step: "warning", reason: "Test", message: `entry ${seq}` } };
      const payload = toBinary(JournalEntrySchema, create(JournalEntrySchema, { body: said }));
      const hash = chainNext(this.#hash, { seq, timeMs, payload });
      this.#hash = hash;
      this.entries.push(create(JournalEntrySchema, { seq: BigInt(seq), time: timestampFromMs(timeMs), payload, hash }));
    }
    return this;
  }

  /** As if the node's disk had changed it. */
  damage(seq: number, change: Partial<JournalEntry>): void {
    this.entries[seq - 1] = { ...this.entries[seq - 1]!, ...change };
  }

  batch(from = 1, to = this.entries.length): { node: string; batch: JournalBatch } {
    const entries = this.entries.slice(from - 1, to);
    return { node: NODE, batch: create(JournalBatchSchema, { node: NODE, epoch: this.epoch, entries }) };
  }
}

interface Bench extends AsyncDisposable {
  readonly store: Store;
  readonly owner: ShardOwner;
  audit(tx?: Tx): Promise<EpochAudit>;
  /** `seq kind` of each fault. */
  faults(): Promise<string[]>;
  marked(): Promise<number[]>;
  condition(): Promise<string | undefined>;
}

async function openBench(journal: Chained): Promise<Bench> {
  const store = await openStore({ url: await databases.create() });
  await store.transaction((tx) => insertNewNodes(tx, [{ name: NODE, shard: 0 } as never]));
  const epoch = await store.transaction((tx) => takeShard(tx, 0, "test"));
  const deps = {
    store,
    logger: silentLogger,
    metrics: noMetrics.ingest,
    failpoint: noFailpoints,
    async fetchJournal(_node: string, request: { fromSeq: bigint; limit: number }) {
      const from = Math.max(Number(request.fromSeq), journal.firstAvailable);
      const { batch } = journal.batch(from, from - 1 + request.limit);
      return { ...batch, firstAvailableSeq: BigInt(journal.firstAvailable) };
    },
  };
  const audit = async (tx: Tx = store.db): Promise<EpochAudit> => {
    const [stored] = await storedEpochs(tx, NODE);
    const page = journalEvents(tx, { ...stored!, after: { seq: 0, id: 0 }, limit: 1_000 });
    return await auditEpoch(stored!, (async function* () { yield await page; })()); // prettier-ignore
  };
  return {
    store,
    owner: new ShardOwner(deps, { shard: 0, epoch }, new AbortController().signal),
    audit,
    faults: async () => (await audit()).faults.map(({ seq, kind }) => `${seq} ${kind}`),
    async marked() {
      const { items } = await listEvents(store.db, { pageSize: 1_000 });
      return items.filter((event) => event.attributes["chain_broken"] !== undefined).map((event) => event.journalSeq!);
    },
    async condition() {
      const [node] = await nodeMessages(store.db, [(await getNode(store.db, NODE))!]);
      const found = node!.status!.conditions.find(({ type }) => type === "JournalIntact");
      return found && `${found.status} ${found.reason}: ${found.message}`;
    },
    [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
  };
}

void test("a whole chain is stored, over batches, repetitions and filled gaps, and verifies", async () => {
  const journal = new Chained().add(30);
  await using bench = await openBench(journal);
  await bench.owner.store([journal.batch(1, 7), journal.batch(5, 9)]);
  await bench.owner.store([journal.batch(20, 30)]);
  assert.deepEqual(await bench.marked(), []);
  assert.equal(await bench.condition(), undefined);
  const { checked, faultCount, firstKeptSeq } = await bench.audit();
  assert.deepEqual([checked, faultCount, firstKeptSeq], [30, 0, 1]);
  const [stored] = await storedEpochs(bench.store.db, NODE);
  assert.deepEqual(Buffer.from(stored!.headHash!), Buffer.from(journal.entries.at(-1)!.hash));
});

void test("an entry that was altered on its node is kept, marked, told as an event and a condition; what follows is not", async () => {
  const journal = new Chained().add(6);
  await using bench = await openBench(journal);
  journal.damage(3, { payload: journal.entries[3]!.payload });
  journal.damage(5, { payload: Buffer.from([0xff, 0xff]) });
  await bench.owner.store([journal.batch(1, 4)]);
  await bench.owner.store([journal.batch(5, 6)]);
  assert.deepEqual(await bench.marked(), [3, 5]);
  assert.match((await bench.condition())!, /^False ChainBroken: entry 5 of epoch .* \(2 of its kind so far\)/);
  const { items } = await listEvents(bench.store.db, {});
  const told = items.filter(({ topic }) => topic === "/nodes/journal-broken").map(({ message }) => message.slice(0, 8));
  assert.deepEqual(told, ["entry 3 ", "entry 5 "]);
  assert.equal(items.filter(({ journalSeq }) => journalSeq !== null).length, 6, "all are kept");
  assert.deepEqual(await bench.faults(), ["3 Arrived", "5 Arrived"]);
});

void test("breaks that were acknowledged are no condition any more, until the next; what was said is kept", async () => {
  const journal = new Chained().add(8);
  await using bench = await openBench(journal);
  const { acknowledgeJournal } = journalService(bench).handlers as Handlers<typeof JournalService>;
  const context = { signal: new AbortController().signal, principal: { tokenId: "t", name: "ada" }, requestId: "r" };
  const say = (reason: string): ReturnType<typeof acknowledgeJournal> =>
    acknowledgeJournal(create(AcknowledgeJournalRequestSchema, { node: NODE, reason }), context);
  await assert.rejects(say("nothing"), { reason: "JOURNAL_HAS_NO_BREAKS" });
  journal.damage(3, { payload: journal.entries[3]!.payload });
  journal.damage(7, { payload: journal.entries[3]!.payload });
  await bench.owner.store([journal.batch(1, 5)]);
  await assert.rejects(say("  "), /reason/);
  assert.equal((await say("disk replaced")).breaks, 1n);
  assert.equal(await bench.condition(), undefined);
  assert.deepEqual(await bench.faults(), ["3 Arrived"], "what arrived broken stays so");
  const [told] = (await listEvents(bench.store.db, {})).items.filter(({ topic }) => topic === "/nodes/journal-acknowledged"); // prettier-ignore
  assert.equal(told!.message, "1 break of its journal, by ada: disk replaced");
  await bench.owner.store([journal.batch(6, 8)]);
  assert.match((await bench.condition())!, /^False ChainBroken: entry 7 of epoch .* \(1 of its kind so far\)/);
  assert.equal((await say("the same disk")).breaks, 1n);
  const [epoch] = await storedEpochs(bench.store.db, NODE);
  assert.partialDeepStrictEqual(epoch, { breaks: 2, acknowledgedBreaks: 2, acknowledgedReason: "the same disk" });
});

void test("an entry of another journal, one left out of the middle, and one whose hash is gone do not pass", async () => {
  const journal = new Chained().add(9);
  const other = new Chained().add(9);
  await using bench = await openBench(journal);
  journal.damage(2, other.entries[1]!);
  journal.damage(8, { hash: new Uint8Array() });
  for (let seq = 5; seq < 9; seq += 1) journal.damage(seq, { ...journal.entries[seq]!, seq: BigInt(seq) });
  await bench.owner.store([journal.batch()]);
  // 2 is another's, 3 follows the true 2; from 5 on each stands one place before its own; 9 is the true 9.
  assert.deepEqual(await bench.marked(), [2, 3, 5, 6, 7, 8, 9]);
});

void test("after entries that are lost the next cannot be proven, those after it can", async () => {
  const journal = new Chained().add(9);
  await using bench = await openBench(journal);
  await bench.owner.store([journal.batch(1, 2)]);
  journal.firstAvailable = 6;
  await bench.owner.store([journal.batch(7, 9)]);
  assert.deepEqual(await bench.marked(), [6]);
  assert.match((await bench.condition())!, /ChainBroken/);
  assert.deepEqual(await bench.faults(), ["3 Missing", "6 Arrived"]);
});

void test("verify finds each way of altering what is stored", async () => {
  const journal = new Chained().add(8);
  await using bench = await openBench(journal);
  await bench.owner.store([journal.batch()]);
  /** What is found of it, before it is undone. */
  const alter = async (statement: string): Promise<string[]> => {
    let found: string[] = [];
    const undone = new Error("undone");
    const trying = bench.store.transaction(async (tx) => {
      await tx.execute(statement);
      found = (await bench.audit(tx)).faults.map(({ seq, kind }) => `${seq} ${kind}`);
      throw undone;
    });
    await assert.rejects(trying);
    return found;
  };
  assert.deepEqual(await alter("update events set message = 'nothing happened' where journal_seq = 3"), ["3 Altered"]);
  assert.deepEqual(await alter("update events set attributes = '{\"exit_code\": \"0\"}' where journal_seq = 3"), ["3 Altered"]); // prettier-ignore
  assert.deepEqual(await alter("update events set time = time + interval '1 second' where journal_seq = 3"), ["3 Altered"]); // prettier-ignore
  assert.deepEqual(await alter("update events set entry = set_byte(entry, length(entry) - 1, 88) where journal_seq = 3"), ["3 Altered", "3 Altered"]); // prettier-ignore
  assert.deepEqual(await alter("update events set entry_hash = null where journal_seq = 3"), ["3 Altered"]);
  assert.deepEqual(await alter("delete from events where journal_seq in (3, 4)"), ["3 Missing"]);
  assert.deepEqual(await alter("delete from events where journal_seq > 6"), ["7 Missing"]);
  assert.deepEqual(await alter("update journal_state set head_hash = '\\x00'"), ["8 Altered"]);
  assert.deepEqual(await alter("delete from events where journal_seq < 4"), [], "what retention dropped is no fault");
});

void test("a journal that begins to be chained amid an epoch is accepted from there, and not without hashes again", async () => {
  const journal = new Chained().add(3);
  await using bench = await openBench(journal);
  const plain = (seq: number): JournalEntry =>
    create(JournalEntrySchema, { seq: BigInt(seq), time: timestampFromMs(seq) });
  const entries = [plain(1), plain(2)];
  await bench.owner.store([{ node: NODE, batch: create(JournalBatchSchema, { epoch: journal.epoch, entries }) }]);
  assert.deepEqual(await bench.marked(), []);
  let hash = chainBegin(NODE, journal.epoch);
  for (const seq of [3, 4]) {
    const { payload } = journal.entries[0]!;
    hash = chainNext(hash, { seq, timeMs: seq, payload });
    journal.entries[seq - 1] = create(JournalEntrySchema, {
      seq: BigInt(seq),
      time: timestampFromMs(seq),
      payload,
      hash,
    });
  }
  await bench.owner.store([journal.batch(3, 4)]);
  assert.deepEqual([await bench.marked(), await bench.faults()], [[], []]);
  journal.entries[4] = plain(5);
  await bench.owner.store([journal.batch(5, 5)]);
  assert.deepEqual([await bench.marked(), await bench.faults()], [[5], ["5 Arrived"]]);
});
