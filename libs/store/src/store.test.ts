import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { hasCode, uuidv7 } from "@berth/base";
import { ContainerSpecSchema, WorkloadSpecSchema } from "@berth/proto";
import { holdsRoom, parseSelector, type BeginsAgain } from "@berth/model";
import { sql } from "drizzle-orm";
import { assignmentPage, smallSet } from "./assignment-sets.ts";
import { announceTasks } from "./assignments.ts";
import { insertEvents, listEvents, listEventsBackwards } from "./events.ts";
import type { Tx } from "./database.ts";
import { MEMBERS_LOCK } from "./lock-keys.ts";
import { insertNewNodes } from "./leases.ts";
import { openStore, type Store } from "./open.ts";
import { takeFromOutbox } from "./outbox.ts";
import { HOLDS_ROOM } from "./room.ts";
import { tasks as taskTable } from "./schema/index.ts";
import { insertTasks, listTasks, lockTasksByUid, updateTasks, type NewTask } from "./tasks.ts";
import { taskMessage } from "./task-message.ts";
import { startTestPostgres, type TestPostgres } from "./testing/test-store.ts";
import { insertWorkload, listWorkloads, lockWorkload, updateWorkload, workloadMessage } from "./workloads.ts";

let postgres: TestPostgres;
before(async () => {
  postgres = await startTestPostgres();
});
after(() => postgres[Symbol.asyncDispose]());

const newTask = (name: string, more: Partial<NewTask> = {}): NewTask => ({
  uid: uuidv7(),
  namespace: "shop",
  name,
  labels: {},
  workload: "web",
  workloadUid: uuidv7(),
  workloadGeneration: 1,
  slot: 0,
  pinnedNode: null,
  container: { image: "busybox" },
  cpuMillis: 500,
  memoryBytes: 0,
  hostPorts: ["tcp/80"],
  fence: false,
  beginsAgain: "always",
  ...more,
});

const addNode = (store: Store, name: string): Promise<unknown> =>
  store.transaction((tx) => insertNewNodes(tx, [{ name, shard: 0 } as never]));

void test("openStore never has more connections than maxConnections and two, whatever waits", async () => {
  const first = await postgres.open();
  await first[Symbol.asyncDispose]();
  await using store = await openStore({ url: first.url, maxConnections: 3 });
  const listening = await Promise.all(["a", "b", "c"].map((channel) => store.listen(channel, () => {})));
  await store.locks.members(MEMBERS_LOCK);
  const counts = await Promise.all(
    Array.from({ length: 40 }, () =>
      store.transaction(async (tx) => {
        const [row] = await tx.execute<{ count: number }>(sql`
          select count(*)::int as count from pg_stat_activity where datname = current_database()`);
        await tx.execute(sql`select pg_sleep(0.01)`);
        return row!.count;
      }),
    ),
  );
  for (const each of listening) await each[Symbol.asyncDispose]();
  assert.equal(Math.max(...counts), 5, "three for statements, one for locks, one for LISTEN");
});

void test("statements are prepared by their text, also in transactions, and those with a parameter for each row are not", async () => {
  const first = await postgres.open();
  await first[Symbol.asyncDispose]();
  await using store = await openStore({ url: first.url, maxConnections: 1 });
  const ask = (tx: Store["db"], n: number) => tx.execute(sql`select ${n}::int as asked`);
  for (const n of [1, 2]) await ask(store.db, n);
  await store.transaction((tx) => ask(tx, 3));
  const many = sql.join(Array.from({ length: 30 }, (_, n) => sql`${n}::int`), sql`, `); // prettier-ignore
  await store.db.execute(sql`select ${many}`);
  const prepared = await store.db.execute<{ statement: string; calls: number }>(sql`
    select statement, (generic_plans + custom_plans)::int as calls from pg_prepared_statements`);
  assert.deepEqual(
    prepared.filter(({ statement }) => statement.endsWith("as asked")),
    [{ statement: "select $1::int as asked", calls: 3 }],
  );
});

