/** Cron jobs over the API: applied idempotently, refused by field, listed, deleted with what they made. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { CronJobService, NamespaceService } from "@berth/proto";
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

test("deleteCronJob removes it, and one that is not there is not found", async () => {
  await client().deleteCronJob({ namespace: "demo", name: "report" });
  await assert.rejects(client().getCronJob({ namespace: "demo", name: "report" }), { code: "NOT_FOUND" });
});
