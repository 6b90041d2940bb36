/** What an operator is told of work that does not go on: a fleet is got into each trouble, and out of it again. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { CampaignSpecSchema, CronJobSpecSchema, type Finding } from "@berth/proto";
import {
  getCronJob,
  insertCampaign,
  insertCronJob,
  insertCronRun,
  lockTasksByUid,
  lockWorkload,
  updateTasks,
  updateWorkload,
  workloadStatus,
} from "@berth/store";
import { eventually } from "@berth/testkit/servers";
import { CRON_JOB_LABEL } from "../cron/look.ts";
import { findings, found } from "../testing/findings.ts";
import { startTestDatabases, TestFleet, type TestDatabases } from "../testing/test-fleet.ts";

let databases: TestDatabases;
before(async () => {
  databases = await startTestDatabases();
});
after(() => databases[Symbol.asyncDispose]());

async function openFleet(): Promise<TestFleet> {
  const fleet = await TestFleet.open(databases, { leaseTtlMs: 20_000 });
  await fleet.startController();
  await fleet.addAgent("node-1");
  return fleet;
}

const since = (finding: Finding): number => Number(finding.since?.seconds ?? 0n) * 1_000;

/** Its last progress was so long ago. */
async function age(fleet: TestFleet, name: string, ms: number): Promise<void> {
  await fleet.store.transaction(async (tx) => {
    const row = (await lockWorkload(tx, "shop", name))!;
    const status = workloadStatus(row);
    status.rollout!.progressedAt = timestampFromMs(Date.now() - ms);
    await updateWorkload(tx, row, { status });
  });
}

void test("findingsOf tell of a rollout that failed and went back, until the spec is mended", async () => {
  await using fleet = await openFleet();
  const agent = fleet.wires.agents.get("node-1")!;
  const rollout = { progressDeadline: { seconds: 1n } };
  await fleet.apply("web", { replicas: 2, rollout });
  await fleet.converged("web", 2);
  await eventually("it is rolled out", async () => workloadStatus((await fleet.workload("web"))!).rollout?.phase === "Complete"); // prettier-ignore
  agent.onStart = (each, uid) => {
    if (each.executions.get(uid)?.task.container?.image === "broken") each.exit(uid, 3);
  };
  await fleet.apply("web", { replicas: 2, rollout, container: { image: "broken" } });
  const back = await found(fleet, "RolledBack");
  assert.deepEqual([back.area, back.subject, back.hint], ["stuck", "workload/shop/web", "berth -n shop rollout undo web"]); // prettier-ignore
  assert.match(back.message, /^revision 2 failed; its tasks are back at 1, the spec is not: no further task became available within 1 s/); // prettier-ignore
  assert.ok(Math.abs(since(back) - Date.now()) < 30_000, String(since(back)));
  await fleet.apply("web", { replicas: 2, rollout });
  await eventually("nothing is told any more", async () => (await findings(fleet)).length === 0);
});

void test("findingsOf tell of a rollout with nothing to go back to, of one that is stalled, and of one that is paused for long", async () => {
  await using fleet = await openFleet();
  const agent = fleet.wires.agents.get("node-1")!;
  const health = { readiness: { exec: { command: ["true"] } } };
  await fleet.apply("first", { rollout: { progressDeadline: { seconds: 1n } }, container: { health } });
  const failed = await found(fleet, "RolloutFailed");
  assert.match(failed.message, /^the rollout of revision 1 has failed \(0 of 1 done\): no further task/);
  await fleet.apply("slow", { container: { health } });
  await eventually(
    "it is under way",
    async () => workloadStatus((await fleet.workload("slow"))!).rollout !== undefined,
  );
  assert.equal((await findings(fleet)).some(({ reason }) => reason === "RolloutStalled"), false, "not yet"); // prettier-ignore
  await age(fleet, "slow", 121_000);
  const stalled = await found(fleet, "RolloutStalled");
  assert.deepEqual([stalled.subject, stalled.message], ["workload/shop/slow", "the rollout of revision 1 gets no further: 0 of 1 done"]); // prettier-ignore
  assert.ok(Date.now() - since(stalled) > 120_000);
  await eventually("both run", async () => agent.executions.size === 2);
  for (const { task } of agent.executions.values()) agent.health(task.taskUid, "healthy");
  await eventually("they are well", async () => (await findings(fleet)).length === 0);
  await fleet.store.transaction(async (tx) =>
    updateWorkload(tx, (await lockWorkload(tx, "shop", "slow"))!, { paused: true }),
  );
  await fleet.apply("slow", { container: { image: "busybox:2", health } });
  await eventually("it is held", async () => workloadStatus((await fleet.workload("slow"))!).rollout?.phase === "Paused"); // prettier-ignore
  await age(fleet, "slow", 16 * 60_000);
  const paused = await found(fleet, "RolloutPaused");
  assert.deepEqual([paused.area, paused.hint], ["held", "berth -n shop rollout resume slow"]);
});

