/**
 * Cron jobs on a real Postgres: controllers at once and killed around the commit begin each run exactly once; concurrency,
 * history, deletion. The clock is the test's.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { Lifetime, noFailpoints, silentLogger, type Clock, type Failpoint } from "@berth/base";
import {
  CronJobSpecSchema,
  JobStatusSchema,
  NamespaceSpecSchema,
  WorkloadSpecSchema,
  WorkloadStatusSchema,
  type CronJobSpec,
} from "@berth/proto";
import {
  cronRunsOf,
  getCronJob,
  insertCronJob,
  insertNamespace,
  insertWorkload,
  listWorkloads,
  lockCronJob,
  lockWorkloadByUid,
  openStore,
  updateCronJob,
  updateWorkload,
  type CronRunRow,
  type Store,
  type WorkloadRow,
} from "@berth/store";
import { eventually } from "@berth/testkit/servers";
import { CRON_FAILPOINTS } from "../failpoints.ts";
import { startTestDatabases, type TestDatabases } from "../testing/test-fleet.ts";
import { startCron } from "./cron.ts";

let databases: TestDatabases;
before(async () => {
  databases = await startTestDatabases();
});
after(() => databases[Symbol.asyncDispose]());

const CHILD = join(import.meta.dirname, "../testing/cron-child.ts");
const START = Date.parse("2026-06-01T00:00:30Z");

class CronLab extends Lifetime {
  nowMs = START;
  readonly url: string;
  readonly store: Store;

  constructor(url: string, store: Store) {
    super();
    this.url = url;
    this.store = this.own(store);
  }

  static async open(
    spec: Omit<Exclude<MessageInitShape<typeof CronJobSpecSchema>, CronJobSpec>, "$typeName"> = {},
  ): Promise<CronLab> {
    const url = await databases.create();
    const lab = new CronLab(url, await openStore({ url }));
    const template = { container: { image: "busybox" }, job: { completions: 1, parallelism: 1, retries: 0 } };
    const message = create(CronJobSpecSchema, { schedule: "* * * * *", template, ...spec });
    await lab.store.transaction(async (tx) => {
      await insertNamespace(tx, { name: "shop", labels: {}, spec: create(NamespaceSpecSchema) });
      await insertCronJob(tx, { namespace: "shop", name: "tick", labels: {} }, message, new Date(START));
    });
    return lab;
  }

  /** A controller's cron loop, on connections of its own and the lab's clock. */
  async controller(failpoint: Failpoint = noFailpoints): Promise<AsyncDisposable> {
    const lifetime = new Lifetime();
    const store = lifetime.own(await openStore({ url: this.url, migrate: false }));
    const real = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, Math.min(ms, 20)));
    const clock: Clock = { nowMs: () => this.nowMs, monotonicMs: () => performance.now(), sleep: real };
    lifetime.own(startCron({ store, logger: silentLogger, failpoint, clock }, { tickMs: 10 }));
    return this.own(lifetime);
  }

  async runs(): Promise<CronRunRow[]> {
    const row = await getCronJob(this.store.db, "shop", "tick");
    return (await cronRunsOf(this.store.db, row!.uid, 1_000)).toReversed();
  }

  async workloads(): Promise<readonly WorkloadRow[]> {
    return (await listWorkloads(this.store.db, { namespace: "shop", pageSize: 1_000 })).items;
  }

  /** The clock passes so many seconds, and what is due by then is decided. */
  async pass(seconds: number, decided: number): Promise<CronRunRow[]> {
    this.nowMs += seconds * 1_000;
    return await eventually(`${decided} are decided`, async () => {
      const runs = await this.runs();
      return runs.length >= decided && runs;
    });
  }

  async finish(name: string, phase: "Complete" | "Failed"): Promise<void> {
    const { uid } = (await this.workloads()).find((row) => row.name === name)!;
    await this.store.transaction(async (tx) => {
      const row = (await lockWorkloadByUid(tx, uid))!;
      const job = create(JobStatusSchema, { phase });
      await updateWorkload(tx, row, { status: create(WorkloadStatusSchema, { job }) });
    });
  }
}

void test("three controllers at once begin each run exactly once", async () => {
  await using lab = await CronLab.open();
  for (let n = 0; n < 3; n += 1) await lab.controller();
  for (let minute = 1; minute <= 5; minute += 1) await lab.pass(60, minute);
  const runs = await lab.runs();
  assert.deepEqual(runs.map(({ scheduledAt }) => scheduledAt.getTime()), [1, 2, 3, 4, 5].map((n) => START - 30_000 + n * 60_000)); // prettier-ignore
  const made = await lab.workloads();
  assert.deepEqual(made.map(({ name }) => name).sort(), runs.map(({ workload }) => workload).sort());
  assert.equal(made[0]!.labels["berth.io/cron-job"], "tick");
});

