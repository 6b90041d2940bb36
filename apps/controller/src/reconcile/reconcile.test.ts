import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { hasEnded } from "@berth/model";
import { JobSchema, TaskAssignmentSchema } from "@berth/proto";
import {
  confirmStore,
  getNamespace,
  getNode,
  getStoreMeta,
  hasStopper,
  listEvents,
  lockNamespace,
  nodeMessage,
  nodeUsage,
  taskMessage,
  updateNamespace,
  workloadStatus,
} from "@berth/store";
import { eventually } from "@berth/testkit/servers";
import { FAILPOINTS } from "../failpoints.ts";
import { LEASE, startTestDatabases, TestFleet, type TestDatabases } from "../testing/test-fleet.ts";

let databases: TestDatabases;
before(async () => {
  databases = await startTestDatabases();
});
after(() => databases[Symbol.asyncDispose]());

async function openFleet(nodes: number): Promise<TestFleet> {
  const fleet = await TestFleet.open(databases);
  await fleet.startController();
  for (let n = 1; n <= nodes; n += 1) await fleet.addAgent(`node-${n}`);
  return fleet;
}

const slots = (rows: readonly { slot: number }[]): number[] => rows.map((row) => row.slot).sort((a, b) => a - b);

void test("reconcile scales up and down, highest slots first, and each execution is begun once", async () => {
  await using fleet = await openFleet(2);
  await fleet.apply("web", { replicas: 2 });
  const two = await fleet.converged("web", 2);
  assert.equal(new Set(two.map((row) => row.node)).size, 2);
  await fleet.apply("web", { replicas: 5 });
  const five = await fleet.converged("web", 5);
  assert.deepEqual(slots(five), [0, 1, 2, 3, 4]);
  assert.ok(two.every((row) => five.some((each) => each.uid === row.uid)));
  await fleet.apply("web", { replicas: 1 });
  const one = await fleet.converged("web", 1);
  assert.deepEqual(slots(one), [0]);
  assert.deepEqual([...new Set(fleet.starts().values())], [1]);
  assert.equal(fleet.starts().size, 5);
  await eventually("the status says so", async () => {
    const status = workloadStatus((await fleet.workload("web"))!);
    return status.running === 1 && status.desired === 1 && status.observedGeneration === 3n;
  });
  await fleet.delete("web");
  await eventually("nothing is left", async () => (await fleet.workload("web")) === undefined);
  assert.deepEqual(await fleet.tasks(), []);
  for (const agent of fleet.wires.agents.values()) assert.deepEqual(agent.running, []);
});

void test("reconcile rolls a new spec out in place, at most maxUnavailable down at once", async () => {
  await using fleet = await openFleet(2);
  await fleet.apply("web", { replicas: 4, rollout: { maxUnavailable: 1 } });
  const before = await fleet.converged("web", 4);
  let mostDown = 0;
  const watching = new AbortController();
  const watch = (async () => {
    while (!watching.signal.aborted) {
      const rows = await fleet.tasks("web");
      mostDown = Math.max(mostDown, rows.filter((row) => row.phase !== "Running").length);
    }
  })();
  await fleet.apply("web", {
    replicas: 4,
    rollout: { maxUnavailable: 1 },
    container: { args: ["new"] },
  });
  await eventually("all have the new spec", async () => {
    const rows = await fleet.tasks("web");
    return rows.every((row) => row.workloadGeneration === 2 && row.generation === 2 && row.phase === "Running");
  });
  watching.abort();
  await watch;
  const rows = await fleet.converged("web", 4);
  assert.deepEqual(new Set(rows.map((row) => row.uid)), new Set(before.map((row) => row.uid)));
  assert.deepEqual(new Map(rows.map((row) => [row.uid, row.node])), new Map(before.map((row) => [row.uid, row.node])));
  assert.ok(mostDown <= 1, `${mostDown} were down at once`);
  assert.deepEqual([...new Set(fleet.starts().values())], [1]);
});

void test("reconcile does not restart anything for a change of the replicas alone", async () => {
  await using fleet = await openFleet(1);
  await fleet.apply("web", { replicas: 1 });
  const [before] = await fleet.converged("web", 1);
  await fleet.apply("web", { replicas: 2 });
  const rows = await fleet.converged("web", 2);
  const same = rows.find((row) => row.uid === before!.uid)!;
  assert.deepEqual([same.generation, same.attempt], [1, 1]);
  await eventually("it counts as updated", async () => workloadStatus((await fleet.workload("web"))!).updated === 2);
});