void test("openStore migrates once when several controllers start together", async () => {
  await using store = await postgres.open();
  const others = await Promise.all([1, 2, 3].map(() => openStore({ url: store.url })));
  const [row] = await store.db.execute<{ count: number }>(sql`select count(*)::int as count from store_meta`);
  assert.equal(row!.count, 1);
  await Promise.all(others.map((other) => other[Symbol.asyncDispose]()));
});

void test("transaction runs again after a deadlock, and both win", async () => {
  await using store = await postgres.open();
  await Promise.all(["a", "b"].map((name) => addNode(store, name)));
  const lock = (name: string) => sql`select from nodes where name = ${name} for update`;
  const { promise: bothHold, resolve } = Promise.withResolvers<void>();
  let holding = 0;
  const cross = (first: string, second: string): Promise<void> =>
    store.transaction(async (tx) => {
      await tx.execute(lock(first));
      holding += 1;
      if (holding >= 2) resolve();
      await bothHold;
      await tx.execute(lock(second));
    });
  await Promise.all([cross("a", "b"), cross("b", "a")]);
  assert.ok(holding >= 3, "one of them ran twice");
});

void test("updateTasks writes only the execution that was seen (D3)", async () => {
  await using store = await postgres.open();
  const [task] = await store.transaction((tx) => insertTasks(tx, [newTask("web-1")]));
  const late = { before: task!, patch: { phase: "Running" } };
  await store.transaction((tx) => updateTasks(tx, [{ before: task!, patch: { attempt: 2, phase: "Assigned" } }]));
  await assert.rejects(
    store.transaction((tx) => updateTasks(tx, [late])),
    (error) => hasCode(error, "ABORTED") && error.reason === "STORE_CONFLICT",
  );
  const [row] = await store.transaction((tx) => lockTasksByUid(tx, [task!.uid]));
  assert.deepEqual([row!.attempt, row!.phase, row!.resourceVersion], [2, "Assigned", 2]);
});

void test("updateTasks keeps every column of a task through a round trip", async () => {
  await using store = await postgres.open();
  const [before] = await store.transaction((tx) => insertTasks(tx, [newTask("web-1")]));
  const patch = {
    labels: { app: "web" },
    deletedAt: new Date(1_700_000_000_123),
    node: "a",
    desired: "Stop",
    hostPorts: ["udp/53", "tcp/443"],
    fence: false,
    possiblyUntil: new Date(1_700_000_001_000),
    exitCode: 3,
    oomKilled: true,
    addresses: ["10.0.0.2", "fd00::2"],
    nextAttemptAt: new Date(1_700_000_002_500),
    removed: true,
    failures: 4,
  };
  const [written] = await store.transaction((tx) => updateTasks(tx, [{ before: before!, patch }]));
  const [read] = await store.transaction((tx) => lockTasksByUid(tx, [before!.uid]));
  assert.deepEqual(read, written);
  assert.deepEqual({ ...read, ...patch }, read);
  assert.equal(taskMessage(read!).status?.exitCode, 3);
});

void test("updateTasks names what differs, in one order: batches of one kind are one statement", async () => {
  await using store = await postgres.open();
  await store.transaction(async (tx) => {
    const [a, b] = await insertTasks(tx, [newTask("web-1"), newTask("web-2", { slot: 2 })]);
    await updateTasks(tx, [{ before: a!, patch: { ...a, addresses: [], fence: true, attempt: 2 } }]);
    await updateTasks(tx, [{ before: b!, patch: { attempt: 2, addresses: [], fence: true } }]);
    const known = await tx.execute<{ said: string }>(sql`select statement as said from pg_prepared_statements`);
    const updates = known.flatMap(({ said }) => /^\s*update tasks t set (.*)\s/.exec(said)?.[1] ?? []);
    assert.deepEqual(updates, ["resource_version = v.resource_version, fence = v.fence, attempt = v.attempt"]);
  });
});

