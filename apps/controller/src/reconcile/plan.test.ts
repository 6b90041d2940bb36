import assert from "node:assert/strict";
import { test } from "node:test";
import { create, toJson, type JsonObject } from "@bufbuild/protobuf";
import fc from "fast-check";
import { ContainerSpecSchema, PlacementSchema, WorkloadSpecSchema, type WorkloadSpec } from "@berth/proto";
import type { NodeRow, TaskRow, WorkloadRow } from "@berth/store";
import { taskRow, WORKLOAD } from "../testing/plan-rows.ts";
import { evictionConfig, fleetView } from "./fleet.ts";
import { planRestart } from "./plan-restart.ts";
import { rolloutBounds } from "./rollout-bounds.ts";
import { planWorkload, type FleetNode, type Plan } from "./plan.ts";

const NOW = new Date(1_700_000_000_000);
const CONTAINERS = ["one", "two"].map((image) => create(ContainerSpecSchema, { image }));

const baseRow = taskRow({
  workloadGeneration: 2,
  node: "n0",
  phase: "Running",
  container: toJson(ContainerSpecSchema, CONTAINERS[1]!) as JsonObject,
});
const workload: WorkloadRow = { ...WORKLOAD, generation: 2, revision: 2 };

const anyTask = fc.record({
  slot: fc.integer({ min: 0, max: 7 }),
  desired: fc.constantFrom("Run", "Run", "Run", "Stop"),
  old: fc.boolean(),
  node: fc.constantFrom(null, "n0", "n1", "n2", "gone"),
  phase: fc.constantFrom("Assigned", "Running", "Running", "Running", "Failed", "Succeeded"),
  removed: fc.boolean(),
});
const anyNode = fc.record({ silent: fc.boolean(), evict: fc.boolean(), disk: fc.constantFrom("ssd", "hdd") });
const anySpec = fc.record({
  replicas: fc.integer({ min: 0, max: 6 }),
  everyNode: fc.constantFrom(false, false, true),
  onNodeLoss: fc.constantFrom("", "keep", "replace"),
  maxUnavailable: fc.integer({ min: 1, max: 3 }),
  selector: fc.constantFrom<Record<string, string>>({}, { disk: "ssd" }),
  policy: fc.constantFrom("always", "onFailure", "never"),
});
type SpecParts = typeof anySpec extends fc.Arbitrary<infer T> ? T : never;
type TaskParts = typeof anyTask extends fc.Arbitrary<infer T> ? T : never;
type NodeParts = typeof anyNode extends fc.Arbitrary<infer T> ? T : never;

const specOf = (parts: SpecParts): WorkloadSpec =>
  create(WorkloadSpecSchema, {
    replicas: parts.replicas,
    everyNode: parts.everyNode,
    onNodeLoss: parts.onNodeLoss,
    rollout: { maxUnavailable: parts.maxUnavailable },
    placement: { nodeSelector: parts.selector },
    restart: { policy: parts.policy },
    container: CONTAINERS[1]!,
  });

/** Rows as the store could hold them: one wanted task a slot, or a node. */
function rowsOf(parts: readonly TaskParts[], everyNode: boolean): TaskRow[] {
  const taken = new Set<string>();
  return parts.flatMap((part, index): TaskRow[] => {
    const pinnedNode = everyNode ? (part.node ?? "n0") : null;
    const place = everyNode ? pinnedNode! : String(part.slot);
    if (part.desired === "Run" && taken.has(place)) return [];
    if (part.desired === "Run") taken.add(place);
    const container = toJson(ContainerSpecSchema, CONTAINERS[part.old ? 0 : 1]!) as JsonObject;
    const row: TaskRow = {
      ...baseRow,
      uid: `t${index}`,
      name: `web-${index}`,
      slot: everyNode ? -1 : part.slot,
      pinnedNode,
      node: part.node,
      phase: part.node === null ? "Pending" : part.phase,
      removed: part.removed,
      desired: part.desired,
      container,
      workloadGeneration: part.old ? 1 : 2,
    };
    return [row];
  });
}

const nodesOf = (parts: readonly NodeParts[]): Map<string, FleetNode> =>
  new Map(
    parts.map(({ silent, evict, disk }, index) => [
      `n${index}`,
      { name: `n${index}`, labels: { disk }, silent, cordoned: false, evict: silent && evict },
    ]),
  );

let made = 0;
function plan(spec: WorkloadSpec, tasks: readonly TaskRow[], nodes: Map<string, FleetNode>, row = workload): Plan {
  const next = (): string => `new${(made += 1)}`;
  const target = { generation: 2, template: spec, restart: false };
  const rollout = { target, fresh: target, advance: true, bounds: rolloutBounds(spec.rollout, spec.replicas ?? 1) };
  return planWorkload({ workload: row, spec, rollout, tasks, nodes, now: NOW, newUid: next, newSuffix: next });
}

