/**
 * Several placers at once on one Postgres, one of them a process that kills itself amid its transaction: no room or port is
 * promised twice, no gang is half placed at any time, and each task is told to run once.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { noFailpoints, silentLogger } from "@berth/base";
import { NamespaceSpecSchema, WorkloadSpecSchema } from "@berth/proto";
import {
  insertNamespace,
  insertTasks,
  insertWorkload,
  listTasks,
  nodeLoads,
  openStore,
  type Store,
} from "@berth/store";
import { startTestDatabases, type TestDatabases } from "../testing/test-fleet.ts";
import { noMetrics } from "../testing/no-metrics.ts";
import { addNode, newTask } from "../testing/test-api.ts";
import { Placer } from "./placement.ts";

let databases: TestDatabases;
before(async () => {
  databases = await startTestDatabases();
});
after(() => databases[Symbol.asyncDispose]());

const CHILD = join(import.meta.dirname, "../testing/placer-child.ts");
const NODES = 6;
/** Of each node, as `addNode` makes it. */
const CPU_MILLIS = 4_000;

interface Plan {
  readonly name: string;
  readonly gang: boolean;
  readonly tasks: number;
  readonly cpuMillis: number;
  readonly hostPorts: string[];
}

/** More than the fleet holds, so that somebody is always refused. */
function plans(seed: number): Plan[] {
  return Array.from({ length: 12 }, (_, index) => {
    const dice = (seed * 31 + index * 17) % 7;
    return {
      name: `w${index}`,
      gang: dice % 2 === 0,
      tasks: 2 + dice,
      cpuMillis: 250 * (1 + (dice % 4)),
      hostPorts: dice === 3 ? ["tcp/80"] : [],
    };
  });
}

async function make(store: Store, wanted: readonly Plan[]): Promise<Map<string, Plan>> {
  const byUid = new Map<string, Plan>();
  await store.transaction((tx) => insertNamespace(tx, { name: "shop", labels: {}, spec: create(NamespaceSpecSchema) }));
  for (let n = 1; n <= NODES; n += 1) await addNode(store, `node-${n}`);
  for (const plan of wanted) {
    const { name, gang, tasks, cpuMillis, hostPorts } = plan;
    const spec = create(WorkloadSpecSchema, { replicas: tasks, placement: { gang }, container: { image: "busybox" } });
    await store.transaction(async (tx) => {
      const { uid } = await insertWorkload(tx, { namespace: "shop", name, labels: {}, spec });
      byUid.set(uid, plan);
      const rows = Array.from({ length: tasks }, (_, slot) => ({ ...newTask("shop", `${name}-${slot}`), workload: name, workloadUid: uid, slot, cpuMillis, hostPorts })); // prettier-ignore
      await insertTasks(tx, rows);
    });
  }
  return byUid;
}

async function assertSound(store: Store, byUid: ReadonlyMap<string, Plan>): Promise<number> {
  const { items: tasks } = await listTasks(store.db, { namespace: "shop", pageSize: 1_000 });
  const placed = tasks.filter((row) => row.node !== null);
  for (const [uid, { gang, tasks: wanted, name }] of byUid) {
    const count = placed.filter((row) => row.workloadUid === uid).length;
    if (gang) assert.ok(count === 0 || count === wanted, `${count} of ${wanted} of the gang ${name} are placed`);
  }
  for (const [node, load] of await nodeLoads(store.db)) {
    assert.ok(load.cpuMillis <= CPU_MILLIS, `${node} has promised ${load.cpuMillis}`);
    assert.equal(new Set(load.hostPorts).size, load.hostPorts.length, `${node} has given a port twice`);
  }
  return placed.length;
}

/** Ends when the child has: by its own hand, or at the end of its pass. */
function child(url: string, nth: number): Promise<string | null> {
  return new Promise((resolve) => {
    const running = execFile(process.execPath, [CHILD, url, "placement.before-commit", String(nth)], () => {});
    running.on("close", (_code, signal) => resolve(signal));
  });
}

for (const seed of [1, 2]) {
  void test(`placers at once, one killed amid its transaction, promise nothing twice (seed ${seed})`, async () => {
    const url = await databases.create();
    await using store = await openStore({ url });
    const byUid = await make(store, plans(seed));
    const killed = await child(url, seed);
    assert.equal(killed, "SIGKILL");
    await assertSound(store, byUid);
    await using other = await openStore({ url, migrate: false });
    const placers = [store, other].map(
      (own) => new Placer({ store: own, logger: silentLogger, metrics: noMetrics.placement, failpoint: noFailpoints }, { batchSize: 8 }), // prettier-ignore
    );
    const dying = child(url, seed + 1);
    let rounds = 0;
    await Promise.all(
      placers.map(async (placer, index) => {
        // As the loop does: who finds another at it comes back a little later.
        while (rounds < 3) {
          if (await placer.pass()) rounds += 1;
          else await new Promise((resolve) => setTimeout(resolve, 20 * (index + 1)));
        }
      }),
    );
    await dying;
    const placed = await assertSound(store, byUid);
    assert.ok(placed > 15, `only ${placed} tasks were placed`);
    const { rows } = { rows: await store.db.execute<{ id: string; count: number }>("select job_id as id, count(*)::int as count from outbox group by job_id") }; // prettier-ignore
    assert.equal(rows.length, placed);
    assert.ok(
      rows.every(({ count }) => count === 1),
      "a task is told to run twice",
    );
  });
}
