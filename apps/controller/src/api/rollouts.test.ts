/** Revisions of workloads: when one is made, how many are kept, and what undo, restart and pause write. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { NamespaceService, WorkloadService, type Workload } from "@berth/proto";
import { startTestServers, type TestApi, type TestServers } from "../testing/test-api.ts";

let servers: TestServers;
let api: TestApi;
before(async () => {
  servers = await startTestServers();
  api = await servers.api();
  await api.client(NamespaceService).applyNamespace({ namespace: { metadata: { name: "demo" } } });
});
after(async () => {
  await api[Symbol.asyncDispose]();
  await servers[Symbol.asyncDispose]();
});

const client = () => api.client(WorkloadService);
const named = (name: string) => ({ namespace: "demo", name });

async function apply(name: string, image: string, spec: object = {}, cause = ""): Promise<Workload> {
  const container = { image: `registry.example/${image}` };
  return await client().applyWorkload({ workload: { metadata: named(name), spec: { container, ...spec } }, cause });
}

async function history(name: string): Promise<string[]> {
  const { items } = await client().listWorkloadRevisions(named(name));
  return items.map(({ revision, cause, spec }) => `${revision} ${spec!.container!.image.slice(17)} ${cause}`.trim());
}

test("a revision is made by what is new of the tasks, not by how many there are or how they are rolled out", async () => {
  await apply("web", "a:1", {}, "first");
  await apply("web", "a:1", { replicas: 3 });
  await apply("web", "a:1", { replicas: 3, rollout: { maxSurge: 1 } });
  await client().scaleWorkload({ ...named("web"), replicas: 5 });
  assert.deepEqual(await history("web"), ["1 a:1 first"]);
  await apply("web", "a:2", { replicas: 5 });
  await apply("web", "a:2", { replicas: 5, restart: { policy: "onFailure" } }, "fewer restarts");
  assert.deepEqual(await history("web"), ["3 a:2 fewer restarts", "2 a:2 container.image", "1 a:1 first"]);
});

test("undoRollout makes the spec what it was and keeps how many; restartRollout makes the same once more", async () => {
  const before = await client().getWorkload(named("web"));
  const undone = await client().undoRollout({ ...named("web"), toRevision: 1n });
  assert.equal(undone.spec!.container!.image, "registry.example/a:1");
  assert.equal(undone.spec!.restart!.policy, "always");
  assert.equal(undone.spec!.replicas, 5);
  assert.equal(undone.metadata!.generation, before.metadata!.generation + 1n);
  assert.equal((await history("web"))[0], "4 a:1 undo to revision 1");
  await assert.rejects(client().undoRollout({ ...named("web"), toRevision: 1n }), { reason: "NOTHING_TO_UNDO" });
  await assert.rejects(client().undoRollout({ ...named("web"), toRevision: 9n }), {
    code: "NOT_FOUND",
    message: 'workload "web" has no revision 9; kept are 4, 3, 2, 1',
  });
  await client().restartRollout({ ...named("web"), cause: "new certificates" });
  assert.equal((await history("web"))[0], "5 a:1 new certificates");
  await apply("alone", "a:1");
  await assert.rejects(client().undoRollout(named("alone")), { reason: "REVISION_NOT_FOUND" });
});

test("the history is bounded", async () => {
  for (let n = 1; n <= 6; n += 1) await apply("many", `a:${n}`, { rollout: { historyLimit: 3 } });
  assert.deepEqual(
    (await history("many")).map((line) => line.split(" ")[0]),
    ["6", "5", "4"],
  );
});

test("pauseRollout holds what is not part of the spec, so that an apply does not let it go", async () => {
  const paused = await client().pauseRollout(named("web"));
  const again = await client().pauseRollout(named("web"));
  assert.equal(again.metadata!.resourceVersion, paused.metadata!.resourceVersion);
  await apply("web", "a:7", { replicas: 5 });
  const resumed = await client().resumeRollout(named("web"));
  assert.equal(resumed.metadata!.resourceVersion, paused.metadata!.resourceVersion + 2n);
});

test("applyWorkload refuses bounds that contradict each other or would let nothing move", async () => {
  const refused = async (rollout: object, spec: object = {}): Promise<string[]> =>
    await apply("bad", "a:1", { ...spec, rollout }).then(
      () => [],
      (error: { violations: { field: string }[] }) => error.violations.map(({ field }) => field.slice(13)),
    );
  const seconds = (value: number) => ({ seconds: BigInt(value), nanos: 0 });
  assert.deepEqual(await refused({ maxUnavailable: 1, maxUnavailablePercent: 10 }), ["maxUnavailablePercent"]);
  assert.deepEqual(await refused({ maxUnavailable: 0 }), ["maxUnavailable"]);
  assert.deepEqual(await refused({ maxSurge: 1 }, { everyNode: true }), ["maxSurge"]);
  assert.deepEqual(await refused({ minReady: seconds(60), progressDeadline: seconds(30) }), ["progressDeadline"]);
  assert.deepEqual(await refused({ maxUnavailable: 0, maxSurgePercent: 25 }), []);
});

test("applyWorkload refuses what a job cannot have, by name, and takes again what it shows of one", async () => {
  const refused = await apply("sum", "a:1", {
    job: {},
    replicas: 2,
    everyNode: true,
    rollout: { maxSurge: 1 },
    restart: { policy: "always" },
  }).then(
    (): string[] => [],
    (error: { violations: { field: string }[] }) => error.violations.map(({ field }) => field),
  );
  for (const field of ["spec.everyNode", "spec.replicas", "spec.rollout", "spec.restart"]) {
    assert.ok(refused.includes(field), `${field} is not among ${refused.join(", ")}`);
  }
  const shown = await apply("sum", "a:1", { job: { completions: 2 } });
  const again = await client().applyWorkload({ workload: { metadata: shown.metadata!, spec: shown.spec! } });
  assert.equal(again.metadata!.resourceVersion, shown.metadata!.resourceVersion);
  await assert.rejects(client().pauseRollout(named("sum")), { reason: "IS_JOB" });
  await assert.rejects(client().scaleWorkload({ ...named("sum"), replicas: 2 }), { reason: "IS_JOB" });
});
