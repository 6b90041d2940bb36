/**
 * The past against an oracle: a seeded history of several writers at once, with what the live tables showed remembered at many
 * moments; then, and while partitions are dropped, every one of these moments is asked for again.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { create, toJson, type JsonObject } from "@bufbuild/protobuf";
import { hasCode, seededRandom, uuidv7, type Random } from "@berth/base";
import { ContainerSpecSchema, NodeSchema, TaskSchema, WorkloadSchema, WorkloadSpecSchema } from "@berth/proto";
import { sql } from "drizzle-orm";
import type { Tx } from "./database.ts";
import { insertEvents, listEvents } from "./events.ts";
import type { ResourceKind } from "./feed/record.ts";
import { beginHistory, checkWithinHistory, objectsAt } from "./history.ts";
import { insertNewNodes } from "./leases.ts";
import { listNodes, lockNode, nodeMessages, removeNode, updateNode } from "./nodes.ts";
import type { Store } from "./open.ts";
import { retirePartition } from "./partitions.ts";
import { insertTasks, listTasks, lockTask, removeTasks, updateTasks, type NewTask } from "./tasks.ts";
import { taskMessage } from "./task-message.ts";
import { closePartition } from "./testing/partitions.ts";
import { startTestPostgres, type TestPostgres } from "./testing/test-store.ts";
import {
  insertWorkload,
  listWorkloads,
  lockWorkload,
  removeWorkload,
  updateWorkload,
  workloadMessage,
} from "./workloads.ts";

let postgres: TestPostgres;
before(async () => {
  postgres = await startTestPostgres();
});
after(() => postgres[Symbol.asyncDispose]());

const SEEDS = 2 * Number(process.env["BERTH_SOAK_FACTOR"] ?? 1);
const ROUNDS = 24;
const WRITERS = 4;
const KINDS = ["Workload", "Task", "Node"] as const;
const spec = create(WorkloadSpecSchema, { container: create(ContainerSpecSchema, { image: "a" }) });

type State = Readonly<Record<(typeof KINDS)[number], readonly JsonObject[]>>;
interface Moment {
  readonly at: Date;
  readonly state: State;
}

/** One random change, of few names, so that they come, change, go and come again. */
async function change(tx: Tx, random: Random): Promise<void> {
  const pick = (count: number): string => String(Math.floor(random() * count));
  const [namespace, name, going] = [`ns-${pick(2)}`, `x-${pick(6)}`, random() < 0.3];
  const labels = { step: pick(1_000) };
  const kind = KINDS[Math.floor(random() * KINDS.length)]!;
  if (kind === "Workload") {
    const row = await lockWorkload(tx, namespace, name);
    if (row === undefined) await insertWorkload(tx, { namespace, name, labels, spec });
    else if (going) await removeWorkload(tx, row);
    else await updateWorkload(tx, row, { labels });
  } else if (kind === "Task") {
    const row = await lockTask(tx, namespace, name);
    if (row === undefined) await insertTasks(tx, [newTask(namespace, name)]);
    else if (going) await removeTasks(tx, [row]);
    else await updateTasks(tx, [{ before: row, patch: { labels, phase: random() < 0.5 ? "Running" : "Failed" } }]);
  } else {
    const row = await lockNode(tx, name);
    if (row === undefined) await insertNewNodes(tx, [{ name, shard: 0 } as never]);
    else if (going) await removeNode(tx, row);
    else await updateNode(tx, row, { labels, cordoned: random() < 0.5 });
  }
}

const newTask = (namespace: string, name: string): NewTask => ({
  uid: uuidv7(),
  namespace,
  name,
  labels: {},
  workload: "web",
  workloadUid: uuidv7(),
  workloadGeneration: 1,
  slot: 0,
  fence: false,
  pinnedNode: null,
  container: { image: "busybox" },
  cpuMillis: 0,
  memoryBytes: 0,
  hostPorts: [],
  beginsAgain: "always",
});

/** Two that make the same name at once collide, and one of them begins anew. */
async function changed(store: Store, random: Random): Promise<void> {
  for (;;) {
    try {
      return await store.transaction((tx) => change(tx, random));
    } catch (error) {
      if (!hasCode(error, "ALREADY_EXISTS", "ABORTED")) throw error;
    }
  }
}

/** What the live tables show, when nobody writes; and a time that lies between what was and what follows. */
async function remember(store: Store): Promise<Moment> {
  const state = await store.snapshot(async (tx): Promise<State> => {
    const [nodes, tasks, workloads] = [await listNodes(tx, {}), await listTasks(tx, {}), await listWorkloads(tx, {})];
    return {
      Workload: workloads.items.map((row) => toJson(WorkloadSchema, workloadMessage(row)) as JsonObject),
      Task: tasks.items.map((row) => toJson(TaskSchema, taskMessage(row)) as JsonObject),
      Node: (await nodeMessages(tx, nodes.items)).map((node) => toJson(NodeSchema, node) as JsonObject),
    };
  });
  await clockTick(store);
  const [clock] = await store.db.execute<{ at: string }>(
    sql`select date_trunc('milliseconds', clock_timestamp())::text as at`,
  );
  await clockTick(store);
  return { at: new Date(clock!.at), state };
}