void test("insertTasks gives the rows as they are stored, defaults and all", async () => {
  await using store = await postgres.open();
  const tasks = [1, 2, 3].map((n) =>
    newTask(`web-${n}`, {
      slot: n,
      labels: { n: `"${n}"` },
      hostPorts: [`tcp/${n}`, "udp/53"],
      fence: false,
      memoryBytes: 2 ** 40 + n,
    }),
  );
  const inserted = await store.transaction((tx) => insertTasks(tx, tasks));
  const stored = await store.transaction((tx) => lockTasksByUid(tx, tasks.map(({ uid }) => uid))); // prettier-ignore
  assert.equal(inserted.length, 3);
  assert.deepEqual(
    inserted.toSorted((a, b) => (a.uid < b.uid ? -1 : 1)),
    stored,
  );
});

void test("insertTasks leaves out a slot that is taken by a wanted task, and takes one that is being stopped", async () => {
  await using store = await postgres.open();
  const workloadUid = uuidv7();
  const insert = (name: string) => store.transaction((tx) => insertTasks(tx, [newTask(name, { workloadUid })]));
  const [first] = await insert("web-1");
  assert.deepEqual(await insert("web-2"), []);
  await store.transaction((tx) => updateTasks(tx, [{ before: first!, patch: { desired: "Stop" } }]));
  assert.equal((await insert("web-3")).length, 1);
});

void test("announceTasks raises each node's revision and writes jobs that carry it", async () => {
  await using store = await postgres.open();
  await addNode(store, "a");
  const jobs = await store.transaction(async (tx) => {
    const rows = await insertTasks(tx, [1, 2, 3].map((n) => newTask(`web-${n}`))); // prettier-ignore
    const placed = await updateTasks(tx, rows.map((before, n) => ({ before, patch: { node: "a", phase: "Assigned", desired: n === 2 ? "Stop" : "Run" } }))); // prettier-ignore
    await announceTasks(tx, placed);
    return await takeFromOutbox(tx, 10);
  });
  assert.deepEqual(jobs.map((job) => [job.node, job.name, job.job["revision"]]), [["a", "task.run", "1"], ["a", "task.run", "1"], ["a", "task.stop", "1"]]); // prettier-ignore
  assert.match(jobs[2]!.id, /^stop-[0-9a-f-]{36}-1-1$/);
  const whole = await store.snapshot((tx) => assignmentPage(tx, "a", 0, 10));
  assert.deepEqual([whole.revision, whole.tasks.length, whole.nextOffset], [1n, 3, 0]);
  const first = await store.snapshot((tx) => assignmentPage(tx, "a", 0, 2));
  const second = await store.snapshot((tx) => assignmentPage(tx, "a", first.nextOffset, 2));
  assert.deepEqual([...first.tasks, ...second.tasks], whole.tasks);
  assert.equal(second.nextOffset, 0);
  assert.deepEqual(await smallSet(store.db, "a", 3), whole);
  assert.equal(await smallSet(store.db, "a", 2), undefined);
});

void test("snapshot reads one moment and writes nothing", async () => {
  await using store = await postgres.open();
  const settings = await store.snapshot(async (tx) => {
    const [row] = await tx.execute(sql`
      select current_setting('transaction_isolation') as isolation, current_setting('transaction_read_only') as "readOnly"`);
    return row;
  });
  assert.deepEqual(settings, { isolation: "repeatable read", readOnly: "on" });
});

