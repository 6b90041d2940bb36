/** Health and rollouts on a real Postgres with fake agents: what is counted as available, and going back by itself. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { isAvailable } from "@berth/model";
import { listEvents, workloadStatus } from "@berth/store";
import { eventually } from "@berth/testkit/servers";
import { reconcileWorkload, Sight } from "./workload.ts";
import { startTestDatabases, TestFleet, type TestDatabases } from "../testing/test-fleet.ts";

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

void test("reconcile counts a task as available when its probes say so, and no longer when they do not", async () => {
  await using fleet = await openFleet(1);
  const agent = fleet.wires.agents.get("node-1")!;
  await fleet.apply("web", { container: { health: { readiness: { tcp: { port: 80 } } } } });
  const [task] = await fleet.converged("web", 1);
  const available = (count: number, status: string) =>
    eventually(`${count} available`, async () => {
      const { available, conditions } = workloadStatus((await fleet.workload("web"))!);
      return available === count && conditions.find(({ type }) => type === "Available")?.status === status;
    });
  await available(0, "False");
  agent.health(task!.uid, "healthy");
  await available(1, "True");
  agent.health(task!.uid, "unhealthy", "connection refused");
  await available(0, "False");
  const [row] = await fleet.tasks("web");
  assert.deepEqual([row!.phase, row!.health, row!.availableSince], ["Running", "unhealthy", null]);
});

void test("a spec that never becomes healthy goes back by itself; the spec stays, and undo makes it what runs", async () => {
  await using fleet = await openFleet(2);
  for (const agent of fleet.wires.agents.values()) {
    agent.onStart = (self, uid) => {
      const { task } = self.executions.get(uid)!;
      self.health(uid, task.container!.args[0] === "bad" ? "unhealthy" : "healthy", "HTTP status 500");
    };
  }
  const spec = (version: string) => ({
    replicas: 4,
    rollout: { maxSurge: 1, maxUnavailable: 0, progressDeadline: { seconds: 1n, nanos: 0 } },
    container: { args: [version], health: { readiness: { tcp: { port: 80 } } } },
  });
  const phase = (wanted: string) =>
    eventually(
      `the rollout is ${wanted}`,
      async () => {
        const { rollout } = workloadStatus((await fleet.workload("web"))!);
        return rollout?.phase === wanted && rollout;
      },
      { timeoutMs: 15_000 },
    );
  await fleet.apply("web", spec("good"));
  await phase("Complete");
  const before = await fleet.converged("web", 4);
  let least = 4;
  const watching = new AbortController();
  const watch = (async () => {
    while (!watching.signal.aborted) {
      least = Math.min(
        least,
        (await fleet.tasks("web")).filter((row) => row.desired === "Run" && isAvailable(row)).length,
      );
    }
  })();
  await fleet.apply("web", spec("bad"));
  const { targetRevision, stableRevision, message } = await phase("RolledBack");
  const rows = await fleet.converged("web", 4);
  watching.abort();
  await watch;
  assert.deepEqual([targetRevision, stableRevision, least], [1n, 1n, 4]);
  assert.match(message, /no further task became available within 1 s.*HTTP status 500/);
  assert.deepEqual(
    rows.map(({ uid, generation }) => [uid, generation]),
    before.map(({ uid, generation }) => [uid, generation]),
    "only the surge task was ever of the bad revision",
  );
  const { conditions } = workloadStatus((await fleet.workload("web"))!);
  const status = (type: string): string | undefined => conditions.find((each) => each.type === type)?.status;
  assert.deepEqual([status("RolledBack"), status("Available"), status("Progressing")], ["True", "True", "False"]);
  const events = await listEvents(fleet.store.db, { namespace: "shop", pageSize: 1_000 });
  const told = events.items.filter(({ topic }) => topic === "/workloads/rollout").map(({ reason }) => reason);
  assert.deepEqual(told, ["Progressing", "Complete", "Progressing", "RollingBack", "RolledBack"]);
});

void test("what became available under a clock that was ahead is done when it is by Postgres' clock", async (context) => {
  context.mock.timers.enable({ apis: ["Date"], now: Date.now() + 3_600_000 });
  await using fleet = await openFleet(1);
  await fleet.apply("web", { rollout: { minReady: { seconds: 1n, nanos: 0 } } });
  await fleet.converged("web", 1);
  await eventually("the rollout complete", async () =>
    workloadStatus((await fleet.workload("web"))!).rollout?.phase === "Complete"); // prettier-ignore
});

void test("a controller whose clock jumps takes no rollout for late, and waits no longer than it has to", async (context) => {
  await using fleet = await TestFleet.open(databases);
  const { uid } = await fleet.apply("web", { rollout: { progressDeadline: { seconds: 60n, nanos: 0 } } });
  const sight = new Sight({ evictAfterMs: 60_000, evictWindowMs: 60_000, evictPerMinute: 1, domainLabel: "zone" });
  const look = () => fleet.store.transaction((tx) => reconcileWorkload(tx, uid, sight));
  await look();
  for (const hours of [1, -1]) {
    context.mock.timers.enable({ apis: ["Date"], now: Date.now() + hours * 3_600_000 });
    const { wakeMs } = await look();
    context.mock.timers.reset();
    const { rollout } = workloadStatus((await fleet.workload("web"))!);
    assert.equal(rollout?.phase, "Progressing", `${hours} h`);
    assert.ok(wakeMs !== undefined && wakeMs <= 60_000, `${hours} h: looked at again in ${wakeMs} ms`);
  }
});
