/** Every list and get says up to when its observations speak. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { timestampDate } from "@bufbuild/protobuf/wkt";
import { NodeService, TaskService, type Watermark } from "@berth/proto";
import { insertNewNodes, insertTasks, updateTasks } from "@berth/store";
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

const shown = ({ node, observedUntil, journalStoredSeq, journalHeadSeq, staleNodes }: Watermark) => [
  node,
  timestampDate(observedUntil!).toISOString(),
  Number(journalStoredSeq),
  Number(journalHeadSeq),
  staleNodes,
];

void test("lists and gets say up to where their nodes' journals are stored; what is behind or silent is stale", async () => {
  const { store } = api;
  const [tasks, nodes] = [api.client(TaskService), api.client(NodeService)];
  assert.equal((await tasks.listTasks({ namespace: "-" })).watermark, undefined);
  await store.transaction(async (tx) => {
    await insertNewNodes(tx, ["whole", "behind", "busy"].map((name) => ({ name, shard: 0 }) as never)); // prettier-ignore
    const rows = await insertTasks(tx, ["whole", "behind", "busy", "none"].map((name) => newTask("wm", name))); // prettier-ignore
    const placed = rows.filter(({ name }) => name !== "none");
    await updateTasks(tx, placed.map((row) => ({ before: row, patch: { node: row.name, phase: "Running" } }))); // prettier-ignore
  });
  await store.db.execute(`
    update nodes set phase = 'Ready', journal_epoch = 'e', lease_renewed_at = '2026-01-01T12:00:00Z',
      journal_head_seq = case name when 'whole' then 5 else 9 end`);
  await store.db.execute(`
    insert into journal_state (node, epoch, stored_seq, stored_time, updated_at) values
      ('whole', 'e', 5, '2026-01-01T11:00:00Z', '2026-01-01T11:00:01Z'),
      ('behind', 'e', 4, '2026-01-01T10:00:00Z', '2026-01-01T10:00:01Z'),
      ('busy', 'e', 8, '2026-01-01T11:59:59Z', now())`);
  const all = await tasks.listTasks({ namespace: "wm" });
  assert.deepEqual(shown(all.watermark!), ["behind", "2026-01-01T10:00:00.000Z", 4, 9, 1]);
  const until = Object.fromEntries(all.items.map(({ metadata, status }) => [metadata!.name, status!.observedUntil && timestampDate(status!.observedUntil).toISOString()])); // prettier-ignore
  assert.deepEqual(until, {
    behind: "2026-01-01T10:00:00.000Z",
    busy: "2026-01-01T11:59:59.000Z",
    none: undefined,
    whole: "2026-01-01T12:00:00.000Z",
  });
  const headerOf = async (path: string): Promise<string | null> => {
    const answer = await fetch(`${api.url}${path}`, { headers: { authorization: `Bearer ${api.token}` } });
    await answer.arrayBuffer();
    return answer.headers.get("berth-watermark");
  };
  assert.equal(await headerOf("/v1/namespaces/wm/tasks"), '2026-01-01T10:00:00.000Z; node="behind"; journal="e/4/9"; stale=1'); // prettier-ignore
  assert.equal(await headerOf("/v1/namespaces/wm/tasks/behind"), "2026-01-01T10:00:00.000Z");
  assert.equal(await headerOf("/v1/namespaces/wm/tasks/none"), null);
  assert.match((await headerOf("/v1/nodes"))!, /^2026-01-01T10:00:00\.000Z; node="behind"; /);
  assert.equal(await headerOf("/v1/namespaces"), null);
  const one = await tasks.listTasks({ namespace: "wm", node: "whole" });
  assert.deepEqual(shown(one.watermark!), ["whole", "2026-01-01T12:00:00.000Z", 5, 5, 0]);
  const task = await tasks.getTask({ namespace: "wm", name: "behind" });
  assert.equal(timestampDate(task.status!.observedUntil!).toISOString(), "2026-01-01T10:00:00.000Z");
  await store.db.execute("update nodes set phase = 'Unknown' where name = 'whole'");
  assert.equal((await nodes.listNodes({})).watermark!.staleNodes, 2);
  const node = await nodes.getNode({ name: "behind" });
  assert.equal(timestampDate(node.status!.observedUntil!).toISOString(), "2026-01-01T10:00:00.000Z");
  assert.equal(timestampDate(node.status!.journalBehindSince!).toISOString(), "2026-01-01T10:00:01.000Z");
});
