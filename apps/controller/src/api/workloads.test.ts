/** Workloads: what declarative apply means. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { StatusError } from "@berth/base";
import { EventService, NamespaceService, WorkloadService } from "@berth/proto";
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

const container = { image: "registry.example/web:1" };

async function makeNamespace(name: string): Promise<void> {
  await api.client(NamespaceService).applyNamespace({ namespace: { metadata: { name } } });
}

describe("WorkloadService", () => {
  before(() => makeNamespace("demo"));
  const workload = (spec: object, metadata: object = {}) => ({
    metadata: { name: "web", namespace: "demo", ...metadata },
    spec: { container, ...spec },
  });

  test("applyWorkload is idempotent: the same again writes nothing", async () => {
    const client = api.client(WorkloadService);
    const first = await client.applyWorkload({ workload: workload({ replicas: 2 }) });
    assert.equal(first.metadata?.generation, 1n);
    assert.equal(first.spec?.restart?.policy, "always", "defaults are stored");
    const { events: before } = await countOf();
    const again = await client.applyWorkload({ workload: workload({ replicas: 2 }) });
    assert.deepEqual(again.metadata, first.metadata);
    const shownBack = await client.applyWorkload({ workload: { metadata: first.metadata, spec: first.spec } });
    assert.deepEqual(shownBack.metadata, first.metadata, "what was shown can be applied again");
    const { events: now } = await countOf();
    assert.equal(now, before, "an apply that changes nothing is no event");
    const third = await client.applyWorkload({ workload: workload({ replicas: 3 }) });
    assert.equal(third.metadata?.generation, 2n);
    assert.equal(third.metadata?.resourceVersion, 2n);
  });

  async function countOf() {
    const list = await api.client(EventService).listEvents({ namespace: "demo", pageSize: 1000 });
    return { events: list.items.length };
  }

  test("applyWorkload honours a resource version and a dry run", async () => {
    const client = api.client(WorkloadService);
    const current = await client.getWorkload({ namespace: "demo", name: "web" });
    const stale = workload({ replicas: 9 }, { resourceVersion: current.metadata!.resourceVersion - 1n });
    await assert.rejects(client.applyWorkload({ workload: stale }), {
      code: "ABORTED",
      reason: "RESOURCE_VERSION_CONFLICT",
      message: /workload "web": metadata\.resourceVersion is 1, but it is at 2 now/,
    });
    const absent = workload({}, { name: "absent", resourceVersion: 1n });
    await assert.rejects(client.applyWorkload({ workload: absent }), { code: "ABORTED", message: /does not exist/ });
    const dry = await client.applyWorkload({ workload: workload({ replicas: 9 }), dryRun: true });
    assert.equal(dry.spec?.replicas, 9);
    assert.equal(dry.metadata?.generation, current.metadata!.generation + 1n);
    const newOne = await client.applyWorkload({ workload: workload({}, { name: "dry" }), dryRun: true });
    assert.equal(newOne.spec?.replicas, 1);
    await assert.rejects(client.getWorkload({ namespace: "demo", name: "dry" }), { code: "NOT_FOUND" });
    assert.deepEqual(await client.getWorkload({ namespace: "demo", name: "web" }), current);
  });

  test("applyWorkload by many at once makes one", async () => {
    const client = api.client(WorkloadService);
    const all = await Promise.all(
      Array.from({ length: 8 }, () => client.applyWorkload({ workload: workload({}, { name: "race" }) })),
    );
    assert.equal(new Set(all.map(({ metadata }) => metadata!.uid)).size, 1);
    assert.ok(all.every(({ metadata }) => metadata!.resourceVersion === 1n));
  });

  test("applyWorkload refuses what no single field's rule can say", async () => {
    const client = api.client(WorkloadService);
    const bad = workload({
      everyNode: true,
      replicas: 2,
      container: {
        ...container,
        env: [{ name: "A" }, { name: "A" }],
        mounts: [{ target: "/a" }, { type: "tmpfs", source: "/x", target: "/a/" }],
        network: { mode: "host", ports: [{ containerPort: 1, hostPort: 2 }] },
      },
    });
    await assert.rejects(client.applyWorkload({ workload: bad }), (error: unknown) => {
      assert.ok(error instanceof StatusError && error.code === "INVALID_ARGUMENT");
      assert.deepEqual(error.violations.map(({ field }) => field).sort(), [
        "spec.container.env[1].name",
        "spec.container.mounts[0].source",
        "spec.container.mounts[1].source",
        "spec.container.mounts[1].target",
        "spec.container.network.ports",
        "spec.replicas",
      ]);
      return true;
    });
    const nowhere = workload({}, { namespace: "nowhere" });
    await assert.rejects(client.applyWorkload({ workload: nowhere }), {
      code: "FAILED_PRECONDITION",
      message: 'namespace "nowhere" does not exist; create it with berth ns create nowhere',
    });
  });

  test("applyWorkload refuses a placement that contradicts itself", async () => {
    const client = api.client(WorkloadService);
    const match = [{ key: "cores", operator: "Gt", values: ["many"] }];
    const bad = workload({
      placement: {
        nodeAffinity: {
          required: [{ match: [{ key: "disk", operator: "Exists", values: ["ssd"] }] }],
          preferred: [{ weight: 1, match }],
        },
        tolerations: [
          { key: "" },
          { key: "gpu", operator: "Exists", value: "x" },
          { key: "gpu", tolerateFor: { seconds: 1n } },
        ],
        spread: [{ topologyKey: "zone" }, { topologyKey: "zone" }],
      },
    });
    await assert.rejects(client.applyWorkload({ workload: bad }), (error: unknown) => {
      assert.ok(error instanceof StatusError && error.code === "INVALID_ARGUMENT");
      assert.deepEqual(
        error.violations.map(({ field }) => field),
        [
          "spec.placement.nodeAffinity.required[0].match[0].values",
          "spec.placement.nodeAffinity.preferred[0].match[0].values",
          "spec.placement.tolerations[0].key",
          "spec.placement.tolerations[1].value",
          "spec.placement.tolerations[2].tolerateFor",
          "spec.placement.spread[1].topologyKey",
        ],
      );
      return true;
    });
    const everywhere = workload({ everyNode: true, placement: { gang: true, spread: [{ topologyKey: "zone" }] } });
    await assert.rejects(client.applyWorkload({ workload: everywhere }), {
      message: /spec\.placement\.spread.*everyNode/,
    });
    const good = workload({ placement: { priority: 5, spread: [{ topologyKey: "zone" }] } }, { name: "placed" });
    const stored = await client.applyWorkload({ workload: good });
    assert.equal(stored.spec?.placement?.preemption, "LowerPriority");
    assert.deepEqual(await client.applyWorkload({ workload: stored }), stored);
  });

  test("scaleWorkload changes the replicas alone, and not of what runs everywhere", async () => {
    const scaled = await api.http("POST", "/v1/namespaces/demo/workloads/web:scale", { replicas: 5 });
    assert.equal(scaled.at("spec", "replicas"), 5);
    const same = await api.http("POST", "/v1/namespaces/demo/workloads/web:scale", { replicas: 5 });
    assert.deepEqual(same.json, scaled.json);
    const client = api.client(WorkloadService);
    assert.equal((await client.scaleWorkload({ namespace: "demo", name: "web", replicas: 0 })).spec?.replicas, 0);
    await client.applyWorkload({ workload: workload({ everyNode: true }, { name: "agent" }) });
    await assert.rejects(client.scaleWorkload({ namespace: "demo", name: "agent", replicas: 2 }), {
      reason: "EVERY_NODE",
    });
    await assert.rejects(client.scaleWorkload({ namespace: "demo", name: "none", replicas: 2 }), {
      code: "NOT_FOUND",
      message: /workload "none" does not exist in namespace "demo"/,
    });
  });

  test("listWorkloads pages by stable keys while others insert", async () => {
    await makeNamespace("pages");
    const client = api.client(WorkloadService);
    const add = (name: string) =>
      client.applyWorkload({ workload: { metadata: { name, namespace: "pages" }, spec: { container } } });
    for (let i = 0; i < 12; i += 1) await add(`w${String(i * 2).padStart(2, "0")}`);
    const seen: string[] = [];
    let pageToken = "";
    let inserted = 1;
    do {
      const page = await client.listWorkloads({ namespace: "pages", pageSize: 5, pageToken });
      seen.push(...page.items.map((item) => item.metadata!.name));
      assert.ok(page.cursor.length > 0);
      pageToken = page.nextPageToken;
      // One before the page that follows, one after it: neither makes a page skip or repeat what was there.
      await add("a-early");
      await add(`w${String(inserted).padStart(2, "0")}`);
      inserted += 10;
    } while (pageToken !== "");
    assert.equal(new Set(seen).size, seen.length);
    assert.deepEqual(seen.filter((name) => /[02468]$/.test(name)).length, 12);
    await assert.rejects(client.listWorkloads({ namespace: "pages", pageToken: "garbage" }), {
      reason: "PAGE_TOKEN_INVALID",
    });
    await assert.rejects(client.listWorkloads({ namespace: "Bad" }), { code: "INVALID_ARGUMENT" });
    const everywhere = await client.listWorkloads({ namespace: "-", pageSize: 1000 });
    assert.ok(everywhere.items.length > 14);
  });

  test("deleteWorkload marks it, once", async () => {
    const deleted = await api.http("DELETE", "/v1/namespaces/demo/workloads/agent");
    assert.ok(deleted.at("metadata", "deletedAt"));
    const again = await api.http("DELETE", "/v1/namespaces/demo/workloads/agent");
    assert.deepEqual(again.json, deleted.json);
    assert.equal((await api.http("DELETE", "/v1/namespaces/demo/workloads/none")).status, 404);
  });

  test("an unknown field and an oversized body are refused, over HTTP, with problems", async () => {
    const unknown = await api.http("PUT", "/v1/namespaces/demo/workloads/web", { spec: { replica: 1, container } });
    assert.equal(unknown.status, 400);
    assert.equal(
      unknown.at("violations", 0, "description"),
      'is not a field of WorkloadSpec; did you mean "replicas"?',
    );
    const big = await api.http("PUT", "/v1/namespaces/demo/workloads/web", {
      spec: { container: { image: "x".repeat(2 ** 20) } },
    });
    assert.equal(big.status, 413);
  });

  test("applyWorkload refuses what stopThenReplace cannot keep: every node, a surge, a grace without end", async () => {
    const spec = {
      onNodeLoss: "stopThenReplace",
      everyNode: true,
      rollout: { maxSurge: 1 },
      container: { ...container, stop: { grace: { seconds: 3_600n, nanos: 0 } } },
    };
    const refused = await api
      .client(WorkloadService)
      .applyWorkload({ workload: workload(spec) })
      .then(
        () => [],
        (error: StatusError) => error.violations.map(({ field }) => field),
      );
    const fields = ["spec.onNodeLoss", "spec.rollout.maxSurge", "spec.container.stop.grace"];
    assert.deepEqual([...new Set(refused)], fields);
  });

  test("applyWorkload refuses probes that ask nothing, or two things, and names them", async () => {
    const second = { seconds: 0n, nanos: 10_000_000 };
    const health = {
      startup: {},
      readiness: { tcp: { port: 80 }, http: { port: 80 }, interval: second },
      liveness: { http: { port: 80, path: "no slash" }, timeout: second },
    };
    const spec = { container: { ...container, health, activeDeadline: { seconds: 0n, nanos: 0 } } };
    const refused = await api
      .client(WorkloadService)
      .applyWorkload({ workload: workload(spec) })
      .then(
        () => [],
        (error: StatusError) => error.violations.map(({ field }) => field),
      );
    assert.deepEqual(refused, [
      "spec.container.health.startup",
      "spec.container.health.readiness.tcp",
      "spec.container.health.readiness.interval",
      "spec.container.health.liveness.http.path",
      "spec.container.health.liveness.timeout",
      "spec.container.activeDeadline",
    ]);
  });
});
