import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { leaseEndpoint } from "@berth/bus";
import { LeaseRequestSchema, type LeaseReply, type LeaseRequest } from "@berth/proto";
import {
  addJournalEpochs,
  getNode,
  getStoreMeta,
  lockNode,
  markSilent,
  openStore,
  raiseRevisions,
  removeNode,
  setConflict,
  setEvictionHolds,
  setStored,
  updateNode,
  type NodeRow,
  type Store,
} from "@berth/store";
import { startTestDatabases, type TestDatabases } from "../testing/test-fleet.ts";
import { Renewals } from "./renewals.ts";
import { factsOf } from "./request.ts";

let databases: TestDatabases;
before(async () => {
  databases = await startTestDatabases();
});
after(() => databases[Symbol.asyncDispose]());

type RequestInit = Omit<Exclude<MessageInitShape<typeof LeaseRequestSchema>, LeaseRequest>, "node">;

interface Lab extends AsyncDisposable {
  readonly store: Store;
  renew(more?: RequestInit): Promise<LeaseReply>;
  /** Renewals that were looked at closely: they have a transaction. */
  readonly looks: number;
  node(): Promise<NodeRow>;
  readonly renewals: Pick<Renewals, "renew">;
  /** Another controller: it remembers nothing of what this one has seen. */
  other(): Pick<Renewals, "renew">;
}

