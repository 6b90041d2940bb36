/** What holds of every placement, over random fleets and workloads with everything at once. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { PlacementTask } from "./ask.ts";
import { PlacementBatch, unitsOf, type PlacementDecision } from "./batch.ts";
import { makeRoom, type PlacedTask, type Nomination } from "./make-room.ts";
import type { PlacementNode } from "./node.ts";
import { isTolerated } from "./taints.ts";
import { domainOf, termMatches } from "./topology.ts";
import { fleet, repellersOf, someNodes, someTasks, task } from "./testing/fleets.ts";

const warm = new Map([["warm", new Set(["n0", "n2", "n5"])]]);
const fleetOf = (nodes: readonly PlacementNode[], tasks: readonly PlacementTask[]) =>
  fleet(nodes, { repellers: repellersOf(tasks), warm });

const placedOn = (tasks: readonly PlacementTask[], decisions: readonly PlacementDecision[], name: string) =>
  tasks.filter((_, index) => decisions[index]!.node === name);

void test("PlacementBatch decides as a look at every node does, and the same for the same input", () => {
  fc.assert(
    fc.property(someNodes, someTasks, (nodes, tasks) => {
      const quick = new PlacementBatch(fleetOf(nodes, tasks)).place(tasks);
      const plain = new PlacementBatch(fleetOf(nodes, tasks), { plain: true }).place(tasks);
      assert.deepEqual(quick, plain);
      assert.deepEqual(new PlacementBatch(fleetOf(nodes.toReversed(), tasks)).place(tasks), quick);
    }),
    { numRuns: 400 },
  );
});

void test("PlacementBatch promises no more than a node has, no port twice, and violates no taint", () => {
  fc.assert(
    fc.property(someNodes, someTasks, (nodes, tasks) => {
      const decisions = new PlacementBatch(fleetOf(nodes, tasks)).place(tasks);
      for (const node of nodes) {
        const here = placedOn(tasks, decisions, node.name);
        if (here.length === 0) continue;
        const sum = (of: (each: PlacementTask) => number): number => here.reduce((total, each) => total + of(each), 0);
        if (here.some(({ cpuMillis }) => cpuMillis > 0)) {
          assert.ok(node.usedCpuMillis + sum(({ cpuMillis }) => cpuMillis) <= node.cpuMillis);
        }
        assert.ok(sum(({ memoryBytes }) => memoryBytes) <= node.memoryBytes);
        if (node.maxTasks > 0) assert.ok(node.usedTasks + here.length <= node.maxTasks);
        const ports = [...node.usedHostPorts, ...here.flatMap(({ hostPorts }) => hostPorts)];
        assert.equal(new Set(ports).size, ports.length);
        for (const { rules, pinnedNode } of here) {
          for (const taint of node.taints) {
            assert.ok(taint.effect === "PreferNoSchedule" || isTolerated(taint, rules.tolerations));
          }
          assert.ok(pinnedNode === null || pinnedNode === node.name);
          if ("disk" in rules.nodeSelector) assert.equal(node.labels["disk"], "ssd");
        }
      }
    }),
    { numRuns: 300 },
  );
});

void test("PlacementBatch keeps gangs whole and those apart that are to be apart", () => {
  fc.assert(
    fc.property(someNodes, someTasks, (nodes, tasks) => {
      const byName = new Map(nodes.map((node) => [node.name, node]));
      const decisions = new PlacementBatch(fleetOf(nodes, tasks)).place(tasks);
      const nodeOf = new Map(
        decisions.map(({ uid, node }) => [uid, node === undefined ? undefined : byName.get(node)]),
      );
      for (const unit of unitsOf(tasks)) {
        assert.ok(new Set(unit.map(({ uid }) => nodeOf.get(uid) === undefined)).size === 1, "a gang is half placed");
      }
      for (const one of tasks) {
        for (const other of tasks) {
          const [here, there] = [nodeOf.get(one.uid), nodeOf.get(other.uid)];
          if (one === other || here === undefined || there === undefined) continue;
          for (const each of one.rules.taskAntiAffinity.required) {
            const domain = domainOf(here, each.topologyKey);
            if (domain === "" || !termMatches(each, other)) continue;
            assert.notEqual(domain, domainOf(there, each.topologyKey));
          }
        }
      }
    }),
    { numRuns: 300 },
  );
});

const lower = fc.array(
  fc.record({
    on: fc.nat({ max: 7 }),
    workload: fc.nat({ max: 2 }),
    priority: fc.constantFrom(-5, 0, 5, 10),
    cpuMillis: fc.integer({ min: 0, max: 1_000 }),
    memoryBytes: fc.integer({ min: 0, max: 1_000 }),
    port: fc.constantFrom("", "tcp/1", "tcp/2"),
    leaving: fc.constantFrom(false, false, false, true),
  }),
  { maxLength: 20 },
);

/** A fleet that is filled by these tasks and nothing else. */
function filled(
  nodes: readonly PlacementNode[],
  parts: readonly (typeof lower extends fc.Arbitrary<infer T> ? T : never)[number][],
) {
  const taken = new Set<string>();
  const tasks = parts.flatMap(
    ({ on, workload, port, leaving, ...more }, index): (PlacedTask & { leaving: boolean })[] => {
      const node = nodes[on];
      if (node === undefined || taken.has(`${on} ${port}`)) return [];
      if (port !== "") taken.add(`${on} ${port}`);
      const hostPorts = port === "" ? [] : [port];
      return [
        {
          ...more,
          uid: `p${index}`,
          node: node.name,
          workloadUid: `v${workload}`,
          hostPorts,
          createdAtMs: index,
          leaving,
        },
      ];
    },
  );
  const full = nodes.map((node) => {
    const here = tasks.filter((each) => each.node === node.name);
    const cpu = here.reduce((sum, each) => sum + each.cpuMillis, 0);
    const memory = here.reduce((sum, each) => sum + each.memoryBytes, 0);
    return {
      ...node,
      usedCpuMillis: cpu,
      usedMemoryBytes: memory,
      cpuMillis: Math.max(node.cpuMillis, cpu),
      memoryBytes: Math.max(node.memoryBytes, memory),
      usedTasks: here.length,
      maxTasks: node.maxTasks === 0 ? 0 : Math.max(node.maxTasks, here.length),
      usedHostPorts: here.flatMap(({ hostPorts }) => hostPorts),
    };
  });
  return { tasks, full };
}

