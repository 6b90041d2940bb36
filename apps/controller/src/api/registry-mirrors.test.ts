/** RegistryMirrorService over both transports, and what nodes are told of mirrors, on a real Postgres. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { EventService, RegistryMirrorService } from "@berth/proto";
import { getStoreMeta } from "@berth/store";
import { readMirrors } from "../lease/mirrors.ts";
import { startTestServers, type TestApi, type TestServers } from "../testing/test-api.ts";

let servers: TestServers;
let api: TestApi;
before(async () => {
  servers = await startTestServers();
  api = await servers.api();
});
after(async () => {
  await api[Symbol.asyncDispose]();
  await servers[Symbol.asyncDispose]();
});

const revision = async (): Promise<number> => (await getStoreMeta(api.store.db)).mirrorsRevision;
const endpoints = [{ url: "https://mirror.test", capabilities: ["pull", "resolve"] }];

test("ApplyRegistryMirror stores, compares and raises the nodes' revision with each change of a spec", async () => {
  const client = api.client(RegistryMirrorService);
  const before = await revision();
  const spec = { registry: "docker.io", endpoints, fallbackToOrigin: false, budgets: { dial: { seconds: 2n } } };
  const dry = await client.applyRegistryMirror({ mirror: { metadata: { name: "hub" }, spec }, dryRun: true });
  assert.equal(dry.spec?.registry, "docker.io");
  assert.equal(await revision(), before);
  const stored = await client.applyRegistryMirror({ mirror: { metadata: { name: "hub" }, spec } });
  assert.deepEqual([stored.metadata?.generation, stored.spec?.fallbackToOrigin], [1n, false]);
  assert.equal(await revision(), before + 1);
  await client.applyRegistryMirror({ mirror: { metadata: { name: "hub" }, spec } });
  const labelled = { name: "hub", labels: { team: "a" } };
  await client.applyRegistryMirror({ mirror: { metadata: labelled, spec } });
  assert.equal(await revision(), before + 1, "the same spec tells nodes nothing new");

  const put = await api.http("PUT", "/v1/registrymirrors/hub", {
    spec: { ...JSON.parse(JSON.stringify({ registry: "docker.io", endpoints })) },
  });
  assert.equal(put.status, 200, JSON.stringify(put.json));
  assert.equal(put.at("metadata", "generation"), "2");
  const page = await readMirrors(api.store, 0);
  assert.deepEqual([Number(page.revision), page.mirrors.map(({ metadata }) => metadata?.name)], [before + 2, ["hub"]]);
  assert.deepEqual((await client.listRegistryMirrors({})).items.length, 1);
  await client.deleteRegistryMirror({ name: "hub" });
  assert.equal(await revision(), before + 3);
  await assert.rejects(client.getRegistryMirror({ name: "hub" }), {
    code: "NOT_FOUND",
    reason: "REGISTRY_MIRROR_NOT_FOUND",
  });
  const { items } = await api.client(EventService).listEvents({ namespace: "-", filters: ["kind==RegistryMirror"] });
  assert.deepEqual(new Set(items.map(({ reason }) => reason)), new Set(["Created", "Updated", "Deleted"]));
});

test("ApplyRegistryMirror names every field at fault", async () => {
  const client = api.client(RegistryMirrorService);
  const refused = async (spec: object, ...fields: string[]): Promise<void> => {
    const violations = await client.applyRegistryMirror({ mirror: { metadata: { name: "bad" }, spec } }).then(
      () => [],
      (error: { violations: { field: string }[] }) => error.violations.map(({ field }) => field),
    );
    assert.deepEqual(violations, fields);
  };
  await refused({ registry: "https://docker.io", endpoints }, "spec.registry");
  await refused({ registry: "a.test", endpoints: [{ url: "ftp://x" }] }, "spec.endpoints[0].url");
  await refused({ registry: "a.test", fallbackToOrigin: false }, "spec.fallbackToOrigin");
  await refused({ registry: "a.test", endpoints: [{ ...endpoints[0], ca: ["no PEM"] }] }, "spec.endpoints[0].ca[0]");
  const headers = [{ name: "Authorization", value: "Bearer x" }];
  await refused({ registry: "a.test", endpoints: [{ ...endpoints[0], headers }] }, "spec.endpoints[0].headers[0].name");
  await refused({ registry: "a.test", endpoints, maxBytesPerSecond: 0n }, "spec.maxBytesPerSecond");
  await refused(
    { registry: "a.test", endpoints: [{ ...endpoints[0], capabilities: ["pul"] }] },
    "spec.endpoints[0].capabilities[0]",
  );
  await client.applyRegistryMirror({ mirror: { metadata: { name: "one" }, spec: { registry: "b.test", endpoints } } });
  await refused({ registry: "b.test", endpoints }, "spec.registry");
  await client.deleteRegistryMirror({ name: "one" });
});

test("readMirrors gives pages no larger than a message may be", async () => {
  const client = api.client(RegistryMirrorService);
  const headers = Array.from({ length: 12 }, (_, index) => ({ name: `x-${index}`, value: "v".repeat(8_000) }));
  for (let index = 0; index < 8; index += 1) {
    const spec = { registry: `r${index}.test`, endpoints: [{ url: "https://mirror.test", headers }] };
    await client.applyRegistryMirror({ mirror: { metadata: { name: `m${index}` }, spec } });
  }
  const names: string[] = [];
  let pages = 0;
  for (let offset = 0; ;) {
    const page = await readMirrors(api.store, offset);
    names.push(...page.mirrors.map(({ metadata }) => metadata?.name ?? ""));
    pages += 1;
    if (page.nextOffset === 0) break;
    offset = page.nextOffset;
  }
  assert.deepEqual(
    names,
    Array.from({ length: 8 }, (_, index) => `m${index}`),
  );
  assert.ok(pages > 1, "they are more than one message");
});
