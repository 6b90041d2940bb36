/** Simulated agents against real Postgres, Redis and NATS: they take work, survive SIGKILL, and fail as their profile says. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { eventually } from "@berth/testkit";
import { startSimulatedFleet, type SimulatedFleet } from "../support/simulated-fleet.ts";

const AGENTS = 50;
const NAMESPACE = "sim";

const container = { image: "registry.example/app:v1", resources: { cpu: "10m", memory: "16Mi" } };

describe("simulated agents", () => {
  let fleet: SimulatedFleet;
  before(async () => {
    fleet = await startSimulatedFleet({ count: AGENTS, profile: { seed: 7, start: { ms: { min: 1, max: 30 } } } });
    await fleet.namespaces.applyNamespace({ namespace: { metadata: { name: NAMESPACE } } });
    await eventually("all have their lease", async () => (await fleet.simulator.status()).leasesHeld === AGENTS);
  });
  after(() => fleet[Symbol.asyncDispose]());

  const apply = (name: string, replicas: number, more: object = {}) =>
    fleet.workloads.applyWorkload({
      workload: { metadata: { namespace: NAMESPACE, name }, spec: { replicas, container, ...more } },
    });
  const count = async (phase: string, workload: string): Promise<number> => {
    const [row] = await fleet.sql<{ n: number }[]>`
      select count(*)::int as n from tasks where phase = ${phase} and workload = ${workload}`;
    return row!.n;
  };
  const running = (name: string, replicas: number, timeoutMs = 60_000): Promise<boolean> =>
    eventually(`${replicas} of ${name} run`, async () => (await count("Running", name)) === replicas, { timeoutMs });

  void test("take an apply to running, spread over all of them", async () => {
    await apply("web", 500);
    await running("web", 500);
    const rows = await fleet.sql<{ node: string }[]>`select distinct node from tasks where workload = 'web'`;
    assert.equal(rows.length, AGENTS);
    const { items } = await fleet.nodes.listNodes({});
    const zones = Map.groupBy(items, ({ metadata }) => metadata?.labels["berth.io/zone"]);
    assert.deepEqual([...zones].map(([zone, nodes]) => `${zone} ${nodes.length}`).toSorted(), [
      "z1 17",
      "z2 17",
      "z3 16",
    ]);
  });

  void test("killed by SIGKILL amid an apply and started again, lose no entry and run everything once", async () => {
    const applied = apply("burst", 500);
    await eventually("some of it has begun", async () => (await count("Running", "burst")) > 20);
    await fleet.simulator.kill();
    await applied;
    await fleet.simulator.start();
    await running("burst", 500);
    await running("web", 500);
    await eventually("everything is stored", async () => (await fleet.simulator.status()).unstored === 0, {
      timeoutMs: 30_000,
    });
    const gaps = await fleet.sql`
      select node, journal_epoch, count(*)::int as stored, max(journal_seq)::int as last from events
      where journal_seq is not null group by node, journal_epoch having count(*) <> max(journal_seq)`;
    assert.deepEqual([...gaps], []);
    const [{ entries } = { entries: 0 }] = await fleet.sql<{ entries: number }[]>`
      select count(*)::int as entries from events where journal_seq is not null`;
    assert.ok(entries > 3_000, `${entries} entries`);
    const twice = await fleet.sql`
      select uid, count(*)::int as starts from events where topic = '/tasks/start' group by uid having count(*) > 1`;
    assert.deepEqual([...twice], []);
  });

  void test("killed and started again within their lease, go on with what is fenced, and can be relied upon to end it", async () => {
    const { items } = await fleet.nodes.listNodes({});
    const stoppers = items.map(({ status }) => status?.conditions.find(({ type }) => type === "Stopper")?.status);
    assert.deepEqual(new Set(stoppers), new Set(["True"]));
    await apply("ledger", AGENTS, { onNodeLoss: "stopThenReplace" });
    await running("ledger", AGENTS);
    await fleet.simulator.kill();
    await fleet.simulator.start();
    await eventually("all have their lease", async () => (await fleet.simulator.status()).leasesHeld === AGENTS);
    await eventually("everything is stored", async () => (await fleet.simulator.status()).unstored === 0, {
      timeoutMs: 30_000,
    });
    const ends = await fleet.sql`
      select topic, events.reason, events.message from events join tasks on tasks.uid::text = events.uid
      where tasks.workload = 'ledger' and topic in ('/tasks/stopped', '/tasks/exited', '/tasks/failed')`;
    assert.deepEqual([...ends], []);
    assert.equal(await count("Running", "ledger"), AGENTS);
  });

  void test("fail as the profile says, and what failed is tried again until it runs", async () => {
    await using _shaky = await fleet.startSimulator("shaky", 5, {
      prefix: "shaky",
      labels: { shaky: "yes" },
      start: { failures: 0.2 },
      pull: { failures: 0.4, ms: { min: 1, max: 5 } }, // with this seed, the first on two of the five nodes
      exit: { share: 0.1, afterMs: { min: 1, max: 50 } },
    });
    await apply("shaky", 30, { placement: { nodeSelector: { shaky: "yes" } } });
    // Names are drawn: once in seventy times one of the thirty fails six times in a row, and then waits for a minute.
    await running("shaky", 30, 150_000);
    const [row] = await fleet.sql<{ retried: number; nodes: number }[]>`
      select count(*) filter (where attempt > 1)::int as retried, count(distinct node)::int as nodes
      from tasks where workload = 'shaky'`;
    assert.ok(row!.retried > 3, `${row!.retried} were tried again`);
    assert.equal(row!.nodes, 5);
    const reasons = await fleet.sql<
      { reason: string }[]
    >`select distinct reason from events where topic = '/tasks/failed'`;
    assert.ok(
      reasons.some(({ reason }) => reason === "ImagePullFailed"),
      JSON.stringify(reasons),
    );
  });
});