void test("reconcile restarts by policy, with a new attempt after the backoff", async () => {
  await using fleet = await openFleet(1);
  const agent = fleet.wires.agents.get("node-1")!;
  await fleet.apply("job", { restart: { policy: "onFailure" } });
  const [first] = await fleet.converged("job", 1);
  agent.exit(first!.uid, 7);
  await eventually("it waits for its next attempt", async () => {
    const [row] = await fleet.tasks("job");
    return row?.phase === "Failed" && row.exitCode === 7 && row.nextAttemptAt !== null;
  });
  const [second] = await fleet.converged("job", 1);
  assert.deepEqual([second!.uid, second!.attempt, second!.restarts], [first!.uid, 2, 1]);
  agent.exit(first!.uid, 0);
  await eventually("it has succeeded, for good", async () => {
    const status = workloadStatus((await fleet.workload("job"))!);
    const [row] = await fleet.tasks("job");
    return status.succeeded === 1 && row?.nextAttemptAt === null && hasEnded(row.phase);
  });
  assert.deepEqual([...fleet.starts().values()], [1, 1]);
});

void test("a task that has ended is not run once more by a node that lost its memory", async () => {
  await using fleet = await openFleet(1);
  const agent = fleet.wires.agents.get("node-1")!;
  agent.onStart = (each, uid) => each.exit(uid, 0);
  await fleet.apply("job", { restart: { policy: "never" } });
  await eventually("it has succeeded", async () => (await fleet.tasks("job"))[0]?.phase === "Succeeded");
  agent.reset();
  await eventually("the agent has taken over the set again", () => agent.appliedRevision > 0);
  assert.deepEqual(agent.running, []);
  assert.deepEqual([...fleet.starts().values()], [1]);
});

void test("a namespace that goes away takes everything with it, in order", async () => {
  await using fleet = await openFleet(2);
  await fleet.apply("web", { replicas: 2 });
  await fleet.apply("db", {});
  await fleet.converged("web", 2);
  await fleet.converged("db", 1);
  await fleet.store.transaction(async (tx) => {
    await updateNamespace(tx, (await lockNamespace(tx, "shop"))!, { deletedAt: new Date() });
  });
  await eventually("it is gone", async () => (await getNamespace(fleet.store.db, "shop")) === undefined);
  assert.deepEqual(await fleet.tasks(), []);
  for (const agent of fleet.wires.agents.values()) assert.deepEqual(agent.running, []);
});

void test("reconcile puts one task on every matching node, also on one that joins", async () => {
  await using fleet = await TestFleet.open(databases);
  await fleet.startController();
  await fleet.addAgent("node-1", { labels: { disk: "ssd" } });
  await fleet.addAgent("node-2");
  await fleet.apply("agent", { everyNode: true, placement: { nodeSelector: { disk: "ssd" } } });
  const [only] = await fleet.converged("agent", 1);
  assert.equal(only!.node, "node-1");
  await fleet.addAgent("node-3", { labels: { disk: "ssd" } });
  const rows = await fleet.converged("agent", 2);
  assert.deepEqual(new Set(rows.map((row) => row.node)), new Set(["node-1", "node-3"]));
});

void test("placement says why nothing fits, and places the task once something does", async () => {
  await using fleet = await openFleet(1);
  await fleet.apply("web", { placement: { nodeSelector: { disk: "ssd" } } });
  await eventually("the task says why", async () => {
    const [row] = await fleet.tasks("web");
    return row?.message === "0 of 1 node fits: 1 lacks label disk=ssd";
  });
  await eventually("so does the workload", async () => {
    const condition = workloadStatus((await fleet.workload("web"))!).conditions.find(
      (each) => each.type === "Scheduled",
    );
    return condition?.status === "False" && condition.message.includes("disk=ssd");
  });
  await fleet.addAgent("node-2", { labels: { disk: "ssd" } });
  const [row] = await fleet.converged("web", 1);
  assert.equal(row!.node, "node-2");
});

void test("a silent node is Unknown and its tasks unreachable, never failed; back, they are as they were", async () => {
  await using fleet = await openFleet(2);
  await fleet.apply("web", { replicas: 2, onNodeLoss: "keep" });
  const before = await fleet.converged("web", 2);
  const agent = fleet.wires.agents.get("node-1")!;
  agent.silent = true;
  await eventually("the node is Unknown", async () => (await getNode(fleet.store.db, "node-1"))?.phase === "Unknown");
  const lost = await eventually("its task is unreachable", async () =>
    (await fleet.tasks("web")).find((row) => row.node === "node-1" && row.certainty === "unreachable"),
  );
  assert.equal(lost.phase, "Running");
  await eventually("the workload counts it", async () => workloadStatus((await fleet.workload("web"))!).unknown === 1);
  agent.silent = false;
  const after = await fleet.converged("web", 2);
  assert.deepEqual(after.map((row) => [row.uid, row.attempt]), before.map((row) => [row.uid, row.attempt])); // prettier-ignore
  assert.deepEqual([...new Set(fleet.starts().values())], [1]);
});

