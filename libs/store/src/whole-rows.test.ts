/** Rows that are read whole are what drizzle reads. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { uuidv7 } from "@berth/base";
import { WorkloadSpecSchema } from "@berth/proto";
import { sql } from "drizzle-orm";
import { insertNewNodes } from "./leases.ts";
import { getNode, listNodes } from "./nodes.ts";
import * as tables from "./schema/index.ts";
import { containerOf, selectTasks } from "./task-rows.ts";
import { insertTasks, updateTasks, type NewTask } from "./tasks.ts";
import { startTestPostgres, type TestPostgres } from "./testing/test-store.ts";
import { getWorkload, insertWorkload, listWorkloads } from "./workloads.ts";

let postgres: TestPostgres;
before(async () => {
  postgres = await startTestPostgres();
});
after(() => postgres[Symbol.asyncDispose]());

const workloadUid = uuidv7();
const newTask = (name: string, slot: number, more: Partial<NewTask>): NewTask => ({
  uid: uuidv7(),
  namespace: "shop",
  name,
  labels: {},
  workload: "web",
  workloadUid,
  workloadGeneration: 1,
  slot,
  pinnedNode: null,
  container: { image: "busybox" },
  cpuMillis: 500,
  memoryBytes: 0,
  hostPorts: ["tcp/80"],
  fence: false,
  beginsAgain: "always",
  ...more,
});

void test("selectTasks reads what drizzle reads, and alike containers once", async () => {
  await using store = await postgres.open();
  const container = { image: "demo/ünï:1", args: ["a,b", 'q"uote', "{brace}"], env: [{ name: "N", value: "" }] };
  const read = await store.transaction(async (tx) => {
    const rows = await insertTasks(tx, [
      newTask("web-1", 0, {
        container,
        hostPorts: ["tcp/80", 'odd "one", {x}\\'],
        labels: { a: "b" },
        cpuMillis: 2 ** 45,
      }),
      newTask("web-2", 1, { container, pinnedNode: "node-9", fence: true }),
    ]);
    const at = new Date("2026-01-02T03:04:05.678Z");
    const moved = { node: "a", phase: "Failed", exitCode: 137, oomKilled: true, startedAt: at, nextAttemptAt: at };
    await updateTasks(tx, [{ before: rows[0]!, patch: { ...moved, addresses: ["10.0.0.1"], decisionId: 7 } }]);
    const byDrizzle = await tx.select().from(tables.tasks).orderBy(tables.tasks.name);
    const byName = await selectTasks(tx, sql`order by name`);
    return { byDrizzle, byName };
  });
  assert.equal(read.byDrizzle.length, 2);
  assert.deepEqual(read.byName, read.byDrizzle);
  const [first, second] = read.byName;
  assert.equal(first!.container, second!.container);
  assert.ok(Object.isFrozen((first!.container["env"] as unknown[])[0]));
  assert.equal(containerOf(first!), containerOf(second!));
});

void test("nodes and workloads are read as drizzle reads them", async () => {
  await using store = await postgres.open();
  await store.transaction((tx) => insertNewNodes(tx, [{ name: "a", shard: 0 } as never]));
  await store.db
    .execute(sql`update nodes set runtime_handlers = '{runc,"odd \\"one\\", {x}"}', snapshotters = '{overlayfs,btrfs}',
    conditions = '[{"type":"Ready"}]', memory_bytes = 2 ^ 45, silent_since = '2026-01-02 03:04:05.678+00'`);
  const spec = create(WorkloadSpecSchema, { replicas: 3, container: { image: "busybox" }, placement: { priority: 7 } });
  await store.transaction((tx) => insertWorkload(tx, { namespace: "shop", name: "web", labels: { a: "b" }, spec }));
  const [node, workload] = [
    await store.db.select().from(tables.nodes),
    await store.db.select().from(tables.workloads),
  ] as const;
  assert.deepEqual([await getNode(store.db, "a"), ...(await listNodes(store.db, {})).items], [...node, ...node]);
  const listed = (await listWorkloads(store.db, { namespace: "shop" })).items;
  assert.deepEqual([await getWorkload(store.db, "shop", "web"), ...listed], [...workload, ...workload]);
});
