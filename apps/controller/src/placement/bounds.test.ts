/**
 * Whatever happens in whatever order, no node is promised more than it may be: the tasks that run or may run on it ask for no more
 * than its capacity, and no port is given twice. Random specs, ends, restarts and preemptions, with placers and reconcilers at once.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import fc from "fast-check";
import { holdsRoom } from "@berth/model";
import { openStore, type Store } from "@berth/store";
import { HandFleet, NODE_CPU_MILLIS } from "../testing/hand-fleet.ts";
import { startTestDatabases, type SpecInit, type TestDatabases } from "../testing/test-fleet.ts";

const RUNS = 4 * Number(process.env["BERTH_SOAK_FACTOR"] ?? 1);
const SEED = Number(process.env["BERTH_SOAK_SEED"] ?? 20_261_129);
const NODES = 2;
const WORKLOADS = ["web", "batch", "fenced", "each", "job", "urgent"] as const;
type Name = (typeof WORKLOADS)[number];

let databases: TestDatabases;
let store: Store;
let other: Store;
before(async () => {
  databases = await startTestDatabases();
  const url = await databases.create();
  store = await openStore({ url });
  other = await openStore({ url, migrate: false });
});
after(async () => {
  await other[Symbol.asyncDispose]();
  await store[Symbol.asyncDispose]();
  await databases[Symbol.asyncDispose]();
});

interface Wanted {
  readonly replicas: number;
  readonly cpuMillis: number;
  readonly port: boolean;
  readonly policy: string;
  readonly image: number;
}

function specOf(name: Name, { replicas, cpuMillis, port, policy, image }: Wanted): SpecInit {
  return {
    ...(name === "job" ? { job: { completions: replicas + 1, parallelism: 2, retries: 1 } } : { restart: { policy } }),
    ...(name === "each" ? { everyNode: true } : { replicas }),
    ...(name === "fenced" ? { onNodeLoss: "stopThenReplace" } : {}),
    placement: { priority: name === "urgent" ? 10 : 0 },
    container: {
      image: `busybox:${image}`,
      resources: { cpu: `${cpuMillis}m` },
      ...(port ? { network: { ports: [{ hostPort: 80, containerPort: 80 }] } } : {}),
    },
  };
}

type Step = (fleet: HandFleet) => Promise<unknown>;
interface Told {
  readonly step: Step;
  toString(): string;
}

const told = (words: string, step: Step): Told => ({ step, toString: () => words });
const nodes = fc.integer({ min: 0, max: NODES - 1 });
const controllers = fc.integer({ min: 0, max: 1 });
const names = fc.constantFrom(...WORKLOADS);

const wanted: fc.Arbitrary<Wanted> = fc.record({
  replicas: fc.constantFrom(1, 2, 3, 4, 5, 0),
  cpuMillis: fc.constantFrom(500, 1_000, 1_500, 2_500),
  port: fc.boolean(),
  policy: fc.constantFrom("always", "onFailure", "never"),
  image: fc.integer({ min: 1, max: 2 }),
});

const step: fc.Arbitrary<Told> = fc.oneof(
  { weight: 4, arbitrary: fc.tuple(names, wanted).map(([name, spec]) => told(`apply ${name} ${JSON.stringify(spec)}`, (fleet) => fleet.apply(name, specOf(name, spec)))) }, // prettier-ignore
  { weight: 1, arbitrary: names.map((name) => told(`delete ${name}`, (fleet) => fleet.delete(name))) },
  { weight: 3, arbitrary: fc.constant(told("all go on", goOn)) },
  { weight: 8, arbitrary: fc.tuple(controllers, names).map(([which, name]) => told(`reconcile ${name}`, (fleet) => fleet.reconcile(which, name))) }, // prettier-ignore
  { weight: 7, arbitrary: controllers.map((which) => told("place", (fleet) => fleet.place(which))) },
  { weight: 6, arbitrary: nodes.map((node) => told(`node-${node} takes over`, (fleet) => fleet.takeOver(node))) },
  { weight: 6, arbitrary: fc.tuple(nodes, fc.nat({ max: 9 }), fc.integer({ min: 0, max: 1 })).map(([node, which, code]) => told(`one ends on node-${node} with ${code}`, async (fleet) => fleet.end(node, which, code))) }, // prettier-ignore
  { weight: 6, arbitrary: fc.constant(told("ingest", (fleet) => fleet.ingest())) },
  { weight: 3, arbitrary: fc.constant(told("time passes", (fleet) => fleet.passTime())) },
);

/** Steps of one group are taken at once. */
const story = fc.array(fc.array(step, { minLength: 1, maxLength: 3 }), { minLength: 15, maxLength: 30 });

async function assertWithin(fleet: HandFleet): Promise<void> {
  for (const [node, { cpuMillis, hostPorts }] of await fleet.load()) {
    assert.ok(cpuMillis <= NODE_CPU_MILLIS, `${node} has promised ${cpuMillis} of ${NODE_CPU_MILLIS}`);
    assert.equal(new Set(hostPorts).size, hostPorts.length, `${node} has given a port twice`);
  }
}

