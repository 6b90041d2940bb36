import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { hasCode, noFailpoints, seededRandom, silentLogger, uuidv7 } from "@berth/base";
import {
  JournalBatchSchema,
  JournalEntrySchema,
  TaskChangedSchema,
  type JournalBatch,
  type JournalEntry,
} from "@berth/proto";
import {
  addJournalEpochs,
  insertTasks,
  journalStates,
  listEvents,
  lockTasksByUid,
  openStore,
  takeShard,
  updateTasks,
  type EventRow,
  type Store,
  type TaskRow,
} from "@berth/store";
import { closePartition } from "@berth/store/testing";
import { noMetrics } from "../testing/no-metrics.ts";
import { startTestDatabases, type TestDatabases } from "../testing/test-fleet.ts";
import { ShardOwner, type Delivery, type ShardDeps } from "./shard.ts";

let databases: TestDatabases;
before(async () => {
  databases = await startTestDatabases();
});
after(() => databases[Symbol.asyncDispose]());

const never = new AbortController().signal;

/** One node's journal, from which a controller may fetch. */
class Journal {
  readonly node: string;
  readonly epoch: string;
  readonly entries: JournalEntry[] = [];
  reachable = true;
  firstAvailable = 1;
  fetches = 0;

  constructor(node: string, epoch = uuidv7()) {
    this.node = node;
    this.epoch = epoch;
  }

  add(task: { uid: string; step: string; generation?: number; attempt?: number; exitCode?: number }): this {
    const { uid, step, generation = 1, attempt = 1, exitCode } = task;
    const value = create(TaskChangedSchema, {
      taskUid: uid,
      step,
      generation: BigInt(generation),
      attempt,
      name: "web-1",
      ...(exitCode === undefined ? {} : { exitCode }),
    });
    const seq = BigInt(this.entries.length + 1);
    this.entries.push(create(JournalEntrySchema, { seq, namespace: "shop", body: { case: "task", value } }));
    return this;
  }

  batch(from: number, to: number = from): Delivery {
    return { node: this.node, batch: this.#batch(this.entries.slice(from - 1, to)) };
  }

  fetch(epoch: string, from: number, limit: number): JournalBatch {
    this.fetches += 1;
    if (!this.reachable) throw new Error("no answer");
    if (epoch !== this.epoch) return create(JournalBatchSchema, { node: this.node, epoch });
    const start = Math.max(from, this.firstAvailable);
    const batch = this.#batch(this.entries.slice(start - 1, start - 1 + limit));
    return create(JournalBatchSchema, { ...batch, firstAvailableSeq: BigInt(this.firstAvailable) });
  }

  #batch(entries: JournalEntry[]): JournalBatch {
    return create(JournalBatchSchema, { node: this.node, epoch: this.epoch, entries });
  }
}

interface Bench extends AsyncDisposable {
  readonly store: Store;
  readonly journals: Journal[];
  owner(store?: Store): Promise<ShardOwner>;
  task(node: string): Promise<TaskRow>;
  reload(row: TaskRow): Promise<TaskRow>;
  events(): Promise<readonly EventRow[]>;
  stored(node: string): Promise<number[]>;
}

