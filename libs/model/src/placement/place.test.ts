import assert from "node:assert/strict";
import { test } from "node:test";
import { PlacementBatch, type PlacementFleet } from "./batch.ts";
import type { PlacementTask } from "./ask.ts";
import type { PlacementNode } from "./node.ts";
import {
  CORDONED,
  effectiveTaints,
  formatTaint,
  leaveByMs,
  NOT_READY,
  UNREACHABLE,
  type Taint,
  type Toleration,
} from "./taints.ts";
import { termKey } from "./topology.ts";
import { fleet, node, task, term } from "./testing/fleets.ts";

const nodesOf = (tasks: PlacementTask[], nodes: PlacementNode[], more: Partial<PlacementFleet> = {}) =>
  new PlacementBatch(fleet(nodes, more)).place(tasks).map((decision) => decision.node);

const reasonOf = (one: PlacementTask, nodes: PlacementNode[], more: Partial<PlacementFleet> = {}): string => {
  const [decision] = new PlacementBatch(fleet(nodes, more)).place([one]);
  assert.ok(decision?.node === undefined);
  return decision!.reason;
};

const many = (count: number, more: Parameters<typeof task>[1] = {}): PlacementTask[] =>
  Array.from({ length: count }, (_, index) => task(`t${index}`, more));

const taint = (key: string, effect: Taint["effect"], value = ""): Taint => ({ key, value, effect });
const toleration = (more: Partial<Toleration>): Toleration => ({
  key: "",
  operator: "Exists",
  value: "",
  effect: "",
  seconds: undefined,
  ...more,
});
const zoned = (...names: string[]): PlacementNode[] => names.map((name) => node(name, { labels: { zone: name[0]! } }));

void test("PlacementBatch spreads a workload over nodes", () => {
  assert.deepEqual(nodesOf(many(4), [node("a"), node("b")]), ["a", "b", "a", "b"]);
});

void test("PlacementBatch spreads over several levels of failure domains", () => {
  const spread = [{ topologyKey: "zone", maxSkew: 1, hard: false }];
  const placed = nodesOf(many(4, { rules: { spread } }), zoned("a1", "a2", "a3", "b1", "b2"));
  assert.deepEqual(new Set(placed), new Set(["a1", "a2", "b1", "b2"]));
});

void test("PlacementBatch lets no domain be further ahead than a hard maxSkew allows", () => {
  const spread = [{ topologyKey: "zone", maxSkew: 1, hard: true }];
  const nodes = [...zoned("a1", "a2"), node("b1", { labels: { zone: "b" }, maxTasks: 1 })];
  const placed = nodesOf(many(5, { rules: { spread } }), nodes);
  assert.equal(placed.map((name) => name?.[0] ?? "-").join(""), "aba--");
  assert.equal(
    reasonOf(
      task("x", { rules: { spread } }),
      [...zoned("a1"), node("b1", { labels: { zone: "b" }, maxTasks: 1, usedTasks: 1 }), node("c")],
      {
        placed: { workloads: new Map([["w", new Map([["a1", 1]])]]), terms: new Map() },
      },
    ),
    "0 of 3 nodes fit: 1 would be more than 1 ahead of the emptiest zone, 1 has no room for another task, " +
      "1 lacks label zone, whose values are its failure domains",
  );
  const overNodes = [{ topologyKey: "", maxSkew: 1, hard: true }];
  const small = [node("a"), node("b", { maxTasks: 1 })];
  assert.deepEqual(nodesOf(many(4, { rules: { spread: overNodes } }), small), ["a", "b", "a", undefined]);
});

void test("PlacementBatch counts what a workload has already", () => {
  const placed = { workloads: new Map([["w", new Map([["a", 1]])]]), terms: new Map() };
  assert.deepEqual(nodesOf([task("1")], [node("a"), node("b")], { placed }), ["b"]);
});

