/** Usage over a real NATS: rates between two answers of the same agent, and agents that do not answer hold up nobody. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { usageEndpoint } from "@berth/bus";
import { UsageReplySchema, UsageService, type UsageReply } from "@berth/proto";
import { addNode, startTestServers, type TestApi, type TestServers } from "../testing/test-api.ts";
import { usageOf } from "./usage.ts";

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

type Init = Exclude<MessageInitShape<typeof UsageReplySchema>, UsageReply>;

const reply = (init: Init): UsageReply =>
  create(UsageReplySchema, { instance: "i", cpus: 2, memoryBytes: 100n, ...init });

const counters = (name: string, cpuSeconds: number, execution = name) => ({
  namespace: "shop",
  name,
  execution,
  cpuSeconds,
  memoryBytes: 7n,
  pids: 1n,
});

void test("usageOf makes rates of counters, and none of an agent or an execution that began anew", () => {
  const before = new Map([
    ["a", reply({ sampledAtMs: 1_000, cpuSeconds: 10, tasks: [counters("web", 1), counters("db", 5, "old")] })],
    ["b", reply({ sampledAtMs: 9_000, cpuSeconds: 10 })],
  ]);
  const after = new Map([
    ["a", reply({ sampledAtMs: 3_000, cpuSeconds: 13, tasks: [counters("web", 1.5), counters("db", 0.1, "new")] })],
    ["b", reply({ sampledAtMs: 10, cpuSeconds: 11, instance: "restarted" })],
    ["c", reply({ sampledAtMs: 10, cpuSeconds: 11 })],
  ]);
  const usage = usageOf({ namespace: "-" }, before, after, ["d"]);
  assert.deepEqual(usage.nodes.map(({ name, cpuMillis }) => [name, cpuMillis]), [["a", 1_500n]]); // prettier-ignore
  assert.deepEqual(usage.tasks.map(({ name, node, cpuMillis }) => [name, node, cpuMillis]), [["web", "a", 250n]]); // prettier-ignore
  assert.deepEqual(usageOf({ namespace: "other" }, before, after, []).tasks, []);
});

void test("watchUsage asks the agents at each interval, and names those that do not answer", async () => {
  await addNode(api.store, "answers", {});
  await addNode(api.store, "deaf", {});
  let asked = 0;
  using _serving = api.bus.serve(usageEndpoint, { node: "answers" }, async () => {
    asked += 1;
    return reply({ sampledAtMs: asked * 1_000, cpuSeconds: asked * 2, tasks: [counters("web", asked)] });
  });
  const stop = new AbortController();
  const request = { namespace: "shop", interval: durationFromMs(500) };
  for await (const usage of api.client(UsageService).watchUsage(request, { signal: stop.signal })) {
    assert.deepEqual(usage.nodes.map(({ name, cpuMillis }) => [name, cpuMillis]), [["answers", 2_000n]]); // prettier-ignore
    assert.deepEqual(usage.tasks.map(({ name, cpuMillis }) => [name, cpuMillis]), [["web", 1_000n]]); // prettier-ignore
    assert.deepEqual(usage.unanswered, ["deaf"]);
    break;
  }
  stop.abort();
  assert.equal(asked, 2);
});