function apply(tasks: readonly TaskRow[], { create: created, update, remove }: Plan): TaskRow[] {
  const gone = new Set(remove.map((row) => row.uid));
  const patches = new Map(update.map(({ before, patch }) => [before.uid, patch]));
  return [
    ...tasks.filter((row) => !gone.has(row.uid)).map((row): TaskRow => ({ ...row, ...patches.get(row.uid) })),
    ...created.map((row): TaskRow => ({ ...baseRow, ...row, node: null, phase: "Pending" })),
  ];
}

const isUp = (row: TaskRow): boolean => row.desired === "Run" && row.phase === "Running";

void test("planWorkload leaves exactly the slots that the spec asks for, one wanted task each", () => {
  fc.assert(
    fc.property(
      fc.array(anyTask, { maxLength: 12 }),
      fc.array(anyNode, { minLength: 3, maxLength: 3 }),
      anySpec,
      (taskParts, nodeParts, parts) => {
        const nodes = nodesOf(nodeParts);
        const after = apply(
          rowsOf(taskParts, parts.everyNode),
          plan(specOf(parts), rowsOf(taskParts, parts.everyNode), nodes),
        );
        const live = after.filter((row) => row.desired === "Run");
        const places = live.map((row) => (parts.everyNode ? row.pinnedNode : row.slot));
        assert.equal(new Set(places).size, live.length);
        if (!parts.everyNode) {
          assert.deepEqual(new Set(places), new Set(Array.from({ length: parts.replicas }, (_, slot) => slot)));
        } else {
          for (const node of nodes.values()) {
            const matches = Object.entries(parts.selector).every(([key, value]) => node.labels[key] === value);
            if (!matches) assert.ok(!places.includes(node.name));
            else if (!node.silent) assert.ok(places.includes(node.name));
          }
        }
      },
    ),
  );
});

void test("planWorkload takes down no more running tasks than maxUnavailable allows", () => {
  fc.assert(
    fc.property(fc.array(anyTask, { maxLength: 12 }), anySpec, (taskParts, parts) => {
      const nodes = nodesOf([1, 2, 3].map(() => ({ silent: false, evict: false, disk: "ssd" as const })));
      const spec = specOf({ ...parts, everyNode: false });
      const tasks = rowsOf(taskParts, false).filter((row) => row.node !== "gone" && row.slot < parts.replicas);
      const upBefore = tasks.filter(isUp).length;
      const upAfter = apply(tasks, plan(spec, tasks, nodes)).filter(isUp).length;
      const downBefore = parts.replicas - upBefore;
      const downAfter = parts.replicas - upAfter;
      assert.ok(downAfter <= Math.max(downBefore, parts.maxUnavailable), `${downBefore} → ${downAfter}`);
    }),
  );
});

void test("planWorkload has nothing more to do once it was carried out", () => {
  fc.assert(
    fc.property(
      fc.array(anyTask, { maxLength: 12 }),
      fc.array(anyNode, { minLength: 3, maxLength: 3 }),
      anySpec,
      (taskParts, nodeParts, parts) => {
        const nodes = nodesOf(nodeParts);
        const spec = specOf(parts);
        let tasks = rowsOf(taskParts, parts.everyNode);
        for (let round = 0; round < 4; round += 1) tasks = apply(tasks, plan(spec, tasks, nodes));
        const last = plan(spec, tasks, nodes);
        assert.deepEqual([last.create, last.update, last.remove], [[], [], []]);
      },
    ),
  );
});

void test("planWorkload of a deleted workload stops everything, and removes only what nothing is left of", () => {
  fc.assert(
    fc.property(fc.array(anyTask, { maxLength: 12 }), anySpec, (taskParts, parts) => {
      const nodes = nodesOf([1, 2, 3].map(() => ({ silent: true, evict: true, disk: "ssd" as const })));
      const tasks = rowsOf(taskParts, parts.everyNode);
      const result = plan(specOf(parts), tasks, nodes, { ...workload, deletedAt: NOW });
      assert.deepEqual(result.create, []);
      const after = apply(tasks, result);
      assert.ok(after.every((row) => row.desired === "Stop"));
      for (const row of result.remove) assert.ok(row.node === null || row.removed || !nodes.has(row.node));
    }),
  );
});

void test("planWorkload replaces what a silent node runs only where the spec says so", () => {
  const lost = { n0: { name: "n0", labels: {}, silent: true, cordoned: false, evict: true } };
  const nodes = new Map(Object.entries(lost));
  const stops = (spec: WorkloadSpec, row: TaskRow = baseRow): boolean =>
    plan(spec, [{ ...row, uid: "t" }], nodes).update.some(({ patch }) => patch.desired === "Stop");
  const spec = (replicas: number, onNodeLoss: string): WorkloadSpec =>
    create(WorkloadSpecSchema, { replicas, onNodeLoss, container: CONTAINERS[1]! });
  assert.equal(stops(spec(1, "")), false);
  assert.equal(stops(spec(2, "")), true);
  assert.equal(stops(spec(2, "keep")), false);
  assert.equal(stops(spec(1, "replace")), true);
  assert.equal(stops(spec(2, "replace"), { ...baseRow, phase: "Succeeded" }), false);
});