void test("PlacementBatch prefers the emptier node, and a warm one before that", () => {
  const nodes = [node("a", { usedCpuMillis: 800 }), node("b", { usedCpuMillis: 500 })];
  const one = task("1", { cpuMillis: 100, image: "app:v1" });
  assert.deepEqual(nodesOf([one], nodes), ["b"]);
  assert.deepEqual(nodesOf([one], nodes, { warm: new Map([["app:v1", new Set(["a"])]]) }), ["a"]);
});

void test("PlacementBatch gives higher priority the first choice, whatever the order", () => {
  const small = node("a", { maxTasks: 1 });
  const tasks = [task("low"), task("high", { workloadUid: "v", rules: { priority: 10 } })];
  assert.deepEqual(nodesOf(tasks, [small]), [undefined, "a"]);
});

void test("PlacementBatch keeps off tainted nodes what does not tolerate the taint", () => {
  const nodes = [node("a", { taints: [taint("gpu", "NoSchedule", "yes")] })];
  const with_ = (more: Partial<Toleration>): PlacementTask => task("1", { rules: { tolerations: [toleration(more)] } });
  assert.equal(
    reasonOf(task("1"), nodes),
    "0 of 1 node fits: 1 has taint gpu=yes:NoSchedule that it does not tolerate",
  );
  assert.deepEqual(nodesOf([with_({ key: "gpu" })], nodes), ["a"]);
  assert.deepEqual(nodesOf([with_({ key: "gpu", operator: "Equal", value: "yes", effect: "NoSchedule" })], nodes), [
    "a",
  ]);
  assert.deepEqual(nodesOf([with_({ key: "gpu", operator: "Equal", value: "no" })], nodes), [undefined]);
  assert.deepEqual(nodesOf([with_({ key: "gpu", effect: "NoExecute" })], nodes), [undefined]);
  const soft = [node("a", { taints: [taint("spot", "PreferNoSchedule")] }), node("b", { usedCpuMillis: 1_999 })];
  assert.deepEqual(nodesOf([task("1")], soft), ["b"]);
  for (const state of [CORDONED, NOT_READY, UNREACHABLE]) {
    const out = [node("a", { taints: [state] })];
    assert.deepEqual(nodesOf([task("1")], out), [undefined]);
    assert.deepEqual(nodesOf([with_({ key: state.key })], out), ["a"]);
  }
});

void test("PlacementBatch obeys node affinity, required and preferred", () => {
  const nodes = [node("a", { labels: { cores: "4", disk: "ssd" } }), node("b", { labels: { cores: "16" } })];
  const need = (operator: "Gt" | "Lt" | "DoesNotExist", key: string, ...values: string[]): PlacementTask =>
    task("1", { rules: { nodeAffinity: { required: [[{ key, operator, values }]], preferred: [] } } });
  assert.deepEqual(nodesOf([need("Gt", "cores", "8")], nodes), ["b"]);
  assert.deepEqual(nodesOf([need("Lt", "cores", "8")], nodes), ["a"]);
  assert.deepEqual(nodesOf([need("DoesNotExist", "disk")], nodes), ["b"]);
  assert.equal(reasonOf(need("Gt", "cores", "32"), nodes), "0 of 2 nodes fit: 2 do not match cores>32");
  const prefer = { weight: 1, term: [{ key: "cores", operator: "In", values: ["16"] }] } as const;
  assert.deepEqual(nodesOf([task("1", { rules: { nodeAffinity: { required: [], preferred: [prefer] } } })], nodes), [
    "b",
  ]);
});

