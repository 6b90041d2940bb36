/** Every service over both transports, on a real Postgres. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { uuidv7 } from "@berth/base";
import { makeToken } from "@berth/identity";
import {
  CampaignService,
  EventService,
  HealthService,
  NamespaceService,
  NodeService,
  TaskService,
  WorkloadService,
} from "@berth/proto";
import {
  getNode,
  getStoreMeta,
  getTask,
  insertEvents,
  insertTargets,
  insertTasks,
  insertToken,
  outboxDepth,
  revokeToken,
  updateTasks,
  lockTask,
} from "@berth/store";
import { eventually } from "@berth/testkit/servers";
import { addNode, newTask, startTestServers, type TestApi, type TestServers } from "../testing/test-api.ts";

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

describe("authentication", () => {
  test("every service but GetHealth asks for a token, and heeds a revocation", async () => {
    const open = api.client(HealthService, "");
    assert.equal((await open.getHealth({})).status, "ready");
    await assert.rejects(open.confirmStore({ storeEpoch: "x" }), { code: "UNAUTHENTICATED" });
    await assert.rejects(api.client(NamespaceService, "").listNamespaces({}), { reason: "TOKEN_MISSING" });
    await assert.rejects(api.client(NodeService, makeToken().text).listNodes({}), { reason: "TOKEN_UNKNOWN" });
    await assert.rejects(api.client(TaskService, "nonsense").listTasks({ namespace: "-" }), {
      reason: "TOKEN_MALFORMED",
    });
    const token = makeToken();
    await insertToken(api.store.db, { ...token, name: "soon-gone" });
    const client = api.client(WorkloadService, token.text);
    await client.listWorkloads({ namespace: "-" });
    await revokeToken(api.store.db, token.id);
    await eventually("the revocation", async () => {
      await assert.rejects(client.listWorkloads({ namespace: "-" }), {
        code: "UNAUTHENTICATED",
        reason: "TOKEN_UNKNOWN",
      });
      return true;
    });
  });

  test("probes, metrics and the API's description need none", async () => {
    for (const path of ["/healthz", "/readyz", "/metrics", "/openapi.json", "/v1/health"]) {
      const response = await fetch(api.url + path);
      assert.equal(response.status, 200, path);
      await response.arrayBuffer();
    }
    const refused = await fetch(`${api.url}/v1/namespaces`);
    assert.equal(refused.status, 401);
    assert.equal(((await refused.json()) as { reason: string }).reason, "TOKEN_MISSING");
    const metrics = await (await fetch(`${api.url}/metrics`)).text();
    assert.match(metrics, /berth_queue_depth\{queue="outbox"\} 3/);
    assert.match(
      metrics,
      /berth_api_request_duration_seconds_count\{method="berth.v1.HealthService\/GetHealth",transport="http",code="OK"\} [1-9]/,
    );
  });
});

describe("NamespaceService", () => {
  test("applies, gets, lists and deletes over both transports", async () => {
    const client = api.client(NamespaceService);
    const made = await client.applyNamespace({
      namespace: { metadata: { name: "shop", labels: { team: "a" } }, spec: { description: "the shop" } },
    });
    assert.equal(made.metadata?.generation, 1n);
    assert.equal(made.status?.phase, "Active");
    const got = await api.http("GET", "/v1/namespaces/shop");
    assert.equal(got.at("spec", "description"), "the shop");
    const put = await api.http("PUT", "/v1/namespaces/shop", {
      metadata: { labels: { team: "b" } },
      spec: { description: "the shop" },
    });
    assert.equal(put.at("metadata", "generation"), "1", "labels alone are no new spec");
    assert.equal(put.at("metadata", "resourceVersion"), "2");
    const listed = await client.listNamespaces({ selector: "team=b" });
    assert.deepEqual(
      listed.items.map((item) => item.metadata?.name),
      ["shop"],
    );
    const deleted = await api.http("DELETE", "/v1/namespaces/shop");
    assert.equal(deleted.at("status", "phase"), "Terminating");
    await assert.rejects(client.applyNamespace({ namespace: { metadata: { name: "shop" } } }), {
      code: "FAILED_PRECONDITION",
      reason: "BEING_DELETED",
    });
    const workload = { metadata: { name: "web", namespace: "shop" }, spec: { container } };
    await assert.rejects(api.client(WorkloadService).applyWorkload({ workload }), { reason: "BEING_DELETED" });
  });

  test("says what is missing, and that a namespace is in no namespace", async () => {
    const client = api.client(NamespaceService);
    await assert.rejects(client.getNamespace({ name: "nowhere" }), {
      code: "NOT_FOUND",
      message: /namespace "nowhere" does not exist/,
    });
    await assert.rejects(client.deleteNamespace({ name: "nowhere" }), { code: "NOT_FOUND" });
    await assert.rejects(
      client.applyNamespace({ namespace: { metadata: { name: "a", namespace: "b" } } }),
      /metadata\.namespace: must be left out/,
    );
    await assert.rejects(client.applyNamespace({ namespace: {} }), /metadata\.name: is required/);
  });
});

describe("NodeService", () => {
  test("shows nodes, keeps an operator's labels apart, cordons and forgets", async () => {
    await addNode(api.store, "node-a", { zone: "z1", disk: "ssd" });
    const client = api.client(NodeService);
    const node = await client.getNode({ name: "node-a" });
    assert.equal(node.status?.capacity?.cpuMillis, 4000n);
    const same = await client.applyNode({ node: { metadata: node.metadata!, spec: node.spec! } });
    assert.deepEqual(same.metadata, node.metadata, "what was shown can be applied again");
    const labels = { ...node.metadata!.labels, zone: "z2", role: "gpu" };
    const dry = await client.applyNode({
      node: { metadata: { name: "node-a", labels }, spec: { cordoned: true } },
      dryRun: true,
    });
    assert.equal(dry.spec?.cordoned, true);
    assert.equal(dry.metadata?.labels["role"], "gpu");
    const changed = await api.http("PUT", "/v1/nodes/node-a", { metadata: { labels }, spec: { cordoned: true } });
    assert.deepEqual(changed.at("metadata", "labels"), { disk: "ssd", role: "gpu", zone: "z2" });
    assert.equal(changed.at("metadata", "generation"), "2");
    assert.equal((await client.listNodes({ selector: "zone=z2" })).items.length, 1);
    await assert.rejects(client.applyNode({ node: { metadata: { name: "ghost" } } }), { code: "NOT_FOUND" });
    await assert.rejects(client.deleteNode({ name: "node-a" }), { code: "FAILED_PRECONDITION", reason: "NODE_ALIVE" });
  });

  test("a drain cordons, is kept by a reader's apply, begins anew only when it differs, and ends with the field", async () => {
    await addNode(api.store, "drained", {});
    const client = api.client(NodeService);
    const put = (spec: object) => api.http("PUT", "/v1/nodes/drained", { metadata: {}, spec });
    const asked = await put({ drain: { deadline: "600s", onDeadline: "force" } });
    assert.equal(asked.at("spec", "cordoned"), true);
    const started = (await getNode(api.store.db, "drained"))!.drainStartedAt;
    const shown = await client.getNode({ name: "drained" });
    await client.applyNode({ node: { metadata: shown.metadata!, spec: shown.spec! } });
    const after = (await getNode(api.store.db, "drained"))!;
    assert.deepEqual([after.drainStartedAt, after.generation], [started, 2]);
    const wrong = await put({ drain: { onDeadline: "explode" } });
    assert.equal(wrong.status, 400);
    assert.match(JSON.stringify(wrong.json), /spec\.drain\.onDeadline.*giveUp, force/);
    const ended = await put({ cordoned: false });
    assert.deepEqual([ended.at("spec", "drain"), ended.at("spec", "cordoned")], [undefined, undefined]);
    const { items } = await client.listNodes({ selector: "" });
    assert.equal(items.find((node) => node.metadata?.name === "drained")?.status?.drain, undefined);
  });

  test("taints keep their time, the controller's own names are refused, and the state's taints are shown", async () => {
    await addNode(api.store, "tainted", {});
    const client = api.client(NodeService);
    const put = (spec: object) => api.http("PUT", "/v1/nodes/tainted", { metadata: {}, spec });
    const first = await put({ taints: [{ key: "gpu", value: "yes" }], overcommit: { cpuPercent: 150 } });
    assert.equal(first.at("spec", "taints", 0, "effect"), "NoSchedule");
    assert.equal(first.at("spec", "overcommit", "cpuPercent"), 150);
    const addedAt = first.at("spec", "taints", 0, "addedAt");
    const shown = await client.getNode({ name: "tainted" });
    const again = await client.applyNode({ node: { metadata: shown.metadata!, spec: shown.spec! } });
    assert.deepEqual(again, shown);
    const more = await put({
      cordoned: true,
      taints: [
        { key: "spot", effect: "NoExecute" },
        { key: "gpu", value: "yes" },
      ],
    });
    assert.equal(more.at("spec", "taints", 1, "addedAt"), addedAt);
    assert.deepEqual(
      (more.at("status", "taints") as { key: string }[]).map(({ key }) => key),
      ["spot", "gpu", "berth.io/cordoned"],
    );
    const wrong = await put({ taints: [{ key: "berth.io/unreachable" }, { key: "a" }, { key: "a", value: "b" }] });
    assert.equal(wrong.status, 400);
    assert.match(
      JSON.stringify(wrong.json),
      /spec\.taints\[0\]\.key.*is set by the controller.*spec\.taints\[2\]\.key.*repeats/,
    );
  });

  test("deleteNode waits by Postgres' clock for what a node possibly runs", async (context) => {
    const untilMs = Date.now() + 60_000;
    await addNode(api.store, "unsure", {}, -1_000);
    await api.store.transaction(async (tx) => {
      const [row] = await insertTasks(tx, [newTask("demo", "unsure-0")]);
      const patch = {
        node: "unsure",
        phase: "Running",
        certainty: "unreachable",
        possiblyUntil: new Date(untilMs),
      } as const;
      await updateTasks(tx, [{ before: row!, patch }]);
    });
    context.mock.timers.enable({ apis: ["Date"], now: untilMs + 3_600_000 });
    await assert.rejects(api.client(NodeService).deleteNode({ name: "unsure" }), { reason: "NODE_POSSIBLY_RUNNING" });
  });

  test("deleteNode waits for what must never run twice though nobody has noticed yet that the node is silent", async () => {
    await addNode(api.store, "unnoticed", {}, -100);
    await api.store.db.execute(
      `update nodes set conditions = '[{"type":"Stopper","status":"True"}]' where name = 'unnoticed'`,
    );
    await api.store.transaction(async (tx) => {
      const [row] = await insertTasks(tx, [{ ...newTask("demo", "unnoticed-0"), fence: true }]);
      await updateTasks(tx, [{ before: row!, patch: { node: "unnoticed", phase: "Running" } }]);
    });
    await assert.rejects(api.client(NodeService).deleteNode({ name: "unnoticed" }), {
      reason: "NODE_POSSIBLY_RUNNING",
    });
  });

  test("deleteNode frees the tasks of a node that is gone for good", async () => {
    await addNode(api.store, "gone", {}, -1_000);
    await api.store.transaction(async (tx) => {
      const [row] = await insertTasks(tx, [newTask("demo", "stuck-0")]);
      await updateTasks(tx, [{ before: row!, patch: { node: "gone", phase: "Running" } }]);
    });
    await api.client(NodeService).deleteNode({ name: "gone" });
    const row = await getTask(api.store.db, "demo", "stuck-0");
    assert.equal(row?.desired, "Stop");
    assert.equal(row?.certainty, "unknown");
    assert.equal(row?.removed, true);
    await assert.rejects(api.client(NodeService).getNode({ name: "gone" }), { code: "NOT_FOUND" });
  });
});

describe("TaskService", () => {
  before(async () => {
    await makeNamespace("tasks");
    await addNode(api.store, "node-t");
    await api.store.transaction(async (tx) => {
      const rows = await insertTasks(tx, [newTask("tasks", "web-0"), newTask("tasks", "web-1")]);
      await updateTasks(tx, [{ before: rows[0]!, patch: { node: "node-t", phase: "Running" } }]);
    });
  });

  test("gets and lists by workload, node and labels", async () => {
    const client = api.client(TaskService);
    assert.equal((await client.getTask({ namespace: "tasks", name: "web-0" })).status?.phase, "Running");
    assert.equal((await client.listTasks({ namespace: "tasks", workload: "web" })).items.length, 2);
    assert.equal((await client.listTasks({ namespace: "-", node: "node-t" })).items.length, 1);
    const listed = await api.http("GET", "/v1/namespaces/tasks/tasks?selector=app%3Dweb&pageSize=1");
    assert.equal(listed.at("items", "length"), 1);
    assert.ok(listed.at("nextPageToken"));
    assert.equal((await api.http("GET", "/v1/namespaces/tasks/tasks/none")).status, 404);
  });

  test("restartTask names the next execution and tells the node in the same transaction", async () => {
    const restarted = await api.http("POST", "/v1/namespaces/tasks/tasks/web-0:restart", {});
    assert.equal(restarted.at("status", "attempt"), 2);
    assert.equal(restarted.at("status", "phase"), "Assigned");
    assert.equal(restarted.at("spec", "desired"), "Run");
    assert.equal(await outboxDepth(api.store.db), 1);
    const node = await api.client(NodeService).getNode({ name: "node-t" });
    assert.equal(node.status?.assignmentRevision, 1n);
    assert.equal(
      (await api.http("POST", "/v1/namespaces/tasks/tasks/web-1:restart", {})).at("reason"),
      "TASK_NOT_PLACED",
    );
  });

  test("restartTask of one that has ended, and gave its room back, has it placed anew", async () => {
    await api.store.transaction(async (tx) => {
      const before = (await lockTask(tx, "tasks", "web-0"))!;
      await updateTasks(tx, [{ before, patch: { phase: "Succeeded", nextAttemptAt: null, beginsAgain: "onFailure" } }]);
    });
    const again = await api.http("POST", "/v1/namespaces/tasks/tasks/web-0:restart", {});
    assert.equal(again.at("status", "attempt"), 3);
    assert.equal(again.at("status", "phase"), "Pending");
    assert.equal(again.at("spec", "node"), undefined);
    const node = await api.client(NodeService).getNode({ name: "node-t" });
    assert.equal(node.status?.assignmentRevision, 2n, "it lets go of what is left there");
  });
});

describe("CampaignService", () => {
  test("applies, lists targets, watches progress to the end, deletes", async () => {
    await makeNamespace("camp");
    await addNode(api.store, "node-c");
    const client = api.client(CampaignService);
    const images = ["registry.example/a:1"];
    const made = await client.applyCampaign({
      campaign: { metadata: { name: "pull", namespace: "camp" }, spec: { images } },
    });
    assert.equal(made.spec?.parallelism, 10);
    const uid = made.metadata!.uid;
    const target = {
      id: uuidv7(),
      campaignUid: uid,
      generation: 1,
      namespace: "camp",
      node: "node-c",
      image: images[0]!,
      snapshotter: "",
    };
    await api.store.transaction((tx) => insertTargets(tx, [target]));
    const listed = await api.http("GET", "/v1/namespaces/camp/campaigns/pull/targets");
    assert.equal(listed.at("items", 0, "phase"), "Waiting");
    const repeated = await api.http("PUT", "/v1/namespaces/camp/campaigns/pull", {
      spec: { images: [...images, ...images] },
    });
    assert.match(String(repeated.at("detail")), /spec\.images\[1\]: repeats/);
    const changed = await api.http("PUT", "/v1/namespaces/camp/campaigns/pull", { spec: { images, parallelism: 2 } });
    assert.equal(changed.at("metadata", "generation"), "2");
    assert.equal((await client.listCampaigns({ namespace: "camp" })).items.length, 1);
    assert.ok((await client.deleteCampaign({ namespace: "camp", name: "pull" })).metadata?.deletedAt);
    assert.equal((await client.getCampaign({ namespace: "camp", name: "pull" })).metadata?.uid, uid);
  });
});

describe("EventService", () => {
  test("lists by filter, page and tail", async () => {
    await api.store.transaction((tx) =>
      insertEvents(
        tx,
        Array.from({ length: 30 }, (_, i) => ({
          namespace: "ev",
          topic: i % 3 === 0 ? "/tasks/exit" : "/tasks/start",
          kind: "Task" as const,
          name: `t-${i}`,
          attributes: { code: String(i) },
        })),
      ),
    );
    const client = api.client(EventService);
    const exits = await client.listEvents({ namespace: "ev", filters: ['topic=="/tasks/exit"'] });
    assert.equal(exits.items.length, 10);
    const some = await client.listEvents({ namespace: "ev", filters: ["event.code==7", "name==t-9"] });
    assert.deepEqual(
      some.items.map(({ name }) => name),
      ["t-7", "t-9"],
    );
    const seen: string[] = [];
    let pageToken = "";
    do {
      const page = await client.listEvents({
        namespace: "ev",
        filters: ['topic=="/tasks/start"'],
        pageSize: 7,
        pageToken,
      });
      assert.ok(page.items.length <= 7);
      seen.push(...page.items.map(({ name }) => name));
      pageToken = page.nextPageToken;
    } while (pageToken !== "");
    assert.equal(seen.length, 20);
    assert.equal(new Set(seen).size, 20);
    const tail = await client.listEvents({ namespace: "ev", tail: 2, filters: ['topic=="/tasks/exit"'] });
    assert.deepEqual(
      tail.items.map(({ name }) => name),
      ["t-24", "t-27"],
    );
    const bad = await api.http("GET", "/v1/namespaces/ev/events?filters=topic%3D%3D/tasks/exit");
    assert.match(String(bad.at("detail")), /filters\[0\]: .*quote it: topic=="\/tasks\/exit"/);
  });
});

describe("HealthService", () => {
  test("confirms the store's epoch only by its name", async () => {
    const client = api.client(HealthService);
    const { storeEpoch } = await getStoreMeta(api.store.db);
    const health = await client.getHealth({});
    assert.equal(health.version, "1.2.3");
    assert.equal(health.storeEpoch, storeEpoch);
    await assert.rejects(client.confirmStore({ storeEpoch: "another" }), { reason: "STORE_EPOCH_CONFLICT" });
    const confirmed = await api.http("POST", "/v1/store:confirm", { storeEpoch });
    assert.equal(confirmed.at("stopsConfirmed"), true);
  });

  test("a store that is said to be restored is held, and waits for no host that an operator lets go", async () => {
    const client = api.client(HealthService);
    const before = await client.getHealth({});
    assert.deepEqual([before.held, before.waitsFor], [false, []]);
    const { storeEpoch } = before;
    await assert.rejects(client.releaseStore({ storeEpoch, nodes: ["n-1"] }), { reason: "STORE_NOT_HELD" });
    await assert.rejects(client.declareStoreRestored({ storeEpoch: "another" }), { reason: "STORE_EPOCH_CONFLICT" });
    const held = await client.declareStoreRestored({ storeEpoch });
    assert.notEqual(held.storeEpoch, storeEpoch);
    assert.deepEqual([held.held, held.stopsConfirmed], [true, false]);
    assert.match(held.waitsFor.join(), /nodes that joined after the copy was made/);
    await assert.rejects(client.releaseStore({ storeEpoch: held.storeEpoch, nodes: ["nobody"] }), {
      code: "NOT_FOUND",
    });
    await client.confirmStore({ storeEpoch: held.storeEpoch });
  });
});
