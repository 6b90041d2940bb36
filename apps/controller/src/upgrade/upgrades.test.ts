/** Upgrades on a real Postgres, of nodes that answer as agents do: Fetching, nothing while they are started anew, then the outcome. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { Lifetime, silentLogger, StatusError, uuidv7 } from "@berth/base";
import { AgentUpgradeStateSchema, UpgradeSpecSchema, type Upgrade, type UpgradeAgentRequest } from "@berth/proto";
import { getUpgrade, listEvents, upgradeMessage, upgradeNodesOf, type Store } from "@berth/store";
import { eventually } from "@berth/testkit/servers";
import { found } from "../testing/findings.ts";
import { startTestDatabases, TestFleet, type TestDatabases } from "../testing/test-fleet.ts";
import { startUpgrade, steerUpgrade, undoUpgrade } from "./start.ts";
import { startUpgrades, type UpgradeDeps } from "./upgrades.ts";

let databases: TestDatabases;
before(async () => {
  databases = await startTestDatabases();
});
after(() => databases[Symbol.asyncDispose]());

type Behaviour = "takes" | "takes back" | "refuses" | "hangs";

/** Nodes in a store, and a bus that reaches them. */
class Nodes implements AsyncDisposable {
  readonly fleet: TestFleet;
  readonly behaves = new Map<string, Behaviour>();
  /** Every order that any node ever got, by node. */
  readonly orders = new Map<string, Set<string>>();
  readonly #questions = new Map<string, number>();
  readonly #lifetime = new Lifetime();
  #most = 0;

  constructor(fleet: TestFleet) {
    this.fleet = fleet;
  }

  static async of(count: number): Promise<Nodes> {
    const nodes = new Nodes(await TestFleet.open(databases));
    for (let n = 1; n <= count; n += 1) {
      await nodes.store.db.execute(`
        insert into nodes (uid, name, shard, phase, agent_version, lease_renewed_at, lease_expires_at)
        values ('${uuidv7()}', 'n${n}', 0, 'Ready', '1', now(), now())`);
    }
    return nodes;
  }

  get store(): Store {
    return this.fleet.store;
  }

  /** Of the nodes that were under way at a time. */
  get most(): number {
    return this.#most;
  }