async function openBench(...journals: Journal[]): Promise<Bench> {
  const store = await openStore({ url: await databases.create() });
  const deps: ShardDeps = {
    store,
    logger: silentLogger,
    metrics: noMetrics.ingest,
    failpoint: noFailpoints,
    async fetchJournal(node, request) {
      const journal = journals.find((each) => each.node === node && each.epoch === request.epoch) ?? journals[0]!;
      return journal.fetch(request.epoch, Number(request.fromSeq), request.limit);
    },
  };
  return {
    store,
    journals,
    async owner(own = store) {
      const epoch = await store.transaction((tx) => takeShard(tx, 0, "test"));
      return new ShardOwner({ ...deps, store: own }, { shard: 0, epoch }, never);
    },
    task: (node) =>
      store.transaction(async (tx) => {
        const uid = uuidv7();
        const [row] = await insertTasks(tx, [
          {
            uid,
            namespace: "shop",
            name: `web-${uid.slice(-5)}`,
            labels: {},
            workload: "web",
            workloadUid: uuidv7(),
            workloadGeneration: 1,
            slot: 0,
            pinnedNode: null,
            container: {},
            cpuMillis: 0,
            memoryBytes: 0,
            hostPorts: [],
            beginsAgain: "always",
            fence: false,
          },
        ]);
        const [placed] = await updateTasks(tx, [{ before: row!, patch: { node, phase: "Assigned" } }]);
        return placed!;
      }),
    reload: (row) => store.transaction(async (tx) => (await lockTasksByUid(tx, [row.uid]))[0]!),
    async events() {
      return (await listEvents(store.db, { pageSize: 1_000 })).items;
    },
    async stored(node) {
      return (await journalStates(store.db, [node])).map((state) => state.storedSeq);
    },
    [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
  };
}

const lifeOf = (journal: Journal, uid: string): Journal =>
  journal
    .add({ uid, step: "accepted" })
    .add({ uid, step: "creating" })
    .add({ uid, step: "started" })
    .add({ uid, step: "exited", exitCode: 3 });

void test("ShardOwner stores each entry once and moves the task, whatever is repeated", async () => {
  const journal = new Journal("a");
  await using bench = await openBench(journal);
  const task = await bench.task("a");
  lifeOf(journal, task.uid);
  const owner = await bench.owner();
  await owner.store([journal.batch(1, 2), journal.batch(1, 3), journal.batch(2, 4)]);
  await owner.store([journal.batch(1, 4)]);
  assert.deepEqual((await bench.events()).map((event) => event.journalSeq), [1, 2, 3, 4]); // prettier-ignore
  const row = await bench.reload(task);
  assert.deepEqual([row.phase, row.reason, row.exitCode, row.observedGeneration], ["Failed", "Error", 3, 1]);
  assert.deepEqual(await bench.stored("a"), [4]);
});

void test("ShardOwner writes one batch after the other, so that what a journal says is in the feed in its order", async () => {
  const journal = new Journal("a");
  await using bench = await openBench(journal);
  const task = await bench.task("a");
  lifeOf(journal, task.uid);
  let open = 0;
  let most = 0;
  const transaction: Store["transaction"] = async (body) => {
    most = Math.max(most, (open += 1));
    return await bench.store.transaction(body).finally(() => (open -= 1));
  };
  const owner = await bench.owner({ ...bench.store, transaction });
  await Promise.all([1, 2, 3, 4].map((seq) => owner.store([journal.batch(seq)])));
  assert.equal(most, 1);
  assert.deepEqual((await bench.events()).map((event) => event.journalSeq), [1, 2, 3, 4]); // prettier-ignore
});

void test("ShardOwner moves a task only as the execution that the entry names, and only by its own node", async () => {
  const journal = new Journal("a");
  const foreign = new Journal("b");
  await using bench = await openBench(journal, foreign);
  const task = await bench.task("a");
  const owner = await bench.owner();
  foreign.add({ uid: task.uid, step: "started" });
  journal
    .add({ uid: task.uid, step: "started", generation: 2 })
    .add({ uid: task.uid, step: "started", attempt: 7 })
    .add({ uid: "no-such-task", step: "started" })
    .add({ uid: uuidv7(), step: "started" });
  await owner.store([foreign.batch(1), journal.batch(1, 4)]);
  const row = await bench.reload(task);
  assert.equal(row.phase, "Assigned");
  assert.equal(row.resourceVersion, task.resourceVersion);
  assert.equal((await bench.events()).length, 5);
});

void test("ShardOwner fills gaps from the node, in order, and goes on", async () => {
  const journal = new Journal("a");
  await using bench = await openBench(journal);
  const task = await bench.task("a");
  for (let n = 0; n < 12; n += 1) journal.add({ uid: task.uid, step: "accepted" });
  const owner = await bench.owner();
  await owner.store([journal.batch(3, 4), journal.batch(8, 9), journal.batch(12)]);
  assert.deepEqual((await bench.events()).map((event) => event.journalSeq), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]); // prettier-ignore
  assert.equal(journal.fetches, 3);
});