void test("planWorkload never gives a fenced task's slot away before it has ended or is fenced (stopThenReplace)", () => {
  const node = (name: string, silent: boolean): FleetNode => ({
    name,
    labels: {},
    silent,
    cordoned: false,
    evict: silent,
  });
  const nodes = new Map([node("n0", true), node("n1", false)].map((each) => [each.name, each]));
  const spec = (replicas: number): WorkloadSpec =>
    create(WorkloadSpecSchema, { replicas, onNodeLoss: "stopThenReplace", container: CONTAINERS[1]! });
  const row = (patch: Partial<TaskRow>): TaskRow => ({ ...baseRow, uid: "t", fence: true, ...patch });
  const made = (patch: Partial<TaskRow>, replicas = 1): [stopped: boolean, created: number] => {
    const result = plan(spec(replicas), [row(patch)], nodes);
    return [result.update.some(({ patch: p }) => p.desired === "Stop"), result.create.length];
  };
  assert.deepEqual(made({ certainty: "unreachable", possiblyUntil: NOW }), [false, 0], "possibly runs until T");
  assert.deepEqual(made({ certainty: "fenced", possiblyUntil: NOW }), [true, 1]);
  assert.deepEqual(made({ certainty: "unreachable", fence: false }), [false, 0], "made before the spec said so");
  const stopping = { node: "n1", desired: "Stop" } as const;
  assert.deepEqual(made({ ...stopping }), [false, 0], "scaled down and up: the one before still runs");
  assert.deepEqual(made({ ...stopping, phase: "Stopped" }), [false, 1]);
  assert.deepEqual(made({ desired: "Stop", certainty: "unreachable", possiblyUntil: NOW }), [false, 0]);
  assert.deepEqual(made({ desired: "Stop", certainty: "fenced", possiblyUntil: NOW }), [false, 1]);
  assert.deepEqual(made({ node: "gone" }), [true, 1], "an operator's word");
  const moves = spec(1);
  moves.placement = create(PlacementSchema, { nodeSelector: { disk: "ssd" } });
  const moved = plan(moves, [row({ node: "n1", workloadGeneration: 1 })], nodes);
  assert.deepEqual(
    [moved.update[0]?.patch.desired, moved.create.length],
    ["Stop", 0],
    "a new spec moves it: first it ends",
  );
});

void test("planRestart begins a fenced execution again at once, whatever the policy", () => {
  const row: TaskRow = { ...baseRow, phase: "Stopped", reason: "Fenced", failures: 3 };
  for (const policy of ["always", "onFailure", "never"] as const) {
    assert.equal(planRestart({ policy, maxAttempts: 1 }, row, NOW).begin, true, policy);
  }
  assert.equal(planRestart({ policy: "never", maxAttempts: 0 }, { ...row, reason: "Stopped" }, NOW).begin, false);
});

void test("fleetView brakes when more than half fell silent together, for as long as they are", () => {
  const row = (name: string, silentMs: number | null): NodeRow =>
    ({
      name,
      phase: silentMs === null ? "Ready" : "Unknown",
      silentSince: silentMs === null ? null : new Date(NOW.getTime() - silentMs),
      effectiveLabels: {},
      cordoned: false,
      taints: [],
      conditions: [],
    }) as unknown as NodeRow;
  const config = evictionConfig({ evictAfterMs: 5_000, evictWindowMs: 60_000 });
  const evicted = (...silentMs: (number | null)[]): number =>
    [...fleetView(silentMs.map((ms, n) => row(`n${n}`, ms)), config, NOW).nodes.values()].filter((node) => node.evict).length; // prettier-ignore
  assert.equal(evicted(10_000, null, null), 1);
  assert.equal(evicted(1_000, null, null), 0, "not yet");
  assert.equal(evicted(10_000, 20_000, null), 0);
  assert.equal(evicted(3_600_000, 3_610_000, null), 0, "still, an hour later");
  assert.equal(evicted(10_000, 3_600_000, null), 2, "not together");
  assert.equal(evicted(10_000, 10_000, null, null), 2, "half is not more than half");
  assert.equal(evicted(10_000, null), 1, "nor is one of two");
  assert.equal(
    evicted(10_000, 10_000),
    0,
    "all of a fleet, however small: there is nowhere to go, and they may be well",
  );
  assert.equal(evicted(10_000), 0);
});