void test("makeRoom stops only lower priority, within bounds, no more than needed, and then the task fits", () => {
  let made = 0;
  fc.assert(
    fc.property(someNodes, lower, someTasks, fc.nat({ max: 2 }), (nodes, parts, tasks, bound) => {
      const { tasks: placed, full } = filled(nodes, parts);
      const input = {
        placed: placed.filter(({ leaving }) => !leaving),
        leaving: placed.filter(({ leaving }) => leaving),
        allowance: new Map([["v0", bound]]),
      };
      const wanted = tasks.map((each) => ({ ...each, rules: { ...each.rules, preempts: true } }));
      const batch = new PlacementBatch(fleetOf(full, wanted));
      const decisions = batch.place(wanted);
      const waiting = wanted.filter((_, index) => decisions[index]!.node === undefined);
      const nominations = makeRoom(batch, unitsOf(waiting), input);
      made += nominations.length;
      const priorities = new Map(wanted.map(({ uid, rules }) => [uid, rules.priority]));
      const victims = nominations.flatMap((each) => each.victims.map((victim) => ({ victim, by: each.uid })));
      for (const { victim, by } of victims) assert.ok(victim.priority < priorities.get(by)!);
      assert.equal(new Set(victims.map(({ victim }) => victim.uid)).size, victims.length, "one is stopped twice");
      assert.ok(victims.filter(({ victim }) => victim.workloadUid === "v0").length <= bound);
      const unitOf = new Map(unitsOf(waiting).flatMap((unit) => unit.map(({ uid }) => [uid, unit.length] as const)));
      const gangs = nominations.filter(({ uid }) => unitOf.get(uid)! > 1);
      for (const unit of unitsOf(waiting)) {
        const got = unit.filter(({ uid }) => nominations.some((each) => each.uid === uid));
        assert.ok(got.length === 0 || got.length === unit.length, "a gang is half nominated");
      }
      if (gangs.length === 0) assertFitsAfter(full, wanted, decisions, nominations, input.leaving);
    }),
    { numRuns: 500 },
  );
  assert.ok(made > 50, `only ${made} nominations were seen`);
});

