/** Nodes, tasks and fleets for tests of placement: plain ones, and random ones that have everything. */
import fc from "fast-check";
import { parseSelector } from "../../selector.ts";
import { ANYWHERE, type PlacementRules, type PlacementTask } from "../ask.ts";
import type { PlacementFleet } from "../batch.ts";
import type { PlacementNode } from "../node.ts";
import type { Taint, Toleration } from "../taints.ts";
import { NOTHING_PLACED } from "../topology.ts";

export const node = (name: string, more: Partial<PlacementNode> = {}): PlacementNode => ({
  name,
  labels: {},
  taints: [],
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

export type TaskParts = Partial<Omit<PlacementTask, "rules">> & { readonly rules?: Partial<PlacementRules> };

export const task = (uid: string, { rules, ...more }: TaskParts = {}): PlacementTask => ({
  uid,
  namespace: "shop",
  workloadUid: "w",
  labels: {},
  cpuMillis: 0,
  memoryBytes: 0,
  hostPorts: [],
  runtimeHandler: "",
  snapshotter: "",
  image: "",
  pinnedNode: null,
  nominatedNode: null,
  ...more,
  rules: { ...ANYWHERE, ...rules },
});

export const fleet = (nodes: readonly PlacementNode[], more: Partial<PlacementFleet> = {}): PlacementFleet => ({
  nodes,
  placed: NOTHING_PLACED,
  repellers: [],
  warm: new Map(),
  reservations: [],
  ...more,
});

export const term = (selector: string, topologyKey = "") => ({
  namespace: "shop",
  selector: parseSelector(selector),
  topologyKey,
});

const someTaint: fc.Arbitrary<Taint> = fc.record({
  key: fc.constantFrom("gpu", "spot"),
  value: fc.constantFrom("", "yes"),
  effect: fc.constantFrom("NoSchedule", "PreferNoSchedule", "NoExecute"),
});
const someToleration: fc.Arbitrary<Toleration> = fc.record({
  key: fc.constantFrom("", "gpu", "spot"),
  operator: fc.constantFrom("Exists", "Equal"),
  value: fc.constantFrom("", "yes"),
  effect: fc.constantFrom("", "NoSchedule", "NoExecute"),
  seconds: fc.constant(undefined),
});
const someLabels = fc
  .tuple(fc.constantFrom("", "a", "b", "c"), fc.constantFrom("ssd", "hdd"), fc.constantFrom("4", "16"))
  .map(([zone, disk, cores]) => ({ ...(zone === "" ? {} : { zone }), disk, cores }));

export const someNode = fc.record({
  labels: someLabels,
  taints: fc.oneof(fc.constant([]), fc.array(someTaint, { maxLength: 2 })),
  cpuMillis: fc.integer({ min: 0, max: 4_000 }),
  memoryBytes: fc.integer({ min: 0, max: 4_000 }),
  maxTasks: fc.integer({ min: 0, max: 6 }),
  usedCpuMillis: fc.integer({ min: 0, max: 2_000 }),
  usedTasks: fc.integer({ min: 0, max: 3 }),
  usedHostPorts: fc.subarray(["tcp/1", "tcp/2"]),
});
export const someNodes = fc
  .array(someNode, { maxLength: 8 })
  .map((parts) => parts.map((part, index) => node(`n${index}`, part)));

const someTerm = fc
  .tuple(fc.constantFrom("app=w0", "app=w1", "app in (w0,w2)"), fc.constantFrom("", "zone"))
  .map(([selector, key]) => term(selector, key));
const weight = fc.integer({ min: 1, max: 100 });
const someTaskAffinity = fc.record({
  required: fc.oneof(fc.constant([]), fc.constant([]), fc.array(someTerm, { maxLength: 1 })),
  preferred: fc.array(fc.record({ weight, term: someTerm }), { maxLength: 1 }),
});
const requirement = fc.constantFrom(
  { key: "disk", operator: "In", values: ["ssd"] } as const,
  { key: "cores", operator: "Gt", values: ["8"] } as const,
  { key: "zone", operator: "Exists", values: [] } as const,
  { key: "zone", operator: "NotIn", values: ["a"] } as const,
);
export const someRules: fc.Arbitrary<PlacementRules> = fc.record({
  nodeSelector: fc.constantFrom<Record<string, string>>({}, {}, { disk: "ssd" }),
  nodeAffinity: fc.record({
    required: fc.oneof(
      fc.constant([]),
      fc.array(fc.array(requirement, { minLength: 1, maxLength: 2 }), { maxLength: 2 }),
    ),
    preferred: fc.array(fc.record({ weight, term: fc.array(requirement, { minLength: 1, maxLength: 1 }) }), {
      maxLength: 2,
    }),
  }),
  taskAffinity: someTaskAffinity,
  taskAntiAffinity: someTaskAffinity,
  tolerations: fc.array(someToleration, { maxLength: 1 }),
  spread: fc.uniqueArray(
    fc.record({
      topologyKey: fc.constantFrom("", "zone", "disk"),
      maxSkew: fc.integer({ min: 1, max: 2 }),
      hard: fc.boolean(),
    }),
    { maxLength: 2, selector: (rule) => rule.topologyKey },
  ),
  gang: fc.constantFrom(false, false, true),
  priority: fc.constantFrom(0, 0, 10, 20),
  preempts: fc.boolean(),
});

const someRoom = fc.record({
  cpuMillis: fc.integer({ min: 0, max: 1_500 }),
  memoryBytes: fc.integer({ min: 0, max: 1_500 }),
  hostPorts: fc.subarray(["tcp/1", "tcp/2"]),
  image: fc.constantFrom("", "warm"),
});

/** Workloads w0, w1, w2 with rules of their own, and tasks of them as they come. */
export const someTasks: fc.Arbitrary<PlacementTask[]> = fc
  .tuple(
    fc.array(fc.tuple(someRules, someRoom), { minLength: 3, maxLength: 3 }),
    fc.array(fc.record({ of: fc.nat({ max: 2 }), pinned: fc.constantFrom(false, false, false, false, true) }), {
      maxLength: 25,
    }),
  )
  .map(([workloads, tasks]) =>
    tasks.map(({ of, pinned }, index) => {
      const [rules, room] = workloads[of]!;
      const labels = { app: `w${of}` };
      return task(`t${index}`, { workloadUid: `w${of}`, labels, rules, ...room, pinnedNode: pinned ? "n1" : null });
    }),
  );

/** Rules that other workloads must know of. */
export function repellersOf(tasks: readonly PlacementTask[]) {
  const byWorkload = new Map(tasks.map((each) => [each.workloadUid, each.rules]));
  return [...byWorkload].flatMap(([workloadUid, { taskAntiAffinity }]) =>
    taskAntiAffinity.required.map((each) => ({ workloadUid, term: each })),
  );
}