for (const point of CRON_FAILPOINTS) {
  void test(`a controller that dies at ${point} loses no run and begins none twice`, async () => {
    await using lab = await CronLab.open();
    let deaths = 0;
    const dying = await lab.controller((name) => {
      if (name !== point) return;
      deaths += 1;
      // What a kill leaves: the transaction is not committed, or nothing after it happens; this loop never acts again.
      throw new Error("killed");
    });
    lab.nowMs += 60_000;
    await eventually("it has died", () => deaths > 0);
    await dying[Symbol.asyncDispose]();
    await lab.controller();
    const runs = await lab.pass(60, 2);
    assert.equal(new Set(runs.map(({ scheduledAt }) => scheduledAt.getTime())).size, runs.length);
    assert.deepEqual(runs.map(({ outcome }) => outcome).filter((outcome) => outcome === "Started").length, (await lab.workloads()).length); // prettier-ignore
    assert.ok(
      runs.some(({ scheduledAt }) => scheduledAt.getTime() === START + 30_000),
      "the time of the death is decided",
    );
  });
}

for (const point of CRON_FAILPOINTS) {
  void test(`a process that is killed at ${point} leaves each time to be begun once by the next`, async () => {
    await using lab = await CronLab.open();
    // A minute ago by the real clock: at least one time is due.
    const begun = new Date(Date.now() - 60_000);
    await lab.store.transaction(async (tx) => {
      await updateCronJob(tx, (await lockCronJob(tx, "shop", "tick"))!, { decidedUntil: begun, lookAt: begun });
    });
    const child = spawn(process.execPath, [CHILD, lab.url, point], { stdio: "inherit" });
    assert.deepEqual(await once(child, "exit"), [null, "SIGKILL"]);
    const atDeath = (await lab.runs()).length;
    assert.equal(atDeath, point === "cron.before-commit" ? 0 : 1);
    lab.nowMs = Date.now();
    for (let n = 0; n < 2; n += 1) await lab.controller();
    await eventually("the time is decided", async () => (await lab.runs()).length > 0);
    const next = Math.floor(Date.now() / 60_000) * 60_000 + 60_000;
    lab.nowMs = next;
    await eventually("the next one, too", async () => (await lab.runs()).some(({ scheduledAt }) => scheduledAt.getTime() === next)); // prettier-ignore
    const runs = await lab.runs();
    assert.equal(new Set(runs.map(({ scheduledAt }) => scheduledAt.getTime())).size, runs.length);
    assert.ok(runs.length >= 2 && runs.every(({ outcome }) => outcome === "Started"), JSON.stringify(runs));
    assert.deepEqual(
      (await lab.workloads()).map(({ name }) => name).sort(),
      runs.map(({ workload }) => workload).sort(),
    );
  });
}

void test("what no controller was there for is missed, but the newest, and that only within the starting deadline", async () => {
  await using lab = await CronLab.open({ startingDeadline: { seconds: 20n, nanos: 0 } });
  lab.nowMs += 4 * 60_000 + 5_000;
  await lab.controller();
  const runs = await lab.pass(0, 4);
  assert.deepEqual(runs.map(({ outcome }) => outcome), ["Missed", "Missed", "Missed", "Missed"]); // prettier-ignore
  assert.match(runs[3]!.message, /could not begin within 20 s/);
  assert.deepEqual((await lab.pass(30, 5)).at(-1)!.outcome, "Started");
});

void test("Forbid skips while one runs, Replace ends it, and finished jobs are kept as the history says", async () => {
  await using forbid = await CronLab.open({ concurrency: "Forbid", successfulHistory: 1 });
  await forbid.controller();
  await forbid.pass(60, 1);
  assert.equal((await forbid.pass(60, 2))[1]!.outcome, "Skipped");
  for (let n = 3; n <= 5; n += 1) {
    const running = (await forbid.runs()).findLast(({ outcome }) => outcome === "Started")!;
    await forbid.finish(running.workload, "Complete");
    assert.equal((await forbid.pass(60, n))[n - 1]!.outcome, "Started");
  }
  await eventually("the oldest is deleted", async () => (await forbid.workloads()).some(({ deletedAt }) => deletedAt !== null)); // prettier-ignore
  await using replace = await CronLab.open({ concurrency: "Replace" });
  await replace.controller();
  await replace.pass(60, 1);
  const runs = await replace.pass(60, 2);
  const deleted = (await replace.workloads()).filter(({ deletedAt }) => deletedAt !== null).map(({ name }) => name);
  assert.deepEqual([runs[1]!.outcome, deleted], ["Started", [runs[0]!.workload]]);
});

void test("a run whose name somebody else's workload has is skipped, and says so; the next one begins", async () => {
  await using lab = await CronLab.open();
  const at = new Date(START + 30_000);
  const taken = `tick-${Math.floor(at.getTime() / 60_000).toString(36)}`;
  const spec = create(WorkloadSpecSchema, { container: { image: "busybox" } });
  await lab.store.transaction((tx) => insertWorkload(tx, { namespace: "shop", name: taken, labels: {}, spec }));
  await lab.controller();
  const [first] = await lab.pass(60, 1);
  assert.deepEqual([first!.outcome, first!.message], ["Skipped", `workload ${taken}, which the run would be called, is there already`]); // prettier-ignore
  assert.deepEqual((await lab.pass(60, 2)).map(({ outcome }) => outcome), ["Skipped", "Started"]); // prettier-ignore
});