void test("onNodeLoss replace starts another elsewhere; the lost one is stopped when its node is back", async () => {
  await using fleet = await openFleet(3);
  await fleet.apply("web", { replicas: 3, onNodeLoss: "replace" });
  const before = await fleet.converged("web", 3);
  const agent = fleet.wires.agents.get("node-1")!;
  agent.silent = true;
  const lost = before.find((row) => row.node === "node-1")!;
  await eventually("another runs in its slot", async () => {
    const rows = await fleet.tasks("web");
    const old = rows.find((row) => row.uid === lost.uid);
    const next = rows.find((row) => row.slot === lost.slot && row.uid !== lost.uid && row.phase === "Running");
    return old?.desired === "Stop" && old.certainty === "unreachable" && !hasEnded(old.phase) && next !== undefined;
  });
  assert.equal(agent.running.length, 1, "the lost one possibly runs, and does");
  agent.silent = false;
  await fleet.converged("web", 3);
  assert.deepEqual(agent.running.filter((task) => task.taskUid === lost.uid), []); // prettier-ignore
});

void test("stopThenReplace: possibly running until T, then fenced, then replaced; back, its node begins nothing of it again", async () => {
  await using fleet = await openFleet(3);
  await fleet.apply("one", {
    replicas: 1,
    onNodeLoss: "stopThenReplace",
    container: { stop: { grace: durationFromMs(200) } },
  });
  await fleet.apply("other", { replicas: 3, onNodeLoss: "keep" });
  const [before] = await fleet.converged("one", 1);
  await fleet.converged("other", 3);
  const agent = fleet.wires.agents.get(before!.node!)!;
  const runs = (): string[] => [...fleet.wires.agents.values()].flatMap((each) => each.running).filter((task) => task.fence).map((task) => task.taskUid); // prettier-ignore
  let most = 0;
  const watching = setInterval(() => (most = Math.max(most, runs().length)), 5).unref();
  agent.silent = true;
  const doubtful = await eventually("T is told", async () =>
    (await fleet.tasks("one")).find((row) => row.certainty === "unreachable" && row.possiblyUntil !== null),
  );
  const told = (await nodeUsage(fleet.store.db, [agent.name])).get(agent.name)!;
  assert.deepEqual([told.fencedUntil, told.unboundedTasks], [doubtful.possiblyUntil, 1], "of the node, too");
  const lease = (await getNode(fleet.store.db, agent.name))!;
  const t = doubtful.possiblyUntil!.getTime() - lease.leaseExpiresAt.getTime();
  assert.ok(Math.abs(t - (200 + LEASE.fenceSlackMs + LEASE.ttlMs * 0.01)) <= 2, `T is ${t} ms after the lease`);
  const next = await eventually("another runs elsewhere", async () =>
    (await fleet.tasks("one")).find((row) => row.uid !== before!.uid && row.phase === "Running"),
  );
  assert.ok(next.createdAt.getTime() >= doubtful.possiblyUntil!.getTime(), "not before T");
  const old = (await fleet.tasks("one")).find((row) => row.uid === before!.uid)!;
  assert.deepEqual([old.desired, old.certainty], ["Stop", "fenced"], `${old.phase} ${old.reason}`);
  const { items } = await listEvents(fleet.store.db, {});
  assert.ok(items.some((event) => event.topic === "/tasks/fenced" && event.name === before!.name));
  assert.equal(agent.running.length, 1, "what is not fenced goes on");
  agent.silent = false;
  await fleet.converged("one", 1);
  clearInterval(watching);
  assert.equal(most, 1, "never two at once");
  assert.equal(agent.starts.get(`${before!.uid} 1 1`), 1);
});

void test("stopThenReplace: a node whose stopper does not work gets none, and one that lost it is never taken for fenced", async () => {
  await using fleet = await openFleet(3);
  for (const name of ["node-1", "node-2"]) fleet.wires.agents.get(name)!.stopper = false;
  const without = async (name: string): Promise<boolean> => !hasStopper((await getNode(fleet.store.db, name))!);
  await eventually("placement knows", async () => (await without("node-1")) && (await without("node-2")));
  await fleet.apply("one", { replicas: 1, onNodeLoss: "stopThenReplace" });
  const [row] = await fleet.converged("one", 1);
  assert.equal(row!.node, "node-3");
  const agent = fleet.wires.agents.get("node-3")!;
  agent.stopper = false;
  await eventually("it says so", () => without("node-3"));
  agent.silent = true;
  const lost = await eventually("it is unreachable", async () =>
    (await fleet.tasks("one")).find((each) => each.certainty === "unreachable"),
  );
  assert.equal(lost.possiblyUntil, null);
  assert.match(taskMessage(lost).status!.replacement!.why, /stopper was not working.*berth delete node node-3/);
});