void test("ShardOwner lets go of what lies behind a gap that cannot be filled, and takes it later", async () => {
  const journal = new Journal("a");
  await using bench = await openBench(journal);
  const task = await bench.task("a");
  lifeOf(journal, task.uid);
  const owner = await bench.owner();
  journal.reachable = false;
  await owner.store([journal.batch(1), journal.batch(3, 4)]);
  assert.deepEqual(await bench.stored("a"), [1]);
  await owner.store([journal.batch(2, 4)]);
  assert.deepEqual(await bench.stored("a"), [4]);
  assert.equal((await bench.events()).length, 4);
});

void test("ShardOwner says which entries are lost for good", async () => {
  const journal = new Journal("a");
  await using bench = await openBench(journal);
  const task = await bench.task("a");
  lifeOf(journal, task.uid);
  journal.firstAvailable = 3;
  const owner = await bench.owner();
  await owner.store([journal.batch(4)]);
  assert.deepEqual(await bench.stored("a"), [4]);
  const events = await bench.events();
  assert.deepEqual(events.map((event) => [event.topic, event.journalSeq]), [["/nodes/journal-gap", null], ["/tasks/start", 3], ["/tasks/exit", 4]]); // prettier-ignore
  assert.match(events[0]!.message, /entries 1 to 2/);
});

void test("ShardOwner finishes an earlier epoch before the next", async () => {
  const old = new Journal("a");
  const next = new Journal("a");
  await using bench = await openBench(old, next);
  const task = await bench.task("a");
  for (let n = 0; n < 3; n += 1) old.add({ uid: task.uid, step: "accepted" });
  next.add({ uid: task.uid, step: "started" });
  const owner = await bench.owner();
  await owner.store([old.batch(1)]);
  await owner.store([next.batch(1)]);
  const places = (await bench.events()).map((event) => [event.journalEpoch, event.journalSeq]);
  assert.deepEqual(places, [[old.epoch, 1], [old.epoch, 2], [old.epoch, 3], [next.epoch, 1]]); // prettier-ignore
});

void test("each entry is stored once though it comes again in another partition, and from two writers at once", async () => {
  const journals = ["a", "b"].map((node) => new Journal(node));
  await using bench = await openBench(...journals);
  for (const journal of journals) for (let n = 0; n < 30; n += 1) journal.add({ uid: uuidv7(), step: "accepted" });
  const owner = await bench.owner();
  // The first entries of an epoch, from two writers of one owner: no watermark is there yet that could be locked.
  await Promise.all([1, 2, 3].map(() => owner.store(journals.map((journal) => journal.batch(1, 10)))));
  await bench.store.transaction((tx) => closePartition(tx, "events"));
  await Promise.all([1, 2, 3].map((n) => owner.store(journals.map((journal) => journal.batch(n, 20)))));
  await bench.store.transaction((tx) => closePartition(tx, "events"));
  await owner.store(journals.map((journal) => journal.batch(1, 30)));
  const events = await bench.events();
  for (const { node } of journals) {
    const seqs = events.filter((event) => event.node === node).map((event) => event.journalSeq!);
    assert.deepEqual(seqs.toSorted((x, y) => x - y), Array.from({ length: 30 }, (_, n) => n + 1)); // prettier-ignore
  }
});

void test("ShardOwner goes on with a new epoch when nobody has the old one any more", async () => {
  const old = new Journal("a");
  const next = new Journal("a");
  await using bench = await openBench(next);
  const task = await bench.task("a");
  old.add({ uid: task.uid, step: "accepted" });
  next.add({ uid: task.uid, step: "started" });
  const owner = await bench.owner();
  await owner.store([old.batch(1)]);
  await owner.store([next.batch(1)]);
  assert.deepEqual(await bench.stored("a"), [1, 1]);
});

