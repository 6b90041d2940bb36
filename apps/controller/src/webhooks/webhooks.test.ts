/** Webhooks on a real Postgres: in order, signed, at least once under one id, whoever dies; each apart from the others. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { uuidv7 } from "@berth/base";
import { insertTasks, removeTasks, retirePartition, webhookSpec, lockTasksByUid } from "@berth/store";
import { closePartition } from "@berth/store/testing";
import { eventually } from "@berth/testkit/servers";
import { WEBHOOK_FAILPOINT } from "../failpoints.ts";
import { newTask } from "../testing/test-api.ts";
import { startTestDatabases, type TestDatabases } from "../testing/test-fleet.ts";
import { subjects, WebhookLab } from "../testing/webhook-lab.ts";
import { signaturesBy } from "../testing/webhook-receiver.ts";
import { makeSecret } from "./signature.ts";

let databases: TestDatabases;
before(async () => {
  databases = await startTestDatabases();
});
after(() => databases[Symbol.asyncDispose]());

const CHILD = join(import.meta.dirname, "../testing/webhook-child.ts");
const open = async (): Promise<WebhookLab> => WebhookLab.open(await databases.create());

void test("events of the namespace come signed, in order, each once, as CloudEvents, though controllers are two", async () => {
  await using lab = await open();
  const receiver = await lab.webhook("ci", { headers: [{ name: "X-From", value: "berth" }] });
  await lab.controller();
  await lab.controller();
  await lab.add(20, { reason: "Exited" });
  await lab.add(3, { namespace: "other" });
  await lab.add(1);
  await receiver.takes(21);
  assert.deepEqual(receiver.taken, [...subjects(20), "task/t-24"]);
  assert.equal(receiver.received.length, 21);
  const [first] = receiver.received;
  assert.equal(first!.headers["content-type"], "application/cloudevents+json; charset=utf-8");
  assert.equal(first!.headers["x-from"], "berth");
  assert.equal(signaturesBy(lab.secret, first!), 1);
  assert.equal(signaturesBy(makeSecret(), first!), 0);
  const { uid } = await lab.row("ci");
  assert.match(first!.id, new RegExp(`^msg_${uid.replaceAll("-", "")}_[0-9a-f]{8}_${first!.events[0]!.id}$`));
  const { data, ...envelope } = JSON.parse(first!.body) as Record<string, unknown>;
  assert.partialDeepStrictEqual(envelope, { specversion: "1.0", type: "io.berth.tasks.exit", subject: "task/t-1" });
  assert.partialDeepStrictEqual(data, { namespace: "shop", topic: "/tasks/exit", kind: "Task", reason: "Exited" });
});

void test("topics, filters, workloads and labels choose; what a deleted task's labels were is known", async () => {
  await using lab = await open();
  const chosen = await lab.webhook("chosen", { topics: ["/tasks/*"], filters: ["severity==Warning"] });
  const cache = await lab.webhook("cache", { workloads: ["cache"], batch: 10 });
  const front = await lab.webhook("front", { selector: "tier=front" });
  const [front1, cache1, front2] = [uuidv7(), uuidv7(), uuidv7()];
  await lab.store.transaction(async (tx) => {
    await insertTasks(tx, [
      { ...newTask("shop", "web-1"), uid: front1, labels: { tier: "front" } },
      { ...newTask("shop", "cache-1"), uid: cache1, labels: {}, workload: "cache" },
      { ...newTask("shop", "web-2"), uid: front2, labels: { tier: "front" }, slot: 1 },
    ]);
  });
  await lab.store.transaction(async (tx) => removeTasks(tx, await lockTasksByUid(tx, [front2])));
  await lab.controller();
  await lab.add(1, { name: "web-1", uid: front1, severity: "Warning" });
  await lab.add(1, { name: "cache-1", uid: cache1 });
  await lab.add(1, { name: "web-2", uid: front2 });
  await lab.add(1, { name: "nobody", uid: "not a uid" });
  await lab.add(1, { topic: "/tasks/oom/deep", severity: "Warning", name: "deep" });
  await lab.add(1, { severity: "Warning", name: "last" });
  await chosen.takes(2);
  await front.takes(2);
  await cache.takes(1);
  assert.deepEqual(chosen.taken, ["task/web-1", "task/last"]);
  assert.deepEqual(front.taken, ["task/web-1", "task/web-2"]);
  assert.deepEqual(cache.taken, ["task/cache-1"]);
});

void test("a controller that is killed between sending and keeping the place is followed by one that sends it again, same id, same body", async () => {
  await using lab = await open();
  const single = await lab.webhook("single");
  const batched = await lab.webhook("batched", { batch: 4 });
  const child = spawn(process.execPath, [CHILD, lab.url, WEBHOOK_FAILPOINT, "4"], { stdio: "inherit" });
  await eventually("it has them", async () => (await lab.row("single")).ownerEpoch > 0 && (await lab.row("batched")).ownerEpoch > 0, { timeoutMs: 30_000 }); // prettier-ignore
  await lab.add(10);
  assert.deepEqual(await once(child, "exit"), [null, "SIGKILL"]);
  const before = [...single.received, ...batched.received];
  assert.ok(before.length >= 4);
  // More has happened meanwhile: the batch that was begun is the same nevertheless.
  await lab.add(7);
  await lab.controller();
  await single.takes(17);
  await batched.takes(17);
  for (const { taken } of [single, batched]) assert.deepEqual(taken, subjects(17));
  const all = [...single.received, ...batched.received];
  const again = all.filter(({ id }, index) => all.findIndex((other) => other.id === id) !== index);
  assert.ok(again.length >= 1 && again.length <= 2, `${again.length} were sent again`);
  for (const { id, body } of again) assert.equal(body, all.find((other) => other.id === id)!.body);
});

void test("a receiver that is killed, answers 500, 429 and nothing gets everything in order when it is back", async () => {
  await using lab = await open();
  const receiver = await lab.webhook("ci", { timeout: { seconds: 0n, nanos: 150_000_000 } });
  await lab.controller();
  await lab.add(2);
  await receiver.takes(2);
  await receiver.kill();
  await lab.add(4);
  const failing = await eventually("it fails", async () => {
    const row = await lab.row("ci");
    return row.failures >= 2 && row;
  });
  assert.match(failing.lastError, /ECONNREFUSED/);
  assert.equal(await lab.metric('berth_webhooks{phase="Failing"}'), 1);
  assert.ok(failing.failingSince !== null && failing.pendingSince !== null);
  const answers = [500, { status: 429, headers: { "retry-after": "1" } }, "hang"] as const;
  let refused = 0;
  receiver.answer = () => answers[refused++] ?? 200;
  const beganMs = performance.now();
  await receiver.listen();
  await receiver.hears(2 + answers.length + 4);
  assert.ok(performance.now() - beganMs >= 1_000, "Retry-After is waited for");
  assert.deepEqual(receiver.taken, subjects(6));
  assert.equal(new Set(receiver.received.slice(2, 6).map(({ id }) => id)).size, 1, "one id for all attempts");
  const row = await eventually("it is well", async () => {
    const now = await lab.row("ci");
    return now.delivered === 6 && now;
  });
  assert.deepEqual([row.failures, row.failingSince, row.pendingSince, row.nextAttemptAt], [0, null, null, null]);
  const deliveries = await lab.deliveries("ci");
  assert.ok(deliveries.some(({ message }) => message === "answered 500: no thanks"));
  assert.ok(deliveries.some(({ message }) => message === "no answer within 150 ms"));
  const requests = (outcome: string) =>
    lab.metric(`berth_webhook_request_duration_seconds_count{outcome="${outcome}"}`);
  assert.ok((await requests("Failed")) >= 4);
  assert.equal(await requests("Delivered"), 6);
  assert.equal(await lab.metric('berth_webhook_events_total{result="delivered"}'), 6);
  assert.equal(await lab.metric('berth_webhooks{phase="Active"}'), 1);
});

void test("a receiver that hangs holds up only its own webhook", async () => {
  await using lab = await open();
  const slow = await lab.webhook("slow", { timeout: { seconds: 30n, nanos: 0 } });
  slow.answer = () => "hang";
  const others = [await lab.webhook("a"), await lab.webhook("b"), await lab.webhook("c")];
  await lab.controller();
  await lab.add(30);
  for (const other of others) await other.takes(30);
  assert.equal(slow.received.length, 1);
});

void test("410 ends it until it is resumed, and then it goes on where it was", async () => {
  await using lab = await open();
  const receiver = await lab.webhook("ci", { topics: ["/tasks/*"] });
  receiver.answer = () => 410;
  await lab.controller();
  await lab.add(3);
  await eventually("it is gone", async () => (await lab.row("ci")).goneAt !== null);
  await lab.add(2);
  receiver.answer = () => 204;
  await lab.change("ci", {});
  await receiver.takes(5);
  assert.deepEqual(receiver.taken, subjects(5));
  assert.equal(receiver.received.length, 6, "it was asked once while it was gone");
});

void test("suspended it keeps its place", async () => {
  await using lab = await open();
  const receiver = await lab.webhook("ci", { suspend: true });
  await lab.controller();
  await lab.add(3);
  const spec = webhookSpec(await lab.row("ci"));
  spec.suspend = false;
  await lab.change("ci", { spec });
  await receiver.takes(3);
  assert.deepEqual(receiver.taken, subjects(3));
});

void test("after a rotation both secrets sign until the grace is over", async () => {
  await using lab = await open();
  const receiver = await lab.webhook("ci");
  await lab.controller();
  await lab.add(1);
  await receiver.takes(1);
  const secret = makeSecret();
  await lab.change("ci", { secret, previousSecret: lab.secret, previousSecretUntil: new Date(Date.now() + 60_000) });
  await lab.add(1);
  await receiver.takes(2);
  await lab.change("ci", { previousSecretUntil: new Date(Date.now() - 1) });
  await lab.add(1);
  await receiver.takes(3);
  const counts = receiver.received.map((one) => [signaturesBy(lab.secret, one), signaturesBy(secret, one)]);
  assert.deepEqual(counts, [[1, 0], [1, 1], [0, 1]]); // prettier-ignore
});

void test("what retention dropped before it was sent is told before what follows", async () => {
  await using lab = await open();
  const receiver = await lab.webhook("ci");
  const first = await lab.controller();
  await lab.add(1);
  await receiver.takes(1);
  await eventually("its place is kept", async () => (await lab.row("ci")).delivered === 1);
  await receiver.kill();
  await first[Symbol.asyncDispose]();
  await lab.add(4);
  await lab.store.transaction((tx) => closePartition(tx, "events"));
  await eventually("they are dropped", () => retirePartition(lab.store, "events", 0));
  await lab.add(2);
  await receiver.listen();
  await lab.controller();
  await receiver.takes(4);
  assert.deepEqual(receiver.taken, ["task/t-1", "webhook/ci", "task/t-6", "task/t-7"]);
  const [, gap] = receiver.received;
  assert.equal(gap!.events[0]!.type, "io.berth.webhook.gap");
  assert.equal(gap!.events[0]!.data["reason"], "Retention");
  assert.equal(signaturesBy(lab.secret, gap!), 1);
  const { gapReason, gapToldAt } = await eventually("it is kept", async () => {
    const row = await lab.row("ci");
    return row.delivered === 3 && row;
  });
  assert.equal(gapReason, "Retention");
  assert.ok(gapToldAt !== null);
});

void test("what waited for longer than maxAge is given up while it fails, counted, and told", async () => {
  await using lab = await open();
  const receiver = await lab.webhook("ci", { maxAge: { seconds: 1n, nanos: 0 } });
  await receiver.kill();
  await lab.controller();
  await lab.add(5);
  const row = await eventually("they are given up", async () => {
    const now = await lab.row("ci");
    return now.givenUp === 5 && now;
  });
  assert.deepEqual([row.gapReason, row.gapCount, row.gapToldAt], ["MaxAge", 5, null]);
  assert.equal(await lab.metric('berth_webhook_events_total{result="given_up"}'), 5);
  await lab.add(1);
  await receiver.listen();
  await receiver.takes(2);
  assert.deepEqual(receiver.taken, ["webhook/ci", "task/t-6"]);
  assert.equal(receiver.received[0]!.events[0]!.data["count"], 5);
});

void test("a place that was passed without sending is kept, so that old partitions make no gap", async () => {
  await using lab = await open();
  const receiver = await lab.webhook("ci", { topics: ["/workloads/**"] });
  const first = await lab.controller();
  const begin = await lab.row("ci");
  await lab.add(5);
  await eventually("the place is kept", async () => (await lab.row("ci")).eventId > begin.eventId);
  await first[Symbol.asyncDispose]();
  await lab.store.transaction((tx) => closePartition(tx, "events"));
  await eventually("they are dropped", () => retirePartition(lab.store, "events", 0));
  await lab.controller();
  await lab.add(1, { topic: "/workloads/create", kind: "Workload", name: "web" });
  await receiver.takes(1);
  assert.deepEqual(receiver.taken, ["workload/web"]);
});
