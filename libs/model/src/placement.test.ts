import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { placeTasks, type PlacementNode, type PlacementTask } from "./placement.ts";

const node = (name: string, more: Partial<PlacementNode> = {}): PlacementNode => ({
  name,
  ready: true,
  cordoned: false,
  labels: {},
  runtimeHandlers: ["runc"],
  snapshotters: ["overlayfs"],
  cpuMillis: 2_000,
  memoryBytes: 2 ** 30,
  maxTasks: 100,
  usedCpuMillis: 0,
  usedMemoryBytes: 0,
  usedTasks: 0,
  usedHostPorts: [],
  ...more,
});

const task = (uid: string, more: Partial<PlacementTask> = {}): PlacementTask => ({
  uid,
  workloadUid: "w",
  cpuMillis: 0,
  memoryBytes: 0,
  hostPorts: [],
  nodeSelector: {},
  runtimeHandler: "",
  snapshotter: "",
  spreadBy: "",
  pinnedNode: null,
  ...more,
});

const nodesOf = (tasks: PlacementTask[], nodes: PlacementNode[]): (string | undefined)[] =>
  placeTasks(tasks, nodes, new Map()).map((decision) => decision.node);

const reasonOf = (one: PlacementTask, nodes: PlacementNode[]): string => {
  const [decision] = placeTasks([one], nodes, new Map());
  assert.ok(decision?.node === undefined);
  return decision!.reason;
};

void test("placeTasks spreads a workload over nodes", () => {
  assert.deepEqual(nodesOf([task("1"), task("2"), task("3"), task("4")], [node("a"), node("b")]), ["a", "b", "a", "b"]);
});

void test("placeTasks spreads over the values of a label", () => {
  const zones = [
    node("a1", { labels: { zone: "a" } }),
    node("a2", { labels: { zone: "a" } }),
    node("a3", { labels: { zone: "a" } }),
    node("b1", { labels: { zone: "b" } }),
  ];
  const tasks = ["1", "2", "3", "4"].map((uid) => task(uid, { spreadBy: "zone" }));
  const zoneOf = nodesOf(tasks, zones).map((name) => name![0]);
  assert.equal(zoneOf.filter((zone) => zone === "a").length, 2);
});

void test("placeTasks counts what a workload has already", () => {
  const [decision] = placeTasks([task("1")], [node("a"), node("b")], new Map([["w", new Map([["a", 1]])]]));
  assert.equal(decision!.node, "b");
});

void test("placeTasks prefers the emptier node for other workloads", () => {
  const nodes = [node("a", { usedCpuMillis: 1_500 }), node("b", { usedCpuMillis: 500 })];
  assert.deepEqual(nodesOf([task("1", { cpuMillis: 100 })], nodes), ["b"]);
});

void test("placeTasks says why no node fits", () => {
  const big = task("1", { cpuMillis: 500, nodeSelector: { disk: "ssd" } });
  const ssd = { labels: { disk: "ssd" } };
  assert.equal(
    reasonOf(big, [node("a"), node("b", { ...ssd, usedCpuMillis: 1_800 })]),
    "0 of 2 nodes fit: 1 lacks label disk=ssd, 1 has 200m cpu left of 500m asked",
  );
  assert.equal(
    reasonOf(big, [
      node("a", { ...ssd, usedCpuMillis: 1_900 }),
      node("b", { ...ssd, usedCpuMillis: 1_800 }),
      node("c", { ready: false }),
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
    reasonOf(task("1", { pinnedNode: "a" }), [node("a", { cordoned: true }), node("b")]),
    "node a does not fit: it is cordoned",
  );
  assert.equal(reasonOf(task("1", { pinnedNode: "c" }), [node("a")]), "node c is not there any more");
  assert.equal(reasonOf(task("1"), []), "no node has joined the fleet yet");
});

const anyNode = fc.record({
  ready: fc.boolean(),
  cordoned: fc.boolean(),
  disk: fc.constantFrom("ssd", "hdd"),
  cpuMillis: fc.integer({ min: 0, max: 4_000 }),
  memoryBytes: fc.integer({ min: 0, max: 4_000 }),
  maxTasks: fc.integer({ min: 0, max: 5 }),
  usedCpuMillis: fc.integer({ min: 0, max: 2_000 }),
  usedTasks: fc.integer({ min: 0, max: 3 }),
  usedHostPorts: fc.subarray(["tcp/1", "tcp/2"]),
});
const anyTask = fc.record({
  workloadUid: fc.constantFrom("w", "v"),
  cpuMillis: fc.integer({ min: 0, max: 2_000 }),
  memoryBytes: fc.integer({ min: 0, max: 2_000 }),
  hostPorts: fc.subarray(["tcp/1", "tcp/2"]),
  nodeSelector: fc.constantFrom<Record<string, string>>({}, { disk: "ssd" }),
  spreadBy: fc.constantFrom("", "disk"),
});

void test("placeTasks never breaks a filter, and leaves out only what fits nowhere", () => {
  fc.assert(
    fc.property(fc.array(anyNode, { maxLength: 5 }), fc.array(anyTask, { maxLength: 25 }), (nodeParts, taskParts) => {
      const nodes = nodeParts.map(({ disk, ...more }, i) => node(`n${i}`, { ...more, labels: { disk } }));
      const tasks = taskParts.map((more, i) => task(`t${i}`, more));
      const decisions = placeTasks(tasks, nodes, new Map());
      const on = (name: string): PlacementTask[] => tasks.filter((_, i) => decisions[i]!.node === name);
      for (const each of nodes) {
        const placed = on(each.name);
        if (placed.length === 0) continue;
        assert.ok(each.ready && !each.cordoned);
        const cpu = placed.filter((t) => t.cpuMillis > 0).reduce((sum, t) => sum + t.cpuMillis, each.usedCpuMillis);
        assert.ok(cpu <= each.cpuMillis || placed.every((t) => t.cpuMillis === 0));
        assert.ok(placed.reduce((sum, t) => sum + t.memoryBytes, 0) <= each.memoryBytes);
        if (each.maxTasks > 0) assert.ok(placed.length + each.usedTasks <= each.maxTasks);
        const ports = [...each.usedHostPorts, ...placed.flatMap((t) => t.hostPorts)];
        assert.equal(new Set(ports).size, ports.length);
        for (const t of placed) if ("disk" in t.nodeSelector) assert.equal(each.labels["disk"], "ssd");
      }
      // What was left out fits nowhere in the end either: usage only grows.
      const after = nodes.map((each) => {
        const placed = on(each.name);
        return {
          ...each,
          usedCpuMillis: each.usedCpuMillis + placed.reduce((sum, t) => sum + t.cpuMillis, 0),
          usedMemoryBytes: placed.reduce((sum, t) => sum + t.memoryBytes, 0),
          usedTasks: each.usedTasks + placed.length,
          usedHostPorts: [...each.usedHostPorts, ...placed.flatMap((t) => t.hostPorts)],
        };
      });
      const left = tasks.filter((_, i) => decisions[i]!.node === undefined);
      for (const t of left) assert.equal(placeTasks([t], after, new Map())[0]!.node, undefined);
      assert.deepEqual(placeTasks(tasks, nodes, new Map()), decisions);
    }),
  );
});