void test("findingsOf tell of a job that failed for good once, and of a cron job's only while the newest run is that", async () => {
  await using fleet = await openFleet();
  const agent = fleet.wires.agents.get("node-1")!;
  agent.onStart = (each, uid) => each.exit(uid, 3);
  await fleet.apply("load", { job: { retries: 0 } });
  const failed = await found(fleet, "JobFailed");
  assert.match(failed.message, /^the job has failed for good: 1 tries have failed, 0 may; load-/);
  assert.equal(failed.hint, "berth -n shop logs load");
  assert.ok(since(failed) > 0);
  // What failed for good is told of by its task once the reconciler must have looked at it: not of a job.
  const finishedAt = new Date(Date.now() - 60_000);
  await fleet.store.transaction(async (tx) => {
    const uids = (await fleet.tasks("load")).map(({ uid }) => uid);
    await updateTasks(tx, (await lockTasksByUid(tx, uids)).map((before) => ({ before, patch: { finishedAt } }))); // prettier-ignore
  });
  assert.deepEqual((await findings(fleet)).map(({ reason }) => reason), ["JobFailed"]); // prettier-ignore
  await fleet.delete("load");
  const labels = { [CRON_JOB_LABEL]: "nightly" };
  await fleet.apply("nightly-1", { job: { retries: 0 } }, labels);
  assert.match((await found(fleet, "JobFailed", "workload/shop/nightly-1")).message, /^the newest run of cron job nightly has failed/); // prettier-ignore
  agent.onStart = (each, uid) => each.exit(uid, 0);
  await fleet.apply("nightly-2", { job: { retries: 0 } }, labels);
  await eventually("a later run went well", async () => (await findings(fleet)).length === 0);
});

void test("findingsOf tell of a cron job whose times begin no run, since the first of them, and of one nobody looks at", async () => {
  await using fleet = await openFleet();
  const template = { container: { image: "busybox" }, job: {} };
  const spec = create(CronJobSpecSchema, { schedule: "0 4 * * *", template });
  const hour = 3_600_000;
  const times = [4, 3, 2].map((hours) => new Date(Date.now() - hours * hour));
  await fleet.store.transaction(async (tx) => {
    const row = await insertCronJob(tx, { namespace: "shop", name: "tick", labels: {} }, spec, new Date(Date.now() + hour)); // prettier-ignore
    await insertCronRun(tx, { cronUid: row.uid, scheduledAt: times[0]!, outcome: "Started" });
    await insertCronRun(tx, { cronUid: row.uid, scheduledAt: times[1]!, outcome: "Missed", message: "older" });
    await insertCronRun(tx, { cronUid: row.uid, scheduledAt: times[2]!, outcome: "Skipped", message: "under way" });
  });
  const missed = await found(fleet, "CronJobMisses");
  assert.deepEqual([missed.subject, missed.message], ["cronjob/shop/tick", "2 times in a row did not begin a run: under way"]); // prettier-ignore
  assert.equal(since(missed), Math.floor(times[1]!.getTime() / 1_000) * 1_000);
  await fleet.store.transaction(async (tx) => {
    const { uid } = (await getCronJob(tx, "shop", "tick"))!;
    await insertCronRun(tx, { cronUid: uid, scheduledAt: new Date(Date.now() - hour), outcome: "Started" });
  });
  assert.deepEqual(await findings(fleet), []);
  // The loop of cron jobs is not one of those that a test fleet runs.
  await fleet.store.transaction((tx) =>
    insertCronJob(tx, { namespace: "shop", name: "late", labels: {} }, spec, new Date(Date.now() - 61_000)),
  );
  assert.equal((await found(fleet, "CronJobMisses")).message, "it is due, and no controller has looked at it");
});

void test("findingsOf tell of a failed campaign, with a node and why", async () => {
  await using fleet = await openFleet();
  fleet.wires.agents.get("node-1")!.failPulls = 1;
  const spec = create(CampaignSpecSchema, { images: ["busybox"], maxAttempts: 1 });
  await fleet.store.transaction((tx) => insertCampaign(tx, { namespace: "shop", name: "warm", labels: {}, spec }));
  const failed = await found(fleet, "CampaignFailed");
  assert.equal(failed.message, "the campaign has failed: 1 of 1 targets; node-1: registry is down");
  assert.equal(failed.hint, "berth -n shop describe campaign warm");
  assert.ok(since(failed) > 0);
});