/** Changes are timed to the millisecond: the next two differ. */
async function clockTick(store: Store): Promise<void> {
  await store.db.execute(sql`select pg_sleep(0.002)`);
}

async function stateAt(store: Store, at: Date): Promise<State> {
  const all = async (kind: ResourceKind): Promise<JsonObject[]> => {
    const objects: JsonObject[] = [];
    for (let pageToken = "", more = true; more; more = pageToken !== "") {
      const page = await store.snapshot((tx) => objectsAt(tx, { kind, at, pageSize: 5, pageToken }));
      objects.push(...page.items.map(({ object }) => object));
      pageToken = page.nextPageToken;
    }
    return objects;
  };
  return { Workload: await all("Workload"), Task: await all("Task"), Node: await all("Node") };
}

/** A node joins without a change of its own: its first renewal is one. And a list shows leases that are no news. */
const shown = (state: State): State => ({ ...state, Node: state.Node.filter((node) => versionOf(node) > 1) });
const versionOf = (object: JsonObject): number => Number((object["metadata"] as JsonObject)["resourceVersion"]);

for (let seed = 1; seed <= SEEDS; seed += 1) {
  void test(`objectsAt tells every moment as it was, over prunes, and refuses what is gone (seed ${seed})`, async () => {
    await using store = await postgres.open();
    const random = seededRandom(seed);
    const moments: Moment[] = [];
    let horizon: Date | undefined;
    for (let round = 0; round < ROUNDS; round += 1) {
      const writers = Array.from({ length: WRITERS }, () => seededRandom(Math.floor(random() * 2 ** 31)));
      await Promise.all(
        writers.map(async (own) => {
          for (let n = 0; n < 4; n += 1) await changed(store, own);
        }),
      );
      moments.push(await remember(store));
      if (random() < 0.3) await store.transaction((tx) => closePartition(tx, "changes"));
      if (random() < 0.15) horizon = (await retirePartition(store, "changes", 0))?.to ?? horizon;
    }
    let told = 0;
    for (const { at, state } of moments) {
      if (horizon !== undefined && at < horizon) {
        await assert.rejects(
          stateAt(store, at),
          (error) => hasCode(error, "OUT_OF_RANGE") && error.reason === "HISTORY_EXPIRED",
        );
        continue;
      }
      told += 1;
      const past = await stateAt(store, at);
      assert.deepEqual(shown(past), shown(state), `seed ${seed}, ${at.toISOString()}`);
    }
    assert.ok(told > 0 && (horizon === undefined || told < moments.length));
  });
}

void test("beginHistory lays what is there under a store from before there was history, beside writers", async () => {
  await using store = await postgres.open();
  await store.transaction(async (tx) => {
    for (const name of ["a", "b", "c"]) await insertWorkload(tx, { namespace: "ns", name, labels: {}, spec });
  });
  // Such a store has forgotten these changes.
  await store.db.execute(sql`truncate changes`);
  await store.db.execute(sql`update store_meta set history_since = null`);
  const ask = (at: Date) => store.snapshot((tx) => objectsAt(tx, { kind: "Workload", at, namespace: "ns" }));
  await assert.rejects(
    ask(new Date()),
    (error) => hasCode(error, "UNAVAILABLE") && error.reason === "HISTORY_NOT_BEGUN",
  );
  const writing = store.transaction(async (tx) => {
    await removeWorkload(tx, (await lockWorkload(tx, "ns", "a"))!);
    await updateWorkload(tx, (await lockWorkload(tx, "ns", "b"))!, { labels: { late: "yes" } });
  });
  await Promise.all([beginHistory(store), beginHistory(store), writing]);
  const { at } = await remember(store);
  const { items } = await ask(at);
  const labels = items.map(({ name, object }) => [name, (object["metadata"] as JsonObject)["labels"]]);
  assert.deepEqual(labels, [["b", { late: "yes" }], ["c", undefined]]); // prettier-ignore
  await assert.rejects(ask(new Date(at.getTime() - 3_600_000)), (error) => hasCode(error, "OUT_OF_RANGE"));
  await assert.rejects(ask(new Date(Date.now() + 3_600_000)), (error) => hasCode(error, "INVALID_ARGUMENT"));
});

void test("listEvents tells what was stored by a time, and is refused before what is kept", async () => {
  await using store = await postgres.open();
  const add = (name: string) =>
    store.transaction((tx) => insertEvents(tx, [{ topic: "/nodes/test", kind: "Node", name }]));
  const then: Date[] = [];
  for (const name of ["one", "two", "three"]) {
    await add(name);
    then.push((await remember(store)).at);
    if (name === "one") await store.transaction((tx) => closePartition(tx, "events"));
  }
  const at = async (asOf: Date) => (await listEvents(store.db, { asOf })).items.map(({ name }) => name);
  assert.deepEqual([await at(then[0]!), await at(then[1]!), await at(then[2]!)], [["one"], ["one", "two"], ["one", "two", "three"]]); // prettier-ignore
  const gone = await retirePartition(store, "events", 0);
  await assert.rejects(
    checkWithinHistory(store.db, "events", then[0]!),
    (error) => hasCode(error, "OUT_OF_RANGE") && error.message.includes(gone!.to.toISOString()),
  );
  await checkWithinHistory(store.db, "events", then[1]!);
  assert.deepEqual(await at(then[1]!), ["two"]);
});
