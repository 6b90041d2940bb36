import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { CampaignSpecSchema } from "@berth/proto";
import {
  campaignStatus,
  getCampaign,
  insertCampaign,
  listTargets,
  lockCampaign,
  updateCampaign,
  type CampaignRow,
} from "@berth/store";
import { eventually } from "@berth/testkit/servers";
import { startTestDatabases, TestFleet, type TestDatabases } from "../testing/test-fleet.ts";

let databases: TestDatabases;
before(async () => {
  databases = await startTestDatabases();
});
after(() => databases[Symbol.asyncDispose]());

async function openFleet(nodes: number): Promise<TestFleet> {
  const fleet = await TestFleet.open(databases);
  await fleet.startController();
  for (let n = 1; n <= nodes; n += 1) await fleet.addAgent(`node-${n}`);
  return fleet;
}

function apply(fleet: TestFleet, spec: MessageInitShape<typeof CampaignSpecSchema>): Promise<CampaignRow> {
  const message = create(CampaignSpecSchema, spec);
  return fleet.store.transaction(async (tx) => {
    const row = await lockCampaign(tx, "shop", "warm");
    if (row !== undefined) return await updateCampaign(tx, row, { spec: message });
    return await insertCampaign(tx, { namespace: "shop", name: "warm", labels: {}, spec: message });
  });
}

function ended(fleet: TestFleet, phase: string, generation = 1): Promise<CampaignRow> {
  return eventually(
    `the campaign has ${phase}`,
    async () => {
      const row = await getCampaign(fleet.store.db, "shop", "warm");
      if (row?.phase === phase && row.observedGeneration === generation) return row;
      throw new Error(JSON.stringify(row?.status));
    },
    { timeoutMs: 15_000 },
  );
}

void test("a campaign brings its images onto every matching node", async () => {
  await using fleet = await openFleet(3);
  await apply(fleet, { images: ["busybox", "nginx"] });
  const row = await ended(fleet, "Succeeded");
  const status = campaignStatus(row);
  assert.deepEqual([status.targets, status.succeeded, status.failed], [6, 6, 0]);
  assert.ok(status.finishedAt !== undefined);
  for (const agent of fleet.wires.agents.values()) assert.equal(agent.pulls.length, 2);
  const targets = await listTargets(fleet.store.db, row.uid);
  assert.deepEqual(new Set(targets.map((target) => target.imageDigest)), new Set(["sha256:aa"]));
});

void test("a campaign pulls no more than parallelism at a time", async () => {
  await using fleet = await openFleet(4);
  let most = 0;
  const watching = new AbortController();
  const row = await apply(fleet, { images: ["busybox"], parallelism: 1 });
  const watch = (async () => {
    while (!watching.signal.aborted) {
      const targets = await listTargets(fleet.store.db, row.uid);
      most = Math.max(most, targets.filter((target) => target.phase === "Pulling").length);
    }
  })();
  await ended(fleet, "Succeeded");
  watching.abort();
  await watch;
  assert.equal(most, 1);
});

void test("a campaign tries again, fails after maxAttempts, and begins again when it is edited", async () => {
  await using fleet = await openFleet(1);
  const agent = fleet.wires.agents.get("node-1")!;
  agent.failPulls = 2;
  await apply(fleet, { images: ["busybox"], maxAttempts: 2 });
  const failed = await ended(fleet, "Failed");
  assert.match(campaignStatus(failed).conditions[0]!.message, /busybox on node-1: registry is down/);
  assert.equal(agent.pulls.length, 2);
  await apply(fleet, { images: ["busybox"], maxAttempts: 3 });
  const row = await ended(fleet, "Succeeded", 2);
  assert.equal(agent.pulls.length, 3);
  assert.deepEqual((await listTargets(fleet.store.db, row.uid)).map((target) => target.attempt), [1]); // prettier-ignore
});

void test("a campaign gives up at its deadline, and a silent node is not failed before", async () => {
  await using fleet = await openFleet(2);
  fleet.wires.agents.get("node-2")!.silent = true;
  const row = await apply(fleet, { images: ["busybox"], deadline: { seconds: 2n, nanos: 0 } });
  await eventually("the silent node's target is unreachable", async () =>
    (await listTargets(fleet.store.db, row.uid)).some(
      (target) => target.node === "node-2" && target.certainty === "unreachable" && target.phase !== "Failed",
    ),
  );
  const failed = await ended(fleet, "Failed");
  assert.deepEqual([campaignStatus(failed).succeeded, campaignStatus(failed).failed], [1, 1]);
});

void test("a node that joins gets the images of a running campaign", async () => {
  await using fleet = await openFleet(0);
  await apply(fleet, { images: ["busybox"], nodeSelector: { disk: "ssd" } });
  await eventually("it waits for nodes", async () => {
    const row = await getCampaign(fleet.store.db, "shop", "warm");
    return row?.observedGeneration === 1 && campaignStatus(row).conditions[0]?.reason === "NoNodeMatches";
  });
  await fleet.addAgent("node-1", { labels: { disk: "ssd" } });
  const row = await ended(fleet, "Succeeded");
  assert.equal(campaignStatus(row).succeeded, 1);
});

void test("a campaign that is edited lets its nodes keep what they have until their turn comes", async () => {
  await using fleet = await openFleet(3);
  await apply(fleet, { images: ["busybox", "nginx"] });
  await ended(fleet, "Succeeded");
  await apply(fleet, { images: ["busybox", "redis"], parallelism: 1 });
  const row = await ended(fleet, "Succeeded", 2);
  for (const agent of fleet.wires.agents.values()) {
    await agent.sync();
    assert.deepEqual(agent.released, [`${row.uid} nginx`]);
    assert.deepEqual(agent.kept, new Set([`${row.uid} busybox`, `${row.uid} redis`]));
  }
});

void test("a deleted campaign is gone with its targets", async () => {
  await using fleet = await openFleet(1);
  const row = await apply(fleet, { images: ["busybox"] });
  await ended(fleet, "Succeeded");
  await fleet.store.transaction(async (tx) => {
    await updateCampaign(tx, (await lockCampaign(tx, "shop", "warm"))!, { deletedAt: new Date() });
  });
  await eventually("it is gone", async () => (await getCampaign(fleet.store.db, "shop", "warm")) === undefined);
  assert.deepEqual(await listTargets(fleet.store.db, row.uid), []);
});

void test("lost jobs and journals cost a campaign nothing but time", async () => {
  await using fleet = await openFleet(2);
  fleet.wires.loseJobs = true;
  fleet.wires.loseJournals = true;
  await apply(fleet, { images: ["busybox"] });
  await ended(fleet, "Succeeded");
  for (const agent of fleet.wires.agents.values()) assert.equal(agent.pulls.length, 1);
});