/** Everybody does what there is to do. */
async function goOn(fleet: HandFleet): Promise<void> {
  for (const name of WORKLOADS) await fleet.reconcile(0, name);
  await fleet.place(0);
  for (let node = 0; node < NODES; node += 1) await fleet.takeOver(node);
  await fleet.ingest();
}

async function settle(fleet: HandFleet): Promise<void> {
  for (let round = 0; round < 6; round += 1) {
    await goOn(fleet);
    await fleet.passTime();
    await assertWithin(fleet);
  }
}

const FIRST = { replicas: 4, cpuMillis: 1_000, port: false, image: 1 };

/** A fleet that is full, with more that wait: what is given back is taken at once. */
async function fill(fleet: HandFleet): Promise<void> {
  await fleet.apply("web", specOf("web", { ...FIRST, policy: "always" }));
  await fleet.apply("batch", specOf("batch", { ...FIRST, policy: "never" }));
  await fleet.apply("fenced", specOf("fenced", { ...FIRST, replicas: 6, policy: "onFailure" }));
  await goOn(fleet);
  assert.deepEqual([...(await fleet.load()).values()].map(({ cpuMillis }) => cpuMillis), [NODE_CPU_MILLIS, NODE_CPU_MILLIS]); // prettier-ignore
}

const open = async (): Promise<HandFleet> => {
  const fleet = await HandFleet.open(store, other, NODES);
  await fill(fleet);
  return fleet;
};

/** One of a workload's tasks ends, and what waits for room has its turn before the workload is looked at. */
async function endOne(fleet: HandFleet, name: Name, exitCode: number): Promise<string> {
  const row = (await fleet.tasks()).find((each) => each.workload === name)!;
  fleet.agents.find((agent) => agent.name === row.node)!.exit(row.uid, exitCode);
  await fleet.ingest();
  await fleet.place(0);
  await assertWithin(fleet);
  return row.uid;
}

async function look(fleet: HandFleet, name: Name): Promise<void> {
  for (let round = 0; round < 3; round += 1) {
    await fleet.reconcile(0, name);
    await fleet.passTime();
    await assertWithin(fleet);
  }
}

void test("a task that is begun again holds its room before anybody has decided so", async () => {
  const fleet = await open();
  const uid = await endOne(fleet, "web", 1);
  await look(fleet, "web");
  const row = (await fleet.tasks()).find((each) => each.uid === uid)!;
  assert.deepEqual([row.phase, row.attempt], ["Assigned", 2]);
});

void test("a task that gave its room back is placed anew when its policy lets it begin again", async () => {
  const fleet = await open();
  const uid = await endOne(fleet, "batch", 1);
  const taken = (await fleet.tasks()).filter((row) => row.workload === "fenced" && row.node !== null);
  assert.equal(taken.length, 1, "its room was another's at once");
  await fleet.apply("batch", specOf("batch", { ...FIRST, policy: "always" }));
  await look(fleet, "batch");
  const rows = (await fleet.tasks()).filter((row) => row.workload === "batch" && row.desired === "Run");
  assert.ok(!rows.some((row) => row.uid === uid));
  assert.equal(rows.filter((row) => row.node === null).length, 1);
});

void test("a task that is changed to ask for less gives the rest back once its node has begun that", async () => {
  const fleet = await open();
  await fleet.apply("web", specOf("web", { ...FIRST, cpuMillis: 500, policy: "always" }));
  await fleet.reconcile(0, "web");
  await fleet.place(0);
  await assertWithin(fleet);
  const changed = (await fleet.tasks()).filter((row) => row.workload === "web" && row.generation === 2);
  assert.ok(changed.length > 0);
  assert.deepEqual(new Set(changed.map((row) => row.cpuMillis)), new Set([1_000]), "the one before may still run");
  for (let round = 0; round < 5; round += 1) await goOn(fleet);
  const rows = await fleet.tasks();
  assert.deepEqual(new Set(rows.filter((row) => row.workload === "web").map((row) => row.cpuMillis)), new Set([500]));
  assert.equal(rows.filter((row) => row.workload === "fenced" && row.node !== null).length, 2);
  await assertWithin(fleet);
});

void test(`nothing that happens makes a node promise more than it has (seed ${SEED})`, async () => {
  await fc.assert(
    fc.asyncProperty(story, async (groups) => {
      const fleet = await open();
      for (const group of groups) {
        await Promise.all(group.map((each) => each.step(fleet)));
        await assertWithin(fleet);
      }
      await settle(fleet);
      const idle = (await fleet.tasks()).filter((row) => ["Succeeded", "Failed", "Stopped"].includes(row.phase));
      const keeping = idle.filter((row) => row.node !== null && holdsRoom(row));
      assert.deepEqual(keeping.map(({ name, phase }) => `${name} ${phase}`), [], "what ended keeps its room"); // prettier-ignore
    }),
    { seed: SEED, numRuns: RUNS, endOnFailure: RUNS > 4 },
  );
});