/** With the victims and the leaving gone and the nominated there, no node holds more than it may. */
function assertFitsAfter(
  nodes: readonly PlacementNode[],
  tasks: readonly PlacementTask[],
  decisions: readonly PlacementDecision[],
  nominations: readonly Nomination[],
  leaving: readonly PlacedTask[],
): void {
  const byUid = new Map(tasks.map((each) => [each.uid, each]));
  for (const { name, node } of nodes.map((each) => ({ name: each.name, node: each }))) {
    const nominated = nominations.filter((each) => each.node === name);
    if (nominated.length === 0) continue;
    const gone = [...leaving.filter((each) => each.node === name), ...nominated.flatMap(({ victims }) => victims)];
    const here = [...placedOn(tasks, decisions, name), ...nominated.map(({ uid }) => byUid.get(uid)!)];
    const cpu = node.usedCpuMillis + total(here, "cpuMillis") - total(gone, "cpuMillis");
    const memory = node.usedMemoryBytes + total(here, "memoryBytes") - total(gone, "memoryBytes");
    assert.ok(cpu <= node.cpuMillis && memory <= node.memoryBytes, `${name} would hold too much`);
    if (node.maxTasks > 0) assert.ok(node.usedTasks + here.length - gone.length <= node.maxTasks);
    const freed = gone.flatMap(({ hostPorts }) => hostPorts);
    const kept = [...node.usedHostPorts].filter((port) => !freed.includes(port));
    const ports = [...kept, ...here.flatMap(({ hostPorts }) => hostPorts)];
    assert.equal(new Set(ports).size, ports.length);
    nominated.forEach(({ uid, victims }, index) => {
      // Each was needed when it was chosen: with one fewer gone the room does not suffice for what is asked there.
      const asked = byUid.get(uid)!;
      const [then, later] = [nominated.slice(0, index + 1), nominated.slice(index + 1)];
      const before = (of: "cpuMillis" | "memoryBytes"): number =>
        total(later.flatMap((each) => each.victims), of) - total(later.map((each) => byUid.get(each.uid)!), of); // prettier-ignore
      const usedCpu = cpu + before("cpuMillis");
      const usedMemory = memory + before("memoryBytes");
      const goneThen = gone.length - later.flatMap((each) => each.victims).length;
      const hereThen = here.length - later.length;
      const portsThen = then.flatMap((each) => byUid.get(each.uid)!.hostPorts);
      for (const victim of victims) {
        const short =
          (asked.cpuMillis > 0 && usedCpu + victim.cpuMillis > node.cpuMillis) ||
          (asked.memoryBytes > 0 && usedMemory + victim.memoryBytes > node.memoryBytes) ||
          (node.maxTasks > 0 && node.usedTasks + hereThen - goneThen + 1 > node.maxTasks) ||
          victim.hostPorts.some((port) => portsThen.includes(port));
        assert.ok(short, `${victim.uid} was stopped in vain`);
      }
    });
  }
}

function total(
  tasks: readonly { cpuMillis: number; memoryBytes: number }[],
  what: "cpuMillis" | "memoryBytes",
): number {
  return tasks.reduce((sum, each) => sum + each[what], 0);
}

void test("makeRoom takes the least important, then the fewest", () => {
  const nodes = ["a", "b", "c"].map((name) => ({ ...fleet([]), name }));
  const placed = (uid: string, node: string, priority: number, cpuMillis: number): PlacedTask => ({
    uid, node, priority, cpuMillis, memoryBytes: 0, hostPorts: [], workloadUid: uid, createdAtMs: 0,
  }); // prettier-ignore
  const all = [
    placed("a1", "a", 5, 2_000),
    placed("b1", "b", 1, 1_000),
    placed("b2", "b", 1, 1_000),
    placed("c1", "c", 1, 2_000),
  ];
  const full = nodes.map(({ name }) => ({ ...fullNode, name }));
  const batch = new PlacementBatch(fleet(full));
  const asked = task("t", { cpuMillis: 2_000, rules: { priority: 10 } });
  const unit = [asked];
  const [first] = makeRoom(batch, [unit], { placed: all, leaving: [], allowance: new Map() });
  assert.deepEqual([first!.node, first!.victims.map(({ uid }) => uid)], ["c", ["c1"]]);
  const kept = makeRoom(new PlacementBatch(fleet(full)), [unit], {
    placed: all,
    leaving: [],
    allowance: new Map([["c1", 0]]),
  });
  assert.deepEqual(kept[0]!.node, "b");
  const never = task("t", { cpuMillis: 2_000, rules: { priority: 10, preempts: false } });
  assert.deepEqual(
    makeRoom(new PlacementBatch(fleet(full)), [[never]], { placed: all, leaving: [], allowance: new Map() }),
    [],
  );
  const huge = task("t", { cpuMillis: 4_000, rules: { priority: 10 } });
  assert.deepEqual(
    makeRoom(new PlacementBatch(fleet(full)), [[huge]], { placed: all, leaving: [], allowance: new Map() }),
    [],
  );
});

const fullNode: PlacementNode = {
  name: "", labels: {}, taints: [], runtimeHandlers: ["runc"], snapshotters: ["overlayfs"], cpuMillis: 2_000,
  memoryBytes: 0, maxTasks: 0, usedCpuMillis: 2_000, usedMemoryBytes: 0, usedTasks: 0, usedHostPorts: [],
}; // prettier-ignore