  readonly bus: UpgradeDeps["bus"] = {
    request: (async (_endpoint: unknown, node: string, order: UpgradeAgentRequest) => {
      const ids = this.orders.get(node) ?? new Set();
      this.orders.set(node, ids.add(order.id));
      const asked = (this.#questions.get(order.id) ?? 0) + 1;
      this.#questions.set(order.id, asked);
      const [row] = await this.store.db.execute<{ count: number }>(
        `select count(*)::int as count from upgrade_nodes where phase in ('Ordered', 'Fetching', 'Starting')`,
      );
      this.#most = Math.max(this.#most, row!.count);
      const behaviour = this.behaves.get(node) ?? "takes";
      const say = (phase: string, message = "") => create(AgentUpgradeStateSchema, { phase, message });
      if (behaviour === "refuses") return say("Refused", "there are no versions to go between");
      if (asked === 1) return say("Fetching");
      if (asked === 2 || behaviour === "hangs") throw new StatusError("UNAVAILABLE", "nobody is there");
      if (behaviour === "takes back") return say("TakenBack", "it ended 3 times");
      await this.store.db.execute(`update nodes set agent_version = '${order.to}' where name = '${node}'`);
      return say("Proven");
    }) as UpgradeDeps["bus"]["request"],
  };

  /** A controller's part of it, on the same store. */
  async lead(): Promise<AsyncDisposable> {
    const leading = startUpgrades({ store: this.store, bus: this.bus, logger: silentLogger }, { lookMs: 20 });
    this.#lifetime.own(leading);
    return leading;
  }

  start(
    spec: Partial<{ to: string; canary: number; batch: string; maxFailures: number; selector: string; bakeMs: number }>,
  ) {
    const { bakeMs, ...rest } = spec;
    const bake = bakeMs === undefined ? {} : { bake: { seconds: 0n, nanos: bakeMs * 1e6 } };
    return startUpgrade(this.store, create(UpgradeSpecSchema, { to: "2", batch: "2", ...rest, ...bake }), false);
  }

  async now(): Promise<Upgrade> {
    const row = (await getUpgrade(this.store.db, undefined))!;
    return upgradeMessage(row, await upgradeNodesOf(this.store.db, row.id));
  }

  async reaches(phase: string): Promise<Upgrade> {
    return await eventually(`the upgrade is ${phase}`, async () => {
      const upgrade = await this.now();
      if (upgrade.status?.phase === phase && upgrade.status.underWay === 0) return upgrade;
      throw new Error(JSON.stringify(upgrade.nodes.map(({ node, phase: at }) => `${node} ${at}`)));
    });
  }

  async versions(): Promise<string> {
    const rows = await this.store.db.execute<{ version: string }>(
      `select agent_version as version from nodes order by name`,
    );
    return rows.map(({ version }) => version).join("");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#lifetime[Symbol.asyncDispose]();
    await this.fleet[Symbol.asyncDispose]();
  }
}

const phases = ({ nodes }: Upgrade): string => nodes.map(({ node, phase }) => `${node}:${phase}`).join(" ");

void test("an upgrade takes the canary, then group after group, and gives each node one order", async () => {
  await using nodes = await Nodes.of(5);
  const planned = await nodes.start({});
  assert.deepEqual(planned.nodes.map(({ group }) => group), [1, 2, 2, 3, 3]); // prettier-ignore
  await nodes.lead();
  const done = await nodes.reaches("Completed");
  assert.equal(done.status?.message, "5 of 5 nodes upgraded");
  assert.deepEqual([await nodes.versions(), nodes.most], ["22222", 2]);
  assert.deepEqual([...nodes.orders.values()].map(({ size }) => size), [1, 1, 1, 1, 1]); // prettier-ignore
  const events = (await listEvents(nodes.store.db, {})).items.filter(({ topic }) => topic === "/fleet/upgrade");
  assert.deepEqual(events.map(({ reason }) => reason), ["Started", "Completed"]); // prettier-ignore
});

void test("an upgrade goes on under another controller, with the same orders", async () => {
  await using nodes = await Nodes.of(3);
  nodes.behaves.set("n1", "hangs");
  await nodes.start({});
  const first = await nodes.lead();
  await eventually("the canary was asked", () => nodes.orders.size === 1);
  await first[Symbol.asyncDispose]();
  nodes.behaves.delete("n1");
  // Two at once: one of them leads.
  await nodes.lead();
  await nodes.lead();
  await nodes.reaches("Completed");
  assert.deepEqual([...nodes.orders.values()].map(({ size }) => size), [1, 1, 1]); // prettier-ignore
});

void test("an upgrade stops before the next group when too many nodes did not keep it, is told of, and resumes", async () => {
  await using nodes = await Nodes.of(5);
  nodes.behaves.set("n2", "takes back").set("n3", "refuses");
  await nodes.start({ maxFailures: 1 });
  await nodes.lead();
  const stopped = await nodes.reaches("Stopped");
  assert.equal(phases(stopped), "n1:Proven n2:TakenBack n3:Refused n4:Waiting n5:Waiting");
  assert.match(stopped.status!.message, /2 nodes did not keep the version \(n2, n3\): 2 nodes are not begun/);
  const told = await found(nodes.fleet, "UpgradeStopped");
  assert.deepEqual([told.area, told.subject, told.hint], ["stuck", `upgrade/${stopped.name}`, "berth upgrade status"]);
  await steerUpgrade(nodes.store, stopped.name, "resume");
  const done = await nodes.reaches("Completed");
  assert.equal(phases(done), "n1:Proven n2:TakenBack n3:Refused n4:Proven n5:Proven");
  assert.match(done.status!.message, /^3 of 5 nodes upgraded; 2 nodes did not keep the version \(n2, n3\)$/);
});

void test("a paused upgrade begins nothing, what is under way ends, and no other may start beside it", async () => {
  await using nodes = await Nodes.of(3);
  nodes.behaves.set("n1", "hangs");
  const { name } = await nodes.start({});
  await nodes.lead();
  await eventually("the canary was asked", () => nodes.orders.size === 1);
  await steerUpgrade(nodes.store, name, "pause");
  await assert.rejects(nodes.start({ to: "3" }), { reason: "UPGRADE_ACTIVE" });
  nodes.behaves.delete("n1");
  assert.equal(phases(await nodes.reaches("Paused")), "n1:Proven n2:Waiting n3:Waiting");
  await steerUpgrade(nodes.store, "-", "resume");
  await nodes.reaches("Completed");
  await assert.rejects(steerUpgrade(nodes.store, name, "pause"), { reason: "UPGRADE_ENDED" });
});

void test("undo cancels what is left and takes each node back to the version that it had", async () => {
  await using nodes = await Nodes.of(4);
  await nodes.store.db.execute(`update nodes set agent_version = '0' where name = 'n2'`);
  nodes.behaves.set("n3", "takes back");
  const { name } = await nodes.start({});
  await nodes.lead();
  await nodes.reaches("Stopped");
  assert.equal(await nodes.versions(), "2211");
  nodes.behaves.clear();
  const back = await undoUpgrade(nodes.store, name);
  assert.equal(back.nodes.map(({ node, to }) => `${node} to ${to}`).join(), "n1 to 1,n2 to 0");
  await nodes.reaches("Completed");
  assert.equal(await nodes.versions(), "1011");
  assert.equal((await getUpgrade(nodes.store.db, Number(name)))!.phase, "Cancelled");
  await assert.rejects(undoUpgrade(nodes.store, name), { reason: "UPGRADE_NOTHING_TO_DO" });
});

void test("a node that is silent or gone at its turn is skipped, and one that never answers is given up", async () => {
  await using nodes = await Nodes.of(4);
  nodes.behaves.set("n1", "hangs");
  await nodes.start({ maxFailures: 1 });
  await nodes.store.db.execute(`update nodes set phase = 'Unknown' where name = 'n2'`);
  await nodes.store.db.execute(`delete from nodes where name = 'n3'`);
  await nodes.lead();
  await eventually("the canary was asked", () => nodes.orders.size === 1);
  await nodes.store.db.execute(`update upgrade_nodes set ordered_at = now() - interval '6 minutes' where node = 'n1'`);
  const done = await nodes.reaches("Completed");
  assert.equal(phases(done), "n1:Silent n2:Skipped n3:Skipped n4:Proven");
});

void test("after a group it bakes, and the next is not begun before", async () => {
  await using nodes = await Nodes.of(2);
  await nodes.start({ bakeMs: 400 });
  await nodes.lead();
  const baking = await eventually("it bakes", async () => {
    const upgrade = await nodes.now();
    return upgrade.status?.bakingUntil === undefined ? undefined : upgrade;
  });
  assert.equal(phases(baking), "n1:Proven n2:Waiting");
  const { nodes: ended, status } = await nodes.reaches("Completed");
  const [first, second] = ended.map(({ orderedAt, finishedAt }) => ({ orderedAt, finishedAt }));
  const ms = (time: { seconds: bigint; nanos: number } | undefined): number =>
    Number(time!.seconds) * 1_000 + time!.nanos / 1e6;
  assert.ok(ms(second!.orderedAt) - ms(first!.finishedAt) >= 400);
  assert.equal(status?.bakingUntil, undefined);
});

void test("what cannot be started is refused with its field and the way out, and a dry run stores nothing", async () => {
  await using nodes = await Nodes.of(2);
  const refused = async (spec: Parameters<Nodes["start"]>[0], pattern: RegExp): Promise<void> => {
    await assert.rejects(nodes.start(spec), (error) => pattern.test(JSON.stringify([String(error), StatusError.from(error).violations]))); // prettier-ignore
  };
  await refused({ batch: "many" }, /spec\.batch.*neither a number of nodes/);
  await refused({ selector: "zone=nowhere" }, /spec\.selector.*matches no node/);
  await refused({ to: "1" }, /all 2 nodes are at 1 already/);
  await assert.rejects(steerUpgrade(nodes.store, "-", "pause"), /there was no upgrade yet/);
  await assert.rejects(steerUpgrade(nodes.store, "x", "pause"), { code: "INVALID_ARGUMENT" });
  const planned = await startUpgrade(nodes.store, create(UpgradeSpecSchema, { to: "2" }), true);
  assert.equal(planned.nodes.length, 2);
  assert.equal(await getUpgrade(nodes.store.db, undefined), undefined);
});
