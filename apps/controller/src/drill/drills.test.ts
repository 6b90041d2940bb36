/** A drill's record on a real Postgres, with agents that only keep journals: who begins it may die, several judge it, each step is told once. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { silentLogger, StatusError } from "@berth/base";
import { DrillOrderReplySchema, RunDrillRequestSchema, type DrillOrder, type DrillStep } from "@berth/proto";
import {
  getDrill,
  insertDrill,
  listDrills,
  listEvents,
  lockDrill,
  storeTime,
  writeDrill,
  type DrillRow,
} from "@berth/store";
import { eventually } from "@berth/testkit/servers";
import { startTestDatabases, TestFleet, type TestDatabases } from "../testing/test-fleet.ts";
import { beginDrill, planDrill, type DrillDeps } from "./begin.ts";
import { startDrills } from "./drills.ts";
import { followDrill } from "./follow.ts";

let databases: TestDatabases;
let fleet: TestFleet;
before(async () => {
  databases = await startTestDatabases();
  fleet = await TestFleet.open(databases, { leaseTtlMs: 20_000 });
  await fleet.startController();
  for (const name of ["node-1", "node-2"]) await fleet.addAgent(name, { labels: { host: name } });
  await fleet.apply("web", { replicas: 4 });
  await fleet.converged("web", 4);
});
after(async () => {
  await fleet?.[Symbol.asyncDispose]();
  await databases?.[Symbol.asyncDispose]();
});

const { signal } = new AbortController();
const request = (more: MessageInitShape<typeof RunDrillRequestSchema> = {}) =>
  create(RunDrillRequestSchema, { kind: "pause", selector: "host=node-1", duration: durationFromMs(5_000), ...more }); // prettier-ignore
/** Agents that answer so. */
const agents = (answer: (order: DrillOrder) => string): { deps: DrillDeps; orders: DrillOrder[] } => {
  const orders: DrillOrder[] = [];
  const ask = async (_endpoint: unknown, _node: string, order: DrillOrder) => {
    orders.push(order);
    return create(DrillOrderReplySchema, { refused: answer(order) });
  };
  return { deps: { store: fleet.store, bus: { request: ask } as unknown as DrillDeps["bus"] }, orders };
};
const record = async (name: string): Promise<DrillRow> => (await getDrill(fleet.store.db, name))!;
async function stepsOf(name: string): Promise<DrillStep[]> {
  const steps: DrillStep[] = [];
  for await (const step of followDrill(fleet.store, { name, after: 0 }, signal)) steps.push(step);
  return steps;
}

void test("beginDrill asks before it is on record, and a dry run only asks", async () => {
  const refusing = agents(({ check }) => (check ? "nothing starts its agent again" : ""));
  const kill = request({ kind: "kill", duration: undefined! });
  for (const refused of [beginDrill, planDrill]) {
    await assert.rejects(refused(refusing.deps, kill, signal), {
      reason: "DRILL_REFUSED",
      message: "node node-1: nothing starts its agent again",
    });
  }
  const willing = agents(() => "");
  const { message, drill } = await planDrill(willing.deps, request(), signal);
  assert.match(
    message,
    /^would pause the agent of node-1 for 5 s, with 2 tasks; the lease lasts 20 s: nobody will notice/,
  );
  assert.equal(drill, "");
  assert.deepEqual([...refusing.orders, ...willing.orders].map(({ check }) => check), [true, true, true]); // prettier-ignore
  assert.deepEqual((await listDrills(fleet.store.db, {})).items, []);
});

void test("beginDrill ends a drill that not every agent has taken, and says which", async () => {
  const { deps } = agents(() => {
    throw new StatusError("UNAVAILABLE", "nobody answers");
  });
  const begun = beginDrill(deps, request({ kind: "partition" }), signal);
  await assert.rejects(begun, {
    reason: "DRILL_NOT_BEGUN",
    message: /heal by themselves: node node-1: nobody answers/,
  });
  const [row] = (await listDrills(fleet.store.db, {})).items;
  assert.equal(row?.verdict, "NotBegun");
  assert.deepEqual((await stepsOf(row.name)).map(({ step }) => step), ["Ended"]); // prettier-ignore
});

void test("startDrills judges a drill whose controller died as it gave the order, once although several look", async () => {
  const { deps } = agents(() => "");
  const {
    selector,
    nodes,
    kind,
    durationMs,
    before: earlier,
    name: begun,
  } = await record(await beginDrill(deps, request(), signal));
  const name = "pause-lost";
  const createdAt = new Date((await storeTime(fleet.store.db)).getTime() - 10_000);
  await fleet.store.transaction(async (tx) => {
    await writeDrill(tx, (await lockDrill(tx, begun))!, { steps: [], verdict: "Passed" });
    // As it is on record before all have taken the order.
    await insertDrill(tx, { name, selector, nodes, kind, durationMs, before: earlier, createdAt });
  });
  const judges = [{ lookMs: 20, idleMs: 50 }, { lookMs: 20, idleMs: 50 }].map((config) => startDrills({ store: fleet.store, logger: silentLogger }, config)); // prettier-ignore
  await using _first = await judges[0]!;
  await using _second = await judges[1]!;
  const steps = await eventually("it is judged", () => stepsOf(name));
  assert.deepEqual(steps.map(({ step }) => step), ["Started", "Healed", "Converged", "Ended"]); // prettier-ignore
  assert.match(steps[0]!.message, /the controller that gave the orders is gone/);
  const { verdict, invariants } = steps.at(-1)!.report!;
  assert.equal(verdict, "NotTested");
  const outcomes = Object.fromEntries(invariants.map((each) => [each.name, `${each.outcome} ${each.message}`.trim()]));
  assert.equal(outcomes["it was noticed"], "NotTried the pause was shorter than the lease of 20 s: nothing was tested");
  assert.equal(
    outcomes["each stopThenReplace task was replaced after T"],
    "NotTried no stopThenReplace task was there",
  );
  assert.equal(outcomes["all other containers went on"], "Held");
  const { items } = await listEvents(fleet.store.db, { pageSize: 1_000 });
  const told = items.filter((event) => event.name === name && event.topic.startsWith("/drills/"));
  assert.deepEqual(told.map(({ topic }) => topic).toSorted(), ["converged", "end", "healed", "start"].map((each) => `/drills/${each}`)); // prettier-ignore
});