void test("assignmentPage of an unknown node stops nothing", async () => {
  await using store = await postgres.open();
  const page = await store.snapshot((tx) => assignmentPage(tx, "nobody", 0, 10));
  assert.deepEqual([page.revision, page.stopsConfirmed], [0n, false]);
  assert.deepEqual(await smallSet(store.db, "nobody", 10), page);
  await addNode(store, "idle");
  const ofIdle = await store.snapshot((tx) => assignmentPage(tx, "idle", 0, 10));
  assert.deepEqual([ofIdle.tasks.length, ofIdle.stopsConfirmed], [0, true]);
  assert.deepEqual(await smallSet(store.db, "idle", 10), ofIdle);
});

void test("listTasks reads a page and no more, though Postgres knows nothing of the tasks yet", async () => {
  await using store = await postgres.open();
  const fetched = await store.transaction(async (tx) => {
    await insertTasks(
      tx,
      Array.from({ length: 3_000 }, (_, n) => newTask(`web-${n}`)),
    );
    const before = await tasksFetched(tx);
    const page = await listTasks(tx, { namespace: "shop", pageSize: 50 });
    assert.equal(page.items.length, 50);
    return (await tasksFetched(tx)) - before;
  });
  assert.ok(fetched <= 60, `${fetched} rows were read for a page of 50`);
});

void test("smallSet reads the node's tasks and no others, whatever Postgres knew of tasks before", async () => {
  await using store = await postgres.open();
  for (const name of ["a", "b"]) await addNode(store, name);
  await store.transaction((tx) =>
    insertTasks(
      tx,
      Array.from({ length: 1_500 }, (_, n) => newTask(`old-${n}`)),
    ),
  );
  // As it is when many have just been applied: none had a node when it was looked last.
  await store.db.execute(sql`analyze tasks`);
  const fetched = await store.transaction(async (tx) => {
    const rows = await insertTasks(
      tx,
      Array.from({ length: 1_500 }, (_, n) => newTask(`web-${n}`)),
    );
    const placed = rows.map((each, n) => ({ before: each, patch: { node: n < 5 ? "a" : "b", phase: "Assigned" } }));
    await updateTasks(tx, placed);
    const before = await tasksFetched(tx);
    assert.equal((await smallSet(tx, "a", 10))?.tasks.length, 5);
    return (await tasksFetched(tx)) - before;
  });
  assert.ok(fetched <= 20, `${fetched} rows were read for 5 tasks`);
});

/** Rows of tasks that this transaction has read. */
async function tasksFetched(tx: Tx): Promise<number> {
  const [row] = await tx.execute<{ n: number }>(sql`
    select (idx_tup_fetch + seq_tup_read)::int as n from pg_stat_xact_user_tables where relname = 'tasks'`);
  return row!.n;
}

void test("listTasks pages without skipping, and selects by labels", async () => {
  await using store = await postgres.open();
  const names = Array.from({ length: 25 }, (_, n) => `web-${String(n).padStart(2, "0")}`);
  const tasks = names.map((name, n) => newTask(name, { labels: { parity: n % 2 === 0 ? "even" : "odd" } }));
  await store.transaction((tx) => insertTasks(tx, tasks));
  const seen: string[] = [];
  for (let pageToken = ""; ;) {
    const page = await listTasks(store.db, { namespace: "shop", pageSize: 10, pageToken });
    seen.push(...page.items.map((row) => row.name));
    pageToken = page.nextPageToken;
    if (pageToken === "") break;
  }
  assert.deepEqual(seen, names);
  const count = async (selector: string) =>
    (await listTasks(store.db, { selector: parseSelector(selector) })).items.length;
  assert.deepEqual(
    await Promise.all(
      ["parity=even", "parity!=even", "parity in (even,odd)", "parity", "!parity", "other!=x"].map(count),
    ),
    [13, 12, 25, 25, 0, 25],
  );
});

