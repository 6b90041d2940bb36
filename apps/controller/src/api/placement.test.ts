/** PlacementService over a real store: tasks are placed by the placer itself, and explained by gRPC and HTTP. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { noFailpoints, silentLogger } from "@berth/base";
import { NodeService, PlacementService, WorkloadService } from "@berth/proto";
import { insertTasks, listTasks, type TaskRow } from "@berth/store";
import { NamespaceSpecSchema } from "@berth/proto";
import { insertNamespace, pruneDecisions, removeTasks } from "@berth/store";
import { Placer } from "../placement/placement.ts";
import { noMetrics } from "../testing/no-metrics.ts";
import { addNode, newTask, startTestServers, type TestApi, type TestServers } from "../testing/test-api.ts";

let servers: TestServers;
let api: TestApi;
before(async () => {
  servers = await startTestServers();
  api = await servers.api();
  await api.store.transaction((tx) =>
    insertNamespace(tx, { name: "shop", labels: {}, spec: create(NamespaceSpecSchema) }),
  );
  for (const [name, disk] of [
    ["node-1", "ssd"],
    ["node-2", "ssd"],
    ["node-3", "hdd"],
  ] as const)
    await addNode(api.store, name, { disk });
});
after(async () => {
  await api?.[Symbol.asyncDispose]();
  await servers?.[Symbol.asyncDispose]();
});

/** Applies the workload, makes its tasks as the reconciler does, and lets the placer look once. */
async function placed(
  name: string,
  replicas: number,
  cpuMillis: number,
  placement: object,
): Promise<readonly TaskRow[]> {
  const spec = { replicas, placement, container: { image: "busybox" } };
  const client = api.client(WorkloadService);
  const { metadata } = await client.applyWorkload({ workload: { metadata: { name, namespace: "shop" }, spec } });
  await api.store.transaction((tx) =>
    insertTasks(
      tx,
      Array.from({ length: replicas }, (_, slot) => ({
        ...newTask("shop", `${name}-${slot}`),
        workload: name,
        workloadUid: metadata!.uid,
        slot,
        cpuMillis,
      })),
    ),
  );
  await placer().pass();
  return (await listTasks(api.store.db, { namespace: "shop", workload: name })).items;
}

const placer = (): Placer =>
  new Placer({ store: api.store, logger: silentLogger, metrics: noMetrics.placement, failpoint: noFailpoints });

void test("explainTask tells of a placed task what was decided, and what would be now", async () => {
  const [row] = await placed("web", 2, 1_000, { nodeSelector: { disk: "ssd" } });
  const client = api.client(PlacementService);
  const told = await client.explainTask({ namespace: "shop", name: row!.name });
  assert.equal(told.node, row!.node);
  const { decided, now } = told;
  assert.deepEqual([decided!.nodes, decided!.fit], [3, 2]);
  assert.equal(decided!.chosen!.node, row!.node);
  assert.deepEqual(
    decided!.refused.map(({ why, count, nodes }) => [why, count, nodes]),
    [["lacks label disk=ssd", 1, ["node-3"]]],
  );
  assert.deepEqual([now!.fit, now!.leading[0]!.node], [2, row!.node], "it is taken for one that is not there yet");
  // Another node fills up and is tainted: the record stays, the answer of now does not.
  await api
    .client(NodeService)
    .applyNode({ node: { metadata: { name: "node-2" }, spec: { taints: [{ key: "gpu" }] } } });
  const other = await client.explainTask({ namespace: "shop", name: row!.name, node: "node-2" });
  assert.equal(other.decided!.fit, 2);
  assert.deepEqual(other.now!.byNode[0]!.against, ["has taint gpu:NoSchedule that it does not tolerate"]);
  await assert.rejects(client.explainTask({ namespace: "shop", name: row!.name, node: "node-9" }), {
    code: "NOT_FOUND",
  });
  await assert.rejects(client.explainTask({ namespace: "shop", name: "nope" }), { code: "NOT_FOUND" });
});

void test("explainTask tells of a waiting task every node's reasons and what would place it", async () => {
  const [row] = await placed("big", 1, 8_000, { nodeSelector: { disk: "hdd" } });
  assert.equal(row!.node, null);
  const answer = await api.http("GET", `/v1/namespaces/shop/tasks/${row!.name}:explain?allNodes=true`);
  assert.equal(answer.status, 200);
  assert.equal(answer.at("reason"), "NoNodeFits");
  assert.deepEqual(answer.at("now", "byNode", 0, "against"), ["has 4 cpu left of 8 asked"]);
  assert.equal((answer.at("now", "byNode", 2, "against") as string[]).length >= 2, true);
  assert.match(
    String(answer.at("now", "suggestions", 0)),
    /^node-3 would do: it has 4 cpu left of 8 asked: ask for less/,
  );
});

void test("explainWorkload groups its tasks and counts them by failure domain", async () => {
  await placed("gang", 5, 3_000, { gang: true, spread: [{ topologyKey: "disk" }] });
  const answer = await api.http("GET", "/v1/namespaces/shop/workloads/gang:explain");
  assert.deepEqual([answer.at("placed"), answer.at("waiting"), answer.at("gang")], [undefined, 5, true]);
  assert.equal(answer.at("groups", 0, "count"), 5);
  assert.match(String(answer.at("groups", 0, "message")), /^\d of 5 tasks of the gang fit together/);
  assert.match(String(answer.at("waits", "now", "reason")), /tasks of the gang fit together/);
  const web = await api.http("GET", "/v1/namespaces/shop/workloads/web:explain");
  assert.deepEqual([web.at("placed"), web.at("waiting"), web.at("waits")], [2, undefined, undefined]);
});

void test("pruneDecisions forgets a record when the last of its tasks is gone", async () => {
  const rows = await placed("short", 2, 100, {});
  const ids = new Set(rows.map((row) => row.decisionId));
  assert.equal(ids.size, 1);
  const before = await pruneDecisions(api.store.db, 100);
  assert.equal(before, 0);
  await api.store.transaction((tx) => removeTasks(tx, rows));
  assert.equal(await pruneDecisions(api.store.db, 100), 1);
});