void test("nothing is replaced when most of the fleet goes silent together", async () => {
  await using fleet = await openFleet(3);
  await fleet.apply("web", { replicas: 3, onNodeLoss: "replace" });
  const before = await fleet.converged("web", 3);
  for (const name of ["node-1", "node-2"]) fleet.wires.agents.get(name)!.silent = true;
  await eventually("both are Unknown", async () => {
    const phases = await Promise.all(["node-1", "node-2"].map((name) => getNode(fleet.store.db, name)));
    return phases.every((row) => row?.phase === "Unknown");
  });
  const since = (await getNode(fleet.store.db, "node-2"))!.silentSince!.getTime();
  await eventually("well after the eviction would have been due", () => Date.now() > since + 1_000);
  const rows = await fleet.tasks("web");
  assert.deepEqual(rows.map((row) => [row.uid, row.desired]), before.map((row) => [row.uid, "Run"])); // prettier-ignore
  const held = async () => nodeMessage((await getNode(fleet.store.db, "node-1"))!).status!.conditions.find(({ type }) => type === "EvictionHeld"); // prettier-ignore
  await eventually("the brake is shown", async () => (await held())?.reason === "MostOfFleetSilent");
  const brakes = async (): Promise<string[]> =>
    (await listEvents(fleet.store.db, {})).items
      .filter(({ topic }) => topic === "/fleet/brakes")
      .map((each) => each.reason);
  assert.deepEqual(await brakes(), ["MostOfFleetSilent"], "told once");
  for (const name of ["node-1", "node-2"]) fleet.wires.agents.get(name)!.silent = false;
  await fleet.converged("web", 3);
  await eventually("it holds no more", async () => (await held()) === undefined);
  const over = await eventually("that is told, too", async () => (await brakes()).length > 1 && (await brakes()));
  assert.deepEqual(over.toSorted(), ["MostOfFleetSilent", "MostOfFleetSilentOver"], "once");
  assert.equal((await getNode(fleet.store.db, "node-1"))!.evictionHeld, "");
});

for (const name of FAILPOINTS.filter((each) => each !== "api.after-commit")) {
  void test(`a controller that dies at ${name} leaves nothing undone and nothing done twice`, async () => {
    await using fleet = await TestFleet.open(databases);
    const { promise: reached, resolve: reach } = Promise.withResolvers<void>();
    let armed = false;
    let dead = false;
    await fleet.startController((passed) => {
      if (passed === name && armed) {
        dead = true;
        reach();
      }
      // Once dead, nothing gets past any further step.
      if (dead) throw new Error(`died at ${name}`);
    });
    await fleet.addAgent("node-1");
    await fleet.addAgent("node-2");
    armed = true;
    await fleet.apply("web", { replicas: 3 });
    await reached;
    await fleet.stopController();
    await fleet.startController();
    await fleet.converged("web", 3);
    assert.deepEqual([...fleet.starts().values()], [1, 1, 1]);
  });
}

void test("lost jobs and lost journals cost nothing but time", async () => {
  await using fleet = await openFleet(2);
  fleet.wires.loseJobs = true;
  fleet.wires.loseJournals = true;
  await fleet.apply("web", { replicas: 4 });
  await fleet.converged("web", 4);
  assert.deepEqual([...fleet.starts().values()], [1, 1, 1, 1]);
});

void test("a restored store begins a new epoch, and stops nothing until it is confirmed", async () => {
  await using fleet = await openFleet(1);
  await fleet.apply("web", { replicas: 2 });
  await fleet.converged("web", 2);
  const agent = fleet.wires.agents.get("node-1")!;
  const epoch = agent.storeEpoch;
  // The agent has seen more than this store knows of: a task, and revisions.
  const ghost = create(TaskAssignmentSchema, {
    taskUid: "ghost",
    name: "ghost",
    generation: 1n,
    attempt: 1,
    desired: "Run",
  });
  agent.take(create(JobSchema, { storeEpoch: epoch, revision: 900n, task: ghost }));
  agent.appliedRevision = 900;
  await eventually("a new epoch began", () => agent.storeEpoch !== epoch);
  assert.equal((await getStoreMeta(fleet.store.db)).stopsConfirmed, false);
  assert.equal(agent.running.length, 3);
  const { items } = await listEvents(fleet.store.db, { pageSize: 1_000 });
  assert.equal(items.filter((event) => event.topic === "/store/restored").length, 1);
  assert.equal(await fleet.store.transaction((tx) => confirmStore(tx, epoch)), false);
  assert.equal(await fleet.store.transaction((tx) => confirmStore(tx, agent.storeEpoch)), true);
  await eventually("what it does not name is ended", () => agent.running.length === 2);
});