void test("PlacementBatch brings tasks near others and keeps them apart, in both directions", () => {
  const nodes = zoned("a1", "b1", "b2");
  const db = term("app=db", "zone");
  const terms = new Map([[termKey(db), new Map([["b1", 1]])]]);
  const placed = { workloads: new Map([["db", new Map([["b1", 1]])]]), terms };
  const near = task("1", { rules: { taskAffinity: { required: [db], preferred: [] } } });
  const apart = task("1", { rules: { taskAntiAffinity: { required: [db], preferred: [] } } });
  assert.deepEqual(nodesOf([near], nodes, { placed }), ["b1"]);
  assert.equal(reasonOf(near, nodes), "0 of 3 nodes fit: 3 have no app=db in its zone");
  assert.deepEqual(nodesOf([apart], nodes, { placed }), ["a1"]);
  // The database keeps webs away; the web itself says nothing of it.
  const web = task("1", { labels: { app: "web" } });
  const repellers = [{ workloadUid: "db", term: term("app=web", "zone") }];
  assert.deepEqual(nodesOf([web], nodes, { placed, repellers }), ["a1"]);
  assert.equal(
    reasonOf(web, zoned("b1", "b2"), { placed, repellers }),
    "0 of 2 nodes fit: 2 are kept free of app=web in its zone by another workload",
  );
  // The first of those that want to be together may go anywhere, the others follow.
  const together = {
    labels: { app: "x" },
    rules: { taskAffinity: { required: [term("app=x", "zone")], preferred: [] } },
  };
  assert.equal(new Set(nodesOf(many(3, together), nodes).map((name) => name![0])).size, 1);
  const alone = { labels: { app: "x" }, rules: { taskAntiAffinity: { required: [term("app=x")], preferred: [] } } };
  assert.deepEqual(nodesOf(many(4, alone), nodes), ["a1", "b1", "b2", undefined]);
});

void test("PlacementBatch places a gang whole or not at all", () => {
  const nodes = [node("a", { maxTasks: 2 }), node("b", { maxTasks: 1 })];
  const gang = { rules: { gang: true } };
  assert.deepEqual(nodesOf(many(3, gang), nodes), ["a", "b", "a"]);
  const batch = new PlacementBatch(fleet(nodes));
  const after = task("after", { workloadUid: "v" });
  const decisions = batch.place([...many(4, gang), after]);
  assert.deepEqual(
    decisions.map((decision) => decision.node),
    [undefined, undefined, undefined, undefined, "a"],
  );
  assert.ok(decisions[0]!.node === undefined);
  assert.equal(
    decisions[0]!.reason,
    "3 of 4 tasks of the gang fit together; 0 of 2 nodes fit: 2 have no room for another task",
  );
});

void test("PlacementBatch keeps room that is being made from all but higher priority", () => {
  const nodes = [node("a", { maxTasks: 1 })];
  const waiting = task("waiting", { workloadUid: "v", nominatedNode: "a", rules: { priority: 10 } });
  const reservations = [waiting];
  assert.deepEqual(nodesOf([task("low")], nodes, { reservations }), [undefined]);
  assert.deepEqual(nodesOf([task("low"), waiting], nodes, { reservations }), [undefined, "a"]);
  const higher = task("higher", { workloadUid: "u", rules: { priority: 20 } });
  assert.deepEqual(nodesOf([waiting, higher], nodes, { reservations }), [undefined, "a"]);
  // Elsewhere is better than waiting, and frees what was kept.
  const two = [node("a", { maxTasks: 1, usedTasks: 1 }), node("b", { maxTasks: 1 })];
  assert.deepEqual(nodesOf([waiting], two, { reservations }), ["b"]);
});