void test("workloads keep their spec, and only a new spec raises the generation", async () => {
  await using store = await postgres.open();
  const spec = create(WorkloadSpecSchema, {
    replicas: 2,
    container: create(ContainerSpecSchema, { image: "busybox" }),
  });
  const add = () => store.transaction((tx) => insertWorkload(tx, { namespace: "shop", name: "web", labels: {}, spec }));
  await add();
  await assert.rejects(add(), (error) => hasCode(error, "ALREADY_EXISTS"));
  const updated = await store.transaction(async (tx) => {
    const row = (await lockWorkload(tx, "shop", "web"))!;
    const labelled = await updateWorkload(tx, row, { labels: { app: "web" } });
    assert.deepEqual([labelled.generation, labelled.resourceVersion], [1, 2]);
    return await updateWorkload(tx, labelled, { spec: create(WorkloadSpecSchema, { ...spec, replicas: 3 }) });
  });
  assert.deepEqual([updated.generation, updated.resourceVersion], [2, 3]);
  assert.equal(workloadMessage(updated).spec?.replicas, 3);
  assert.equal((await listWorkloads(store.db, { namespace: "other" })).items.length, 0);
});

void test("insertEvents stores entries of journals and the store's own, and text with a NUL", async () => {
  await using store = await postgres.open();
  const event = {
    topic: "/tasks/start",
    kind: "Task",
    name: "web-1",
    node: "a",
    journalEpoch: "e",
    journalSeq: 1,
  } as const;
  const count = (rows: Parameters<typeof insertEvents>[1]) => store.transaction((tx) => insertEvents(tx, rows));
  assert.equal(await count([event, { ...event, journalSeq: 2, message: "a\0b" }]), 2);
  assert.equal(await count([{ ...event, journalSeq: 3 }]), 1);
  const own = { topic: "/nodes/join", kind: "Node", name: "a", node: "a" } as const;
  assert.equal(await count([own, own]), 2);
  const { items } = await listEvents(store.db, {});
  assert.deepEqual(items.map((row) => row.journalSeq), [1, 2, 3, null, null]); // prettier-ignore
  assert.equal(items[1]!.message, "a\uFFFDb");
  const newest = await listEventsBackwards(store.db, { limit: 2 });
  assert.deepEqual(newest.map((row) => row.topic), ["/nodes/join", "/nodes/join"]); // prettier-ignore
});

void test("the store says UNAVAILABLE while Postgres is away, and works again when it is back", async () => {
  await using store = await postgres.open();
  await postgres.stop();
  await assert.rejects(store.ping(), (error) => hasCode(error, "UNAVAILABLE"));
  await assert.rejects(
    store.transaction((tx) => insertTasks(tx, [newTask("web-1")])),
    (error) => hasCode(error, "UNAVAILABLE"),
  );
  await postgres.start();
  await store.ping();
});

void test("HOLDS_ROOM is what holdsRoom is, of every task", async () => {
  await using store = await postgres.open();
  const words = ["always", "onFailure", "ifFenced", "no"] satisfies BeginsAgain[];
  const patches = ["Run", "Leave", "Stop"].flatMap((desired) =>
    ["Assigned", "Running", "Succeeded", "Failed", "Stopped"].flatMap((phase) =>
      ["", "Fenced"].flatMap((reason) =>
        words.flatMap((beginsAgain) =>
          [null, new Date()].map((nextAttemptAt) => ({ desired, phase, reason, beginsAgain, nextAttemptAt })),
        ),
      ),
    ),
  );
  const rows = await store.transaction(async (tx) => {
    const made = await insertTasks(tx, patches.map((_, slot) => newTask(`t-${slot}`, { slot, workloadUid: uuidv7() }))); // prettier-ignore
    return await updateTasks(tx, made.map((before, index) => ({ before, patch: patches[index]! }))); // prettier-ignore
  });
  const holding = await store.db.select({ uid: taskTable.uid }).from(taskTable).where(HOLDS_ROOM);
  assert.deepEqual(new Set(holding.map(({ uid }) => uid)), new Set(rows.filter(holdsRoom).map(({ uid }) => uid)));
  assert.ok(holding.length > 0 && holding.length < rows.length);
});