async function openLab(ttlMs = 60_000): Promise<Lab> {
  const store = await openStore({ url: await databases.create() });
  let looks = 0;
  const counting: Store = {
    ...store,
    transaction: (body) => {
      looks += 1;
      return store.transaction(body);
    },
  };
  const make = (over: Store): Renewals =>
    new Renewals({
      store: over,
      shards: 4,
      terms: () => ({ ttlMs, renewMs: 10, slackMs: 100 }),
      onReturned: () => {},
      onFailure: () => {},
    });
  const renewals = make(counting);
  return {
    store,
    renewals,
    renew: (more) => renewals.renew("a", request(more)),
    get looks() {
      return looks;
    },
    node: async () => (await getNode(store.db, "a"))!,
    other: () => make(store),
    [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
  };
}

const request = (more: RequestInit = {}): LeaseRequest =>
  create(LeaseRequestSchema, {
    node: "a",
    bootId: "boot",
    instance: "one",
    journalEpoch: "e1",
    labels: { disk: "ssd" },
    conditions: [{ type: "Ready", status: "True", reason: "AgentReady" }],
    capacity: { cpuMillis: 4_000n, tasks: 100 },
    ...more,
  });

void test("a renewal that says what was said before is one statement, and answers as a close look does", async () => {
  await using lab = await openLab();
  await lab.renew();
  await lab.store.transaction((tx) => raiseRevisions(tx, ["a"]));
  await lab.store.transaction(async (tx) => {
    await addJournalEpochs(tx, [{ node: "a", epoch: "e1" }, { node: "a", epoch: "e0" }]); // prettier-ignore
    const chain = { headHash: null, chainedFromSeq: null, breaks: 0 };
    await setStored(tx, [{ node: "a", epoch: "e1", storedSeq: 7, ...chain }]);
  });
  const sentAt = timestampFromMs(Date.now());
  await lab.renew({ sentAt });
  assert.equal(lab.looks, 2, "when it was sent was not told before");
  const first = await lab.node();
  const news: RequestInit = { sentAt: timestampFromMs(Date.now()), journalHeadSeq: 9n, appliedRevision: 1n };
  const reply = await lab.renew(news);
  assert.equal(lab.looks, 2);
  assert.deepEqual(reply, await lab.other().renew("a", request(news)));
  assert.deepEqual([reply.revision, reply.journalStoredSeq, reply.journalStored], [1n, 7n, { e0: 0n, e1: 7n }]);
  const row = await lab.node();
  assert.deepEqual([row.journalHeadSeq, row.appliedRevision, row.resourceVersion], [9, 1, first.resourceVersion]);
  assert.ok(row.leaseExpiresAt > first.leaseExpiresAt);
});

const changes: Record<string, (lab: Lab, tx: Store["db"], row: NodeRow) => Promise<unknown>> = {
  "an operator changes it": (_, tx, row) => updateNode(tx, row, { cordoned: true }),
  "it is silent": async (_, tx) => {
    await tx.execute("update nodes set lease_expires_at = clock_timestamp() - interval '1 second'");
    await markSilent(tx, ["a"]);
  },
  "its tasks are held": (_, tx) => setEvictionHolds(tx, [{ name: "a", hold: "RateLimited" }]),
  "another agent was refused its name": (_, tx, row) => {
    const conflict = { instance: "two", address: "", reason: "NameInUse", message: "", at: new Date().toISOString() };
    return setConflict(tx, row, conflict, false);
  },
  "it was forgotten": (_, tx, row) => removeNode(tx, row),
};

for (const [what, change] of Object.entries(changes)) {
  void test(`a renewal is looked at closely when ${what}`, async () => {
    await using lab = await openLab();
    await lab.renew();
    await lab.renew();
    assert.equal(lab.looks, 1);
    await lab.store.transaction(async (tx) => await change(lab, tx, (await lockNode(tx, "a"))!));
    const reply = await lab.renew();
    assert.deepEqual([reply.refused, lab.looks], ["", 2]);
    assert.equal((await lab.node()).phase, "Ready");
  });
}

void test("a renewal is looked at closely when it says something else, and whoever was taken over from is refused", async () => {
  await using lab = await openLab();
  await lab.renew();
  await lab.renew({ labels: { disk: "hdd" } });
  assert.deepEqual([lab.looks, (await lab.node()).effectiveLabels], [2, { disk: "hdd" }]);
  await lab.renew({ labels: { disk: "hdd" } });
  assert.equal(lab.looks, 2);
  // Told to another controller, and taken back: what this one remembers is of an older row.
  await lab.other().renew("a", request());
  await lab.renew({ labels: { disk: "hdd" } });
  assert.deepEqual([lab.looks, (await lab.node()).effectiveLabels], [3, { disk: "hdd" }]);
  await lab.other().renew("a", request({ labels: { disk: "hdd" }, instance: "two" }));
  const reply = await lab.renew({ labels: { disk: "hdd" } });
  assert.match(reply.refused, /a newer agent has taken over/);
});

void test("a renewal is looked at closely when the node's clock goes wrong, though its facts are the same", async () => {
  await using lab = await openLab();
  const facts = factsOf(request());
  const renew = (wrongByMs: number) =>
    lab.renewals.renew("a", request({ sentAt: timestampFromMs(Date.now() + wrongByMs) }), facts);
  const skew = async () => (await lab.node()).conditions.find(({ type }) => type === "ClockSkew")?.["status"];
  for (const [wrongByMs, looks, status] of [
    [0, 1, "False"],
    [1_000, 1, "False"],
    [60_000, 2, "True"],
    [0, 3, "False"],
  ] as const) {
    await renew(wrongByMs);
    assert.deepEqual([lab.looks, await skew()], [looks, status], `${wrongByMs} ms ahead`);
  }
});

void test("factsOf tells of every field of a request that is not news", () => {
  const said: Record<keyof typeof LeaseRequestSchema.field, unknown> = {
    node: "b",
    bootId: "boot2",
    instance: "two",
    agentVersion: "2",
    labels: { disk: "hdd" },
    capacity: { tasks: 1 },
    runtimeHandlers: ["runc"],
    snapshotters: ["overlayfs"],
    conditions: [],
    journalEpoch: "e2",
    journalHeadSeq: 1n,
    storeEpoch: "s",
    appliedRevision: 1n,
    takenRevision: 1n,
    kernelVersion: "6",
    address: "10.0.0.1",
    machineId: "m",
    sentAt: timestampFromMs(0),
    features: ["x"],
  };
  const before = factsOf(request());
  const silent = LeaseRequestSchema.fields
    .map(({ localName }) => localName as keyof typeof said)
    .filter((name) => factsOf(request({ [name]: said[name] })) === before);
  assert.deepEqual(new Set<string>(silent), new Set<string>(leaseEndpoint.news));
});

for (const [how, ahead] of [
  ["by the set that it applied", { appliedRevision: 5n }],
  ["by a job that no set has confirmed yet", { takenRevision: 5n }],
] as const) {
  void test(`an agent that is ahead of the store ${how} shows by any renewal that the store was put back (D5)`, async () => {
    await using lab = await openLab();
    await lab.renew();
    const { storeEpoch } = await getStoreMeta(lab.store.db);
    const reply = await lab.renew({ storeEpoch, ...ahead });
    assert.notEqual(reply.storeEpoch, storeEpoch);
    assert.equal((await getStoreMeta(lab.store.db)).stopsConfirmed, false);
  });
}
