/** Cron jobs over the API: applied idempotently, refused by field, listed, deleted with what they made. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { timestampNow } from "@bufbuild/protobuf/wkt";
import { CronJobService, NamespaceService, WorkloadService } from "@berth/proto";
import { lockCronJob, updateCronJob } from "@berth/store";
import { eventually } from "@berth/testkit/servers";
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

const client = () => api.client(CronJobService);
const template = { container: { image: "registry.example/a:1" }, job: {} };
const cronJob = (spec: object) => ({
  metadata: { name: "report", namespace: "demo" },
  spec: { schedule: "30 2 * * *", timeZone: "Europe/Berlin", template, ...spec },
});

test("applyCronJob is idempotent, stores the job's defaults, and lists and gets what is there", async () => {
  const first = await client().applyCronJob({ cronJob: cronJob({}) });
  assert.equal(first.spec!.template!.job!.retries, 3);
  assert.equal(first.spec!.concurrency, "Allow");
  const again = await client().applyCronJob({ cronJob: cronJob({}) });
  assert.equal(again.metadata!.resourceVersion, first.metadata!.resourceVersion);
  const changed = await client().applyCronJob({ cronJob: cronJob({ suspend: true }) });
  assert.equal(changed.metadata!.generation, 2n);
  const { items } = await client().listCronJobs({ namespace: "-" });
  assert.deepEqual(items.map(({ metadata }) => metadata!.name), ["report"]); // prettier-ignore
  assert.deepEqual((await client().listCronRuns({ namespace: "demo", name: "report" })).items, []);
});

test("applyCronJob refuses a schedule, a zone and a template that cannot be, and names the field", async () => {
  const refused = async (spec: object): Promise<string[]> =>
    await client()
      .applyCronJob({ cronJob: cronJob(spec) })
      .then(
        () => [],
        (error: { violations: { field: string }[] }) => error.violations.map(({ field }) => field),
      );
  assert.deepEqual(await refused({ schedule: "61 * * * *" }), ["spec.schedule"]);
  assert.deepEqual(await refused({ timeZone: "Mars/Olympus" }), ["spec.timeZone"]);
  assert.deepEqual(await refused({ template: { container: template.container } }), ["spec.template.job"]);
  assert.deepEqual(await refused({ template: { ...template, replicas: 2 } }), ["spec.template.replicas"]);
});

test("watchCronJobs and --as-of tell what cron jobs are and were; looks that show nothing new are no change", async () => {
  const ending = new AbortController();
  const seen: string[] = [];
  const watching = (async () => {
    for await (const { event, cronJob: found } of client().watchCronJobs(
      { namespace: "demo" },
      { signal: ending.signal },
    )) {
      seen.push(`${event!.type} ${found?.spec?.schedule ?? ""}`.trim());
    }
  })().catch(() => undefined);
  await eventually("the snapshot", () => seen.includes("SNAPSHOT_END"));
  const then = timestampNow();
  await delay(5);
  await client().applyCronJob({ cronJob: cronJob({ schedule: "0 3 * * *" }) });
  await api.store.transaction(async (tx) => {
    const row = (await lockCronJob(tx, "demo", "report"))!;
    await updateCronJob(tx, row, { lookAt: new Date() });
  });
  await eventually("the change", () => seen.length >= 3);
  ending.abort();
  await watching;
  assert.deepEqual(seen, ["ADDED 30 2 * * *", "SNAPSHOT_END", "MODIFIED 0 3 * * *"]);
  const was = await client().getCronJob({ namespace: "demo", name: "report", asOf: then });
  assert.equal(was.spec!.schedule, "30 2 * * *");
  const { items } = await client().listCronJobs({ namespace: "-", asOf: then });
  assert.equal(items.length, 1);
});

test("runCronJob begins a run now, as concurrency lets it", async () => {
  await client().applyCronJob({ cronJob: cronJob({ suspend: true, concurrency: "Forbid" }) });
  const named = { namespace: "demo", name: "report" };
  const run = await client().runCronJob(named);
  assert.match(run.workload, /^report-m[0-9a-z]+$/);
  const workload = await api.client(WorkloadService).getWorkload({ namespace: "demo", name: run.workload });
  assert.equal(workload.metadata!.labels["berth.io/cron-job"], "report");
  await assert.rejects(client().runCronJob(named), { reason: "CRON_JOB_RUNNING" });
  await client().applyCronJob({ cronJob: cronJob({ concurrency: "Replace" }) });
  const second = await client().runCronJob(named);
  const gone = await api.client(WorkloadService).getWorkload({ namespace: "demo", name: run.workload });
  assert.ok(gone.metadata!.deletedAt !== undefined);
  const runs = (await client().listCronRuns(named)).items.map(({ outcome, message, workload: made }) => [outcome, message, made]); // prettier-ignore
  assert.deepEqual(
    runs,
    [second, run].map((each) => ["Started", "asked for by admin", each.workload]),
  );
  assert.equal((await client().getCronJob(named)).status!.active, 1);
  await assert.rejects(client().runCronJob({ namespace: "demo", name: "nothing" }), { code: "NOT_FOUND" });
});

test("runCronJob goes by Postgres' clock: a controller that is ahead does not put the next look off", async (context) => {
  const named = { namespace: "demo", name: "report" };
  context.mock.timers.enable({ apis: ["Date"], now: Date.now() + 7_200_000 });
  await client().runCronJob(named);
  context.mock.timers.reset();
  const [row] = await api.store.db.execute<{ due: boolean }>(
    "select look_at <= clock_timestamp() as due from cron_jobs where name = 'report'",
  );
  assert.equal(row!.due, true);
});

test("deleteCronJob removes it, and one that is not there is not found", async () => {
  await client().deleteCronJob({ namespace: "demo", name: "report" });
  await assert.rejects(client().getCronJob({ namespace: "demo", name: "report" }), { code: "NOT_FOUND" });
});
