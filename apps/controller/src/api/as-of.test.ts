/** Time travel by gRPC and HTTP. That every moment is told as it was is tested in @berth/store. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { timestampFromDate, type Timestamp } from "@bufbuild/protobuf/wkt";
import { EventService, NodeService, TaskService, WorkloadService } from "@berth/proto";
import { insertEvents, insertNewNodes, insertTasks, retirePartition, updateTasks } from "@berth/store";
import { closePartition } from "@berth/store/testing";
import { newTask, startTestServers, type TestApi, type TestServers } from "../testing/test-api.ts";

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

/** A moment by the store's clock that lies between what was done and what follows. */
async function moment(): Promise<Timestamp> {
  await api.store.db.execute("select pg_sleep(0.003)");
  const [row] = await api.store.db.execute<{ at: string }>("select clock_timestamp()::text as at");
  await api.store.db.execute("select pg_sleep(0.003)");
  return timestampFromDate(new Date(row!["at"]));
}

void test("as_of answers lists, gets and events as they were, by filter, and refuses what is gone", async () => {
  const { store } = api;
  const tasks = api.client(TaskService);
  const workloads = api.client(WorkloadService);
  const nodes = api.client(NodeService);
  const events = api.client(EventService);
  const before = await moment();
  const rows = await store.transaction(async (tx) => {
    await insertNewNodes(tx, [{ name: "n1", shard: 0 } as never]);
    await insertEvents(tx, [{ namespace: "past", topic: "/tasks/start", kind: "Task", name: "t-1" }]);
    return await insertTasks(tx, [1, 2].map((n) => ({ ...newTask("past", `t-${n}`), labels: { n: String(n) }, workload: `w-${n}` }))); // prettier-ignore
  });
  const pending = await moment();
  await store.transaction(
    (tx) =>
    updateTasks(tx, rows.map((row) => ({ before: row, patch: { phase: "Running", node: "n1" } }))), // prettier-ignore
  );
  await nodes.applyNode({ node: { metadata: { name: "n1", labels: { zone: "b" } } } });
  await store.transaction((tx) => insertEvents(tx, [{ namespace: "past", topic: "/tasks/exit", kind: "Task", name: "t-1" }])); // prettier-ignore
  const running = await moment();

  const phases = async (asOf: Timestamp, more: object = {}): Promise<string[]> =>
    (await tasks.listTasks({ namespace: "past", asOf, ...more })).items.map(
      ({ metadata, status }) => `${metadata!.name} ${status!.phase}`,
    );
  assert.deepEqual(await phases(before), []);
  assert.deepEqual(await phases(pending), ["t-1 Pending", "t-2 Pending"]);
  assert.deepEqual(await phases(running), ["t-1 Running", "t-2 Running"]);
  assert.deepEqual(await phases(running, { selector: "n=2" }), ["t-2 Running"]);
  assert.deepEqual(await phases(running, { selector: "n!=2", workload: "w-1", node: "n1" }), ["t-1 Running"]);
  assert.deepEqual(await phases(pending, { node: "n1" }), []);
  const page = await tasks.listTasks({ namespace: "-", asOf: running, pageSize: 1 });
  assert.deepEqual(await phases(running, { pageToken: page.nextPageToken }), ["t-2 Running"]);
  assert.equal((await tasks.getTask({ namespace: "past", name: "t-1", asOf: pending })).status!.phase, "Pending");
  await assert.rejects(tasks.getTask({ namespace: "past", name: "t-1", asOf: before }), {
    code: "NOT_FOUND",
    message: /^task "t-1" did not exist in namespace "past" at 20/,
  });
  assert.deepEqual((await nodes.getNode({ name: "n1", asOf: running })).metadata!.labels, { zone: "b" });
  assert.deepEqual((await workloads.listWorkloads({ namespace: "-", asOf: running })).items, []);
  const topics = async (asOf: Timestamp): Promise<string[]> =>
    (await events.listEvents({ namespace: "past", asOf, tail: 5 })).items.map(({ topic }) => topic);
  assert.deepEqual([await topics(before), await topics(pending), await topics(running)], [[], ["/tasks/start"], ["/tasks/start", "/tasks/exit"]]); // prettier-ignore

  const url = `${api.url}/v1/namespaces/past/tasks/t-1?asOf=`;
  const headers = { authorization: `Bearer ${api.token}` };
  const ask = async (at: string): Promise<[number, string]> => {
    const response = await fetch(url + encodeURIComponent(at), { headers });
    return [response.status, await response.text()];
  };
  const [status, body] = await ask(new Date(Number(pending.seconds) * 1_000 + pending.nanos / 1e6).toISOString());
  assert.equal(status, 200);
  assert.match(body, /"phase": ?"Pending"/);
  assert.match((await ask("2999-01-01T00:00:00Z"))[1], /has not come yet/);

  for (const feed of ["changes", "events"] as const) {
    await store.transaction((tx) => closePartition(tx, feed));
    await retirePartition(store, feed, 0);
  }
  const gone = { code: "OUT_OF_RANGE", reason: "HISTORY_EXPIRED", message: /ask for a later time/ };
  await assert.rejects(phases(pending), gone);
  await assert.rejects(topics(pending), gone);
  assert.deepEqual(await phases(await moment()), ["t-1 Running", "t-2 Running"]);
});