void test("PlacementBatch says why no node fits", () => {
  const big = task("1", { cpuMillis: 500, rules: { nodeSelector: { disk: "ssd" } } });
  const ssd = { labels: { disk: "ssd" } };
  assert.equal(
    reasonOf(big, [node("a"), node("b", { ...ssd, usedCpuMillis: 1_800 })]),
    "0 of 2 nodes fit: 1 lacks label disk=ssd, 1 has 200m cpu left of 500m asked",
  );
  assert.equal(
    reasonOf(big, [
      node("a", { ...ssd, usedCpuMillis: 1_900 }),
      node("b", { ...ssd, usedCpuMillis: 1_800 }),
      node("c", { taints: [NOT_READY] }),
    ]),
    "0 of 3 nodes fit: 2 have at most 200m cpu left of 500m asked, 1 is not ready",
  );
  assert.equal(
    reasonOf(task("1", { memoryBytes: 2 ** 31 }), [node("a")]),
    "0 of 1 node fits: 1 has 1Gi memory left of 2Gi asked",
  );
  assert.equal(
    reasonOf(task("1", { runtimeHandler: "kata" }), [node("a")]),
    "0 of 1 node fits: 1 lacks runtime handler kata",
  );
  assert.equal(
    reasonOf(task("1", { hostPorts: ["tcp/80"] }), [node("a", { usedHostPorts: ["tcp/80"] })]),
    "0 of 1 node fits: 1 has host port tcp/80 taken",
  );
  assert.equal(
    reasonOf(task("1", { pinnedNode: "a" }), [node("a", { taints: [CORDONED] }), node("b")]),
    "node a does not fit: it is cordoned",
  );
  assert.equal(reasonOf(task("1", { pinnedNode: "c" }), [node("a")]), "node c is not there any more");
  assert.equal(reasonOf(task("1"), []), "no node has joined the fleet yet");
});

void test("leaveByMs is the earliest end of what is tolerated", () => {
  const at = (key: string, addedAtMs: number) => ({ ...taint(key, "NoExecute"), addedAtMs });
  const bears = (key: string, seconds: number | undefined): Toleration => toleration({ key, seconds });
  assert.equal(leaveByMs([at("a", 5)], []), 5);
  assert.equal(leaveByMs([at("a", 5)], [bears("a", 10)]), 10_005);
  assert.equal(leaveByMs([at("a", 5)], [bears("a", 10), bears("a", undefined)]), undefined);
  assert.equal(leaveByMs([at("a", 5), at("b", 7)], [bears("a", 10), bears("b", 1)]), 1_007);
  assert.equal(leaveByMs([{ ...taint("a", "NoSchedule"), addedAtMs: 5 }], []), undefined);
});

void test("effectiveTaints follow from what the node is and says, beside the operator's", () => {
  const of = (more: Partial<Parameters<typeof effectiveTaints>[0]>): string[] =>
    effectiveTaints({ phase: "Ready", cordoned: false, taints: [], conditions: [], ...more }).map(formatTaint);
  assert.deepEqual(of({}), []);
  const conditions = [
    { type: "DiskPressure", status: "True" },
    { type: "MemoryPressure", status: "False" },
    { type: "Stopper", status: "True" },
  ];
  assert.deepEqual(of({ conditions }), ["berth.io/disk-pressure:NoSchedule"]);
  assert.deepEqual(of({ phase: "Unknown", cordoned: true, taints: [taint("gpu", "NoExecute", "a")] }), [
    "gpu=a:NoExecute",
    "berth.io/cordoned:NoSchedule",
    "berth.io/unreachable:NoSchedule",
  ]);
  assert.deepEqual(of({ phase: "NotReady" }), ["berth.io/not-ready:NoSchedule"]);
});

void test("PlacementBatch looks at few nodes for each task, however many there are", () => {
  let looks = 0;
  const nodes = Array.from({ length: 2_000 }, (_, n) => ({
    ...node(`n${n}`, { labels: { zone: `z${n % 3}` } }),
    // Asked for once in each look at how full a node is.
    get maxTasks() {
      looks += 1;
      return 100;
    },
  }));
  const batch = new PlacementBatch(fleet(nodes));
  const spread = [{ topologyKey: "zone", maxSkew: 1, hard: true }];
  batch.place(many(1, { cpuMillis: 10, rules: { spread } }));
  looks = 0;
  const decisions = batch.place(many(1_000, { cpuMillis: 10, rules: { spread } }));
  assert.ok(decisions.every((decision) => decision.node !== undefined));
  assert.ok(looks < 1_000 * 40, `${looks / 1_000} looks for each task`);
});