void test("ShardOwner that was succeeded writes nothing more", async () => {
  const journal = new Journal("a");
  await using bench = await openBench(journal);
  const task = await bench.task("a");
  lifeOf(journal, task.uid);
  const first = await bench.owner();
  await first.store([journal.batch(1)]);
  const second = await bench.owner();
  await assert.rejects(
    first.store([journal.batch(2)]),
    (error) => hasCode(error, "ABORTED") && error.reason === "SHARD_TAKEN",
  );
  assert.deepEqual(await bench.stored("a"), [1]);
  await second.store([journal.batch(2, 4)]);
  assert.deepEqual(await bench.stored("a"), [4]);
});

void test("two owners at once, and whatever order: each entry is stored once, in order", async () => {
  const seed = 4_711;
  const random = seededRandom(seed);
  const journals = ["a", "b", "c"].map((node) => new Journal(node));
  await using bench = await openBench(...journals);
  const tasks = await Promise.all(journals.map((journal) => bench.task(journal.node)));
  for (const [index, journal] of journals.entries()) {
    for (let n = 0; n < 40; n += 1) journal.add({ uid: tasks[index]!.uid, step: n < 39 ? "accepted" : "started" });
  }
  let owner = await bench.owner();
  for (let round = 0; round < 40; round += 1) {
    const journal = journals[Math.floor(random() * journals.length)]!;
    const from = 1 + Math.floor(random() * 40);
    const to = Math.min(40, from + Math.floor(random() * 8));
    const late = owner;
    if (random() < 0.3) owner = await bench.owner();
    const writers = [owner.store([journal.batch(from, to)]), late.store([journal.batch(from, to)])];
    for (const result of await Promise.allSettled(writers)) {
      if (result.status === "rejected") assert.ok(hasCode(result.reason, "ABORTED"), `seed ${seed}: ${result.reason}`);
    }
  }
  await owner.store(journals.map((journal) => journal.batch(40)));
  const events = await bench.events();
  for (const journal of journals) {
    const seqs = events.filter((event) => event.node === journal.node).map((event) => event.journalSeq);
    assert.deepEqual(seqs, Array.from({ length: 40 }, (_, n) => n + 1), `seed ${seed}`); // prettier-ignore
  }
  for (const task of tasks) assert.equal((await bench.reload(task)).phase, "Running");
});

void test("a batch of 10,000 entries is stored within a few seconds", async (t) => {
  const journals = Array.from({ length: 20 }, (_, n) => new Journal(`node-${n}`));
  await using bench = await openBench(...journals);
  for (const journal of journals) {
    for (let n = 0; n < 125; n += 1) lifeOf(journal, uuidv7());
  }
  const uids = journals.flatMap((journal) =>
    journal.entries.flatMap(({ body }) =>
      body.case === "task" && body.value.step === "accepted" ? [{ uid: body.value.taskUid, node: journal.node }] : [],
    ),
  );
  await bench.store.transaction(async (tx) => {
    const rows = await insertTasks(
      tx,
      uids.map(({ uid }, index) => ({
        uid,
        namespace: "shop",
        name: `t-${index}`,
        labels: {},
        workload: "web",
        workloadUid: uuidv7(),
        workloadGeneration: 1,
        slot: 0,
        pinnedNode: null,
        container: { image: "busybox" },
        cpuMillis: 0,
        memoryBytes: 0,
        hostPorts: [],
        beginsAgain: "always",
        fence: false,
      })),
    );
    const nodeOf = new Map(uids.map(({ uid, node }) => [uid, node]));
    await updateTasks(tx, rows.map((before) => ({ before, patch: { node: nodeOf.get(before.uid)!, phase: "Assigned" } }))); // prettier-ignore
    await addJournalEpochs(tx, journals.map(({ node, epoch }) => ({ node, epoch }))); // prettier-ignore
  });
  const owner = await bench.owner();
  const started = performance.now();
  await owner.store(journals.map((journal) => journal.batch(1, 500)));
  const ms = performance.now() - started;
  t.diagnostic(`10,000 entries of ${uids.length} tasks on 20 nodes in ${Math.round(ms)} ms`);
  assert.equal((await bench.stored("node-7"))[0], 500);
  assert.ok(ms < 10_000, `took ${ms} ms`);
});
