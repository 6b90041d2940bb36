import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { hasCode } from "@berth/base";
import { AssignmentsReplySchema, LeaseRequestSchema, TaskAssignmentSchema, type LeaseRequest } from "@berth/proto";
import {
  getNode,
  getStoreMeta,
  insertTasks,
  listEvents,
  listTasks,
  lockNode,
  nodeMessage,
  openStore,
  raiseRevisions,
  removeNode,
  updateTasks,
  type LeaseRenewal,
  type NodeRow,
  type Store,
} from "@berth/store";
import { eventually } from "@berth/testkit/servers";
import { newTask } from "../testing/test-api.ts";
import { startTestDatabases, TestFleet, type TestDatabases } from "../testing/test-fleet.ts";
import { cutToSize } from "./assignments.ts";
import { LeaseBatcher } from "./batcher.ts";
import { renewBatch } from "./renew.ts";
import { renewalOf } from "./request.ts";

let databases: TestDatabases;
before(async () => {
  databases = await startTestDatabases();
});
after(() => databases[Symbol.asyncDispose]());

type RequestInit = Omit<Exclude<MessageInitShape<typeof LeaseRequestSchema>, LeaseRequest>, "node">;

const request = (node: string, more: RequestInit = {}): LeaseRequest =>
  create(LeaseRequestSchema, { node, bootId: "boot", instance: "one", journalEpoch: "e1", ...more });

const renewal = (node: string, more: RequestInit = {}): LeaseRenewal => renewalOf(node, request(node, more), 4);

interface Bench extends AsyncDisposable {
  readonly store: Store;
  renew(...renewals: LeaseRenewal[]): Promise<string[]>;
  node(name: string): Promise<NodeRow>;
}

async function openBench(ttlMs = 60_000): Promise<Bench> {
  const store = await openStore({ url: await databases.create() });
  return {
    store,
    async renew(...renewals) {
      const outcome = await store.transaction((tx) => renewBatch(tx, renewals, { ttlMs, renewMs: 100, slackMs: 100 }));
      return outcome.replies.map((reply) => reply.refused);
    },
    node: async (name) => (await getNode(store.db, name))!,
    [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
  };
}

void test("renewBatch registers nodes at their first lease and renews many at once", async () => {
  await using bench = await openBench();
  assert.deepEqual(await bench.renew(renewal("a"), renewal("b", { labels: { disk: "ssd" } })), ["", ""]);
  const b = await bench.node("b");
  assert.deepEqual([b.phase, b.effectiveLabels], ["Ready", { disk: "ssd" }]);
  const version = b.resourceVersion;
  await bench.renew(renewal("a"), renewal("b", { labels: { disk: "ssd" }, journalHeadSeq: 9n }));
  const again = await bench.node("b");
  assert.equal(again.resourceVersion, version, "a renewal alone is not news");
  assert.equal(again.journalHeadSeq, 9);
  assert.ok(again.leaseRenewedAt >= b.leaseRenewedAt);
  const { items } = await listEvents(bench.store.db, {});
  assert.deepEqual(items.map((event) => event.topic), ["/nodes/join", "/nodes/join"]); // prettier-ignore
});

void test("renewBatch refuses a second machine with the same name while the lease runs", async () => {
  await using bench = await openBench();
  await bench.renew(renewal("a"));
  const [refused] = await bench.renew(renewal("a", { bootId: "other", instance: "two" }));
  assert.match(refused!, /another agent .* holds the name a/);
  assert.deepEqual(await bench.renew(renewal("a")), [""]);
});

void test("renewBatch lets another machine take over when the lease has run out", async () => {
  await using bench = await openBench(1);
  await bench.renew(renewal("a"));
  await eventually("the lease has run out", async () => (await bench.node("a")).leaseExpiresAt < new Date());
  assert.deepEqual(await bench.renew(renewal("a", { bootId: "other", instance: "two" })), [""]);
  assert.equal((await bench.node("a")).instance, "two");
});

void test("renewBatch lets a restarted agent take over at once, and not its predecessor again", async () => {
  await using bench = await openBench();
  await bench.renew(renewal("a"));
  assert.deepEqual(await bench.renew(renewal("a", { instance: "two" })), [""]);
  const [refused] = await bench.renew(renewal("a"));
  assert.match(refused!, /a newer agent has taken over/);
});

void test("renewBatch never gives a name to another machine, shows it as a conflict, and an operator settles it", async () => {
  await using bench = await openBench(1);
  await bench.renew(renewal("a", { machineId: "m1", address: "10.0.0.1" }));
  await eventually("the lease has run out", async () => (await bench.node("a")).leaseExpiresAt < new Date());
  const clone = renewal("a", { machineId: "m2", bootId: "other", instance: "clone", address: "10.0.0.2" });
  for (let time = 0; time < 3; time += 1) {
    const [refused] = await bench.renew(clone);
    assert.match(refused!, /belongs to another machine, at 10\.0\.0\.1.*berth delete node a/);
  }
  const conditions = async () => nodeMessage(await bench.node("a")).status!.conditions;
  const conflict = (await conditions()).find(({ type }) => type === "IdentityConflict");
  assert.deepEqual([conflict?.status, conflict?.reason], ["True", "OtherMachine"]);
  assert.match(conflict!.message, /an agent at 10\.0\.0\.2 is refused/);
  const events = (await listEvents(bench.store.db, {})).items.filter((event) => event.topic === "/nodes/conflict");
  assert.equal(events.length, 1, "told once, however often it asks");
  assert.deepEqual(await bench.renew(renewal("a", { machineId: "m1" })), [""]);
  const rebooted = renewal("a", { machineId: "m1", bootId: "next", instance: "two", journalEpoch: "e1" });
  await eventually("a reboot waits for the lease's end only", async () => (await bench.renew(rebooted))[0] === "");
  await bench.store.transaction(async (tx) => await removeNode(tx, (await lockNode(tx, "a"))!));
  assert.deepEqual(await bench.renew(clone), [""], "the name is free");
});

void test("renewBatch lets a copied data root on the same machine wait, where a restarted agent takes over at once", async () => {
  await using bench = await openBench();
  await bench.renew(renewal("a", { machineId: "m1" }));
  const copy = renewal("a", { machineId: "m1", instance: "copy", journalEpoch: "e2" });
  assert.match((await bench.renew(copy))[0]!, /another agent at .* holds the name/);
  const shown = nodeMessage(await bench.node("a")).status!.conditions.find(({ type }) => type === "IdentityConflict");
  assert.equal(shown?.reason, "NameInUse");
  assert.deepEqual(await bench.renew(renewal("a", { machineId: "m1", instance: "two" })), [""]);
});

/** Node `a` possibly runs a fenced task, which is given a minute to end; its lease has run out. */
async function silentWithFenced(bench: Bench, stopper: "True" | "False"): Promise<void> {
  await bench.renew(renewal("a", { conditions: [{ type: "Stopper", status: stopper }] }));
  await bench.store.transaction(async (tx) => {
    const [before] = await insertTasks(tx, [
      { ...newTask("shop", "db-0"), fence: true, container: { image: "db", stop: { grace: "60s" } } },
    ]);
    await updateTasks(tx, [{ before: before!, patch: { node: "a", phase: "Running" } }]);
  });
  await endedAgo(bench, 1);
}

/** As if its lease had run out so long ago. */
const endedAgo = async (bench: Bench, seconds: number): Promise<unknown> =>
  await bench.store.db.execute(`update nodes set lease_expires_at = clock_timestamp() - interval '${seconds} seconds',
    lease_renewed_at = clock_timestamp() - interval '${seconds + 10} seconds' where name = 'a'`);

const OTHERS: Readonly<Record<string, RequestInit>> = {
  "an agent without a machine id, of another boot": { bootId: "other", instance: "two" },
  "one with another data root on the same machine": { instance: "two", journalEpoch: "e2" },
};

for (const [who, other] of Object.entries(OTHERS)) {
  void test(`renewBatch gives ${who} a name at T, not at the end of the lease`, async () => {
    await using bench = await openBench();
    await silentWithFenced(bench, "True");
    const [early] = await bench.renew(renewal("a", other));
    assert.match(early!, /possibly runs what must never run twice until .*: this one gets the name then/);
    // The lease, the grace, the slack (0.1 s) and the drift of clocks (1 % of 10 s).
    await endedAgo(bench, 60.1);
    assert.notEqual((await bench.renew(renewal("a", other)))[0], "");
    await endedAgo(bench, 60.3);
    assert.deepEqual(await bench.renew(renewal("a", other)), [""]);
    const [task] = (await listTasks(bench.store.db, {})).items;
    const anew = other.journalEpoch === undefined ? 1 : 2;
    assert.equal(task!.attempt, anew, "another data root runs nothing under a number that was used");
  });
}

void test("renewBatch gives a name whose stopper was not working to another only when an operator says so", async () => {
  await using bench = await openBench();
  await silentWithFenced(bench, "False");
  await endedAgo(bench, 3_600);
  const other = renewal("a", { bootId: "other", instance: "two" });
  const [refused] = await bench.renew(other);
  assert.match(refused!, /nothing ends it there .*berth delete node a/);
  const shown = nodeMessage(await bench.node("a")).status!.conditions.find(({ type }) => type === "IdentityConflict");
  assert.equal(shown?.reason, "NameInUse");
  assert.deepEqual(await bench.renew(renewal("a", { instance: "three" })), [""], "its own successor has it");
});

void test("renewBatch notes by Postgres' clock when a name was refused", async (context) => {
  await using bench = await openBench();
  await bench.renew(renewal("a"));
  context.mock.timers.enable({ apis: ["Date"], now: Date.now() + 7_200_000 });
  await bench.renew(renewal("a", { bootId: "other", instance: "two" }));
  await bench.renew(renewal("a"));
  context.mock.timers.reset();
  const { conflict } = await bench.node("a");
  assert.ok(conflict !== null && Math.abs(Date.parse(conflict.at) - Date.now()) < 60_000, JSON.stringify(conflict));
});

void test("renewalOf says when a node's wall clock is wrong, either way", () => {
  const now = new Date(1_700_000_000_000);
  const skewed = (ms: number) =>
    renewalOf("a", request("a", { sentAt: timestampFromMs(now.getTime() + ms) }), 4, now).conditions[0]!;
  assert.deepEqual([skewed(400)["status"], skewed(-400)["status"]], ["False", "False"]);
  assert.match(JSON.stringify(skewed(90_000)), /90 s ahead/);
  assert.match(JSON.stringify(skewed(-7_000)), /7 s behind/);
});

void test("a node that was forgotten and comes back does not look like a restored store", async () => {
  await using bench = await openBench();
  await bench.renew(renewal("a"));
  const { storeEpoch } = await getStoreMeta(bench.store.db);
  const restored = async (): Promise<boolean> =>
    (await listEvents(bench.store.db, {})).items.some((event) => event.topic === "/store/restored");
  await bench.store.transaction(async (tx) => {
    for (let n = 0; n < 5; n += 1) await raiseRevisions(tx, ["a"]);
    await removeNode(tx, (await lockNode(tx, "a"))!);
  });
  await bench.renew(renewal("a", { storeEpoch, appliedRevision: 5n, takenRevision: 5n }));
  assert.equal(await restored(), false);
  // By a job that no set has confirmed yet.
  await bench.renew(renewal("a", { storeEpoch, appliedRevision: 5n, takenRevision: 99n }));
  assert.equal(await restored(), true);
  assert.notEqual((await getStoreMeta(bench.store.db)).storeEpoch, storeEpoch);
});

void test("renewalOf refuses foreign names and requests without an instance", () => {
  assert.throws(() => renewalOf("a", request("b"), 4), (error) => hasCode(error, "PERMISSION_DENIED")); // prettier-ignore
  assert.throws(() => renewalOf("a.b", request("a.b"), 4), (error) => hasCode(error, "INVALID_ARGUMENT")); // prettier-ignore
  assert.throws(
    () => renewal("a", { instance: "" }),
    (error) => hasCode(error, "INVALID_ARGUMENT"),
  );
});

void test("LeaseBatcher writes what gathered meanwhile as one batch, each node once", async () => {
  const batches: string[][] = [];
  const gates: PromiseWithResolvers<void>[] = [];
  const batcher = new LeaseBatcher<LeaseRenewal>(async (renewals) => {
    batches.push(renewals.map((each) => `${each.name}/${each.instance}`));
    const gate = Promise.withResolvers<void>();
    gates.push(gate);
    await gate.promise;
    return renewals.map((each) => ({ refused: each.instance }) as never);
  });
  const first = batcher.renew(renewal("a"));
  await eventually("the first batch is written", () => gates.length === 1);
  const others = ["a", "b", "b", "c"].map((name, n) => batcher.renew(renewal(name, { instance: `i${n}` })));
  for (const n of [0, 1, 2]) {
    await eventually(`batch ${n} is written`, () => gates.length > n);
    gates[n]!.resolve();
  }
  assert.deepEqual((await Promise.all([first, ...others])).map((reply) => reply.refused), ["one", "i0", "i1", "i2", "i3"]); // prettier-ignore
  assert.deepEqual(batches, [["a/one"], ["a/i0", "b/i1", "c/i3"], ["b/i2"]]);
});

void test("LeaseBatcher writes the first at once and gathers those that follow", async () => {
  const batches: number[] = [];
  const batcher = new LeaseBatcher<LeaseRenewal>(
    async (renewals) => {
      batches.push(renewals.length);
      return renewals.map(() => ({}) as never);
    },
    { gatherMs: () => 100 },
  );
  const began = performance.now();
  await batcher.renew(renewal("a"));
  const soon = ["b", "c"].map((name) => batcher.renew(renewal(name)));
  await new Promise((resolve) => setTimeout(resolve, 10));
  await Promise.all([...soon, batcher.renew(renewal("d"))]);
  assert.deepEqual(batches, [1, 3]);
  // A timer counts whole milliseconds of a clock that is read once a turn: it may be early by two.
  assert.ok(performance.now() - began >= 97, "after the time of gathering");
});

void test("cutToSize leaves to the next page what does not fit, but takes at least one", () => {
  const task = (uid: string) => create(TaskAssignmentSchema, { taskUid: uid, name: "x".repeat(400) });
  const page = create(AssignmentsReplySchema, { revision: 4n, tasks: ["1", "2", "3"].map(task) });
  const cut = cutToSize(page, 10, 1_000);
  assert.deepEqual([cut.tasks.length, cut.nextOffset, cut.revision], [2, 12, 4n]);
  assert.deepEqual([cutToSize(page, 0, 1).tasks.length, cutToSize(page, 0, 1).nextOffset], [1, 1]);
  assert.equal(cutToSize(page, 0, 10_000), page);
});

void test("nobody is declared silent for the time in which nobody could be heard", async () => {
  await using fleet = await TestFleet.open(databases);
  await fleet.startController();
  await fleet.addAgent("node-1");
  await fleet.stopController();
  const lease = (await getNode(fleet.store.db, "node-1"))!;
  await eventually("the lease has run out", () => lease.leaseExpiresAt.getTime() + 100 < Date.now());
  await fleet.startController();
  await eventually(
    "it is renewed",
    async () => (await getNode(fleet.store.db, "node-1"))!.leaseRenewedAt > lease.leaseRenewedAt,
  );
  const { items } = await listEvents(fleet.store.db, {});
  assert.ok(!items.some((event) => event.topic === "/nodes/unknown"));
});
