import assert from "node:assert/strict";
import { test } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { disruptionBudget, shareOf } from "@berth/model";
import { WorkloadSpecSchema, type WorkloadSpec } from "@berth/proto";
import type { TaskRow } from "@berth/store";
import fc from "fast-check";
import { carriedOut, CONTAINER, NOW, taskRow, WORKLOAD } from "../testing/plan-rows.ts";
import { heldRollout, planWorkload, type FleetNode, type Plan } from "./plan.ts";

const NODES = ["n0", "n1", "n2", "n3"] as const;
type NodeName = (typeof NODES)[number];

/** A fleet in miniature: what happens to it is told step by step, and the plan is carried out whenever it is asked for. */
class Play {
  readonly spec: WorkloadSpec;
  readonly nodes = new Map<string, FleetNode>();
  tasks: TaskRow[] = [];
  #made = 0;

  constructor(spec: WorkloadSpec) {
    this.spec = spec;
    for (const name of NODES) this.node(name, {});
  }

  node(name: string, parts: Partial<FleetNode>): void {
    const before = this.nodes.get(name) ?? { name, labels: {}, silent: false, cordoned: false, evict: false };
    this.nodes.set(name, { ...before, ...parts });
  }

  plan(): Plan {
    const next = (): string => `${(this.#made += 1)}`;
    const { spec, tasks, nodes } = this;
    const rollout = { ...heldRollout(WORKLOAD, spec), advance: true };
    return planWorkload({ workload: WORKLOAD, spec, rollout, tasks, nodes, now: NOW, newUid: next, newSuffix: next });
  }

  look(): Plan {
    const plan = this.plan();
    this.tasks = carriedOut(this.tasks, plan);
    return plan;
  }

  set(which: (row: TaskRow) => boolean, parts: Partial<TaskRow>): void {
    this.tasks = this.tasks.map((row) => (which(row) ? { ...row, ...parts } : row));
  }

  place(): void {
    const room = NODES.filter((name) => !this.nodes.get(name)!.cordoned && !this.nodes.get(name)!.silent);
    let turn = 0;
    this.tasks = this.tasks.map((row) => {
      if (row.node !== null || room.length === 0) return row;
      return { ...row, node: room[(turn += 1) % room.length]!, phase: "Assigned" };
    });
  }

  readonly heard = (row: TaskRow): boolean => row.node !== null && this.nodes.get(row.node)?.silent === false;

  run(): void {
    this.set((row) => row.phase === "Assigned" && row.desired !== "Stop" && this.heard(row), { phase: "Running" });
  }

  end(): void {
    this.set((row) => row.desired === "Stop" && this.heard(row), { phase: "Stopped", removed: true });
  }

  silence(name: string, silent: boolean): void {
    this.node(name, { silent, evict: silent });
    this.set((row) => row.node === name && row.phase !== "Stopped", { certainty: silent ? "unreachable" : "observed" });
  }

  drain(name: string, drain: "moving" | "forced" | undefined): void {
    this.node(name, { drain, cordoned: drain !== undefined });
  }

  settle(): void {
    for (let round = 0; round < 30; round += 1) {
      this.look();
      this.place();
      this.run();
      this.end();
      this.set((row) => row.nextAttemptAt !== null, { nextAttemptAt: NOW });
    }
  }

  /** Slots that have a task which runs and is heard of. */
  up(): number {
    return new Set(this.tasks.filter((row) => row.desired !== "Stop" && isUp(row)).map((row) => row.slot)).size;
  }
}

const isUp = (row: TaskRow): boolean => row.phase === "Running" && row.certainty === "observed";

function specOf(
  parts: Omit<Exclude<MessageInitShape<typeof WorkloadSpecSchema>, WorkloadSpec>, "container">,
): WorkloadSpec {
  return create(WorkloadSpecSchema, { ...parts, container: CONTAINER });
}

type Step =
  | { readonly what: "look" | "place" | "run" | "end" }
  | { readonly what: "drain" | "undrain" | "silence" | "hear" | "fail"; readonly node: NodeName };

const anyStep: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 8,
    arbitrary: fc.constantFrom<Step>({ what: "look" }, { what: "place" }, { what: "run" }, { what: "end" }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      what: fc.constantFrom("drain", "drain", "undrain", "silence", "hear", "fail"),
      node: fc.constantFrom(...NODES),
    }),
  },
);

const anyShare = fc.constantFrom("", "0", "1", "2", "25%", "50%");
const anySpec = fc.record({
  replicas: fc.integer({ min: 1, max: 8 }),
  onNodeLoss: fc.constantFrom("", "keep", "replace"),
  maxUnavailable: anyShare,
  minAvailable: fc.constantFrom("", "", "1", "50%", "100%"),
  maxSurge: anyShare,
});

function play(parts: typeof anySpec extends fc.Arbitrary<infer T> ? T : never): Play {
  const { replicas, onNodeLoss, maxUnavailable, minAvailable, maxSurge } = parts;
  const disruption = { maxUnavailable: minAvailable === "" ? maxUnavailable : "", minAvailable, maxSurge };
  return new Play(specOf({ replicas, onNodeLoss, disruption }));
}

function step(fleet: Play, each: Step): void {
  switch (each.what) {
    case "look":
      return;
    case "place":
      return fleet.place();
    case "run":
      return fleet.run();
    case "end":
      return fleet.end();
    case "drain":
      return fleet.drain(each.node, "moving");
    case "undrain":
      return fleet.drain(each.node, undefined);
    case "silence":
      return fleet.silence(each.node, true);
    case "hear":
      return fleet.silence(each.node, false);
    case "fail":
      return fleet.set((row) => row.node === each.node && isUp(row), { phase: "Failed" });
  }
}

void test("planDrain takes no workload below its budget, whatever else goes on", () => {
  fc.assert(
    fc.property(anySpec, fc.array(anyStep, { maxLength: 60 }), (parts, steps) => {
      const fleet = play(parts);
      const { spec } = fleet;
      const wanted = spec.replicas!;
      fleet.settle();
      for (const each of steps) {
        step(fleet, each);
        if (each.what !== "look") continue;
        const before = fleet.up();
        fleet.look();
        const { allowed } = disruptionBudget(spec.disruption!, wanted, before);
        assert.ok(fleet.up() >= Math.min(before, wanted - allowed), `${before} → ${fleet.up()} of ${wanted}`);
        // A silent node's task that onNodeLoss replaces is no leaver of ours.
        const leaving = fleet.tasks.filter((row) => row.desired === "Leave").length;
        const surge = shareOf(spec.disruption!.maxSurge || "25%", wanted);
        assert.ok(leaving <= surge, `${leaving} leave at a time, ${surge} may`);
      }
    }),
    { numRuns: 400 },
  );
});

void test("planDrain never lets two of a slot run where two must not", () => {
  fc.assert(
    fc.property(anySpec, fc.array(anyStep, { maxLength: 60 }), fc.boolean(), (parts, steps, force) => {
      const fleet = play({ ...parts, onNodeLoss: "keep", maxSurge: "" });
      fleet.settle();
      for (const each of steps) {
        if (each.what === "drain" && force) fleet.drain(each.node, "forced");
        else step(fleet, each);
        if (each.what === "look") fleet.look();
        const slots = fleet.tasks.filter((row) => row.node !== null && !row.removed).map((row) => row.slot);
        assert.equal(new Set(slots).size, slots.length, slots.join(", "));
      }
    }),
    { numRuns: 400 },
  );
});

void test("planDrain empties the node in the end, and what it waits for is said until then", () => {
  fc.assert(
    fc.property(anySpec, fc.array(anyStep, { maxLength: 30 }), fc.constantFrom(...NODES), (parts, steps, node) => {
      const fleet = play({ ...parts, maxUnavailable: parts.maxUnavailable === "0" ? "" : parts.maxUnavailable });
      for (const each of steps) {
        step(fleet, each);
        if (each.what === "look") fleet.look();
      }
      for (const name of NODES) {
        fleet.silence(name, false);
        fleet.drain(name, undefined);
      }
      fleet.settle();
      assert.equal(fleet.up(), fleet.spec.replicas);
      fleet.drain(node, "moving");
      const canMove = isMovable(fleet.spec);
      for (let round = 0; round < 30; round += 1) {
        const plan = fleet.look();
        for (const row of fleet.tasks) {
          if (row.node === node && !row.removed) assert.ok(plan.waits.has(row.uid), `${row.name} ${row.desired}`);
        }
        fleet.place();
        fleet.run();
        fleet.end();
      }
      const left = fleet.tasks.filter((row) => row.node === node);
      if (canMove) assert.deepEqual(left, []);
      assert.equal(fleet.up(), fleet.spec.replicas);
      fleet.drain(node, "forced");
      fleet.settle();
      assert.deepEqual(
        fleet.tasks.filter((row) => row.node === node),
        [],
      );
      assert.equal(fleet.up(), fleet.spec.replicas);
    }),
    { numRuns: 200 },
  );
});

function isMovable(spec: WorkloadSpec): boolean {
  const wanted = spec.replicas!;
  const doubles = (spec.onNodeLoss || (wanted > 1 ? "replace" : "keep")) === "replace";
  const surge = shareOf(spec.disruption!.maxSurge || (doubles ? "25%" : "0"), wanted);
  return surge > 0 || disruptionBudget(spec.disruption!, wanted, wanted).left > 0;
}

/** Tasks that run, one a slot, on the nodes named in turn. */
function running(spec: WorkloadSpec, ...nodes: readonly NodeName[]): Play {
  const fleet = new Play(spec);
  fleet.tasks = nodes.map((node, slot) =>
    taskRow({ uid: `t${slot}`, name: `web-${slot}`, slot, node, phase: "Running" }),
  );
  return fleet;
}

const waitsOf = (plan: Plan): string[] =>
  [...plan.waits.values()].map(({ row, state, message }) => `${row.name} ${state}: ${message}`);

void test("planDrain starts the replacement before it stops what it replaces", () => {
  const fleet = running(specOf({ replicas: 2 }), "n0", "n1");
  fleet.drain("n0", "moving");
  fleet.look();
  assert.deepEqual(
    fleet.tasks.map((row) => `${row.slot} ${row.desired}`),
    ["0 Leave", "1 Run", "0 Run"],
  );
  fleet.place();
  assert.match(waitsOf(fleet.plan())[0]!, /^web-0 Moving: its replacement web-\d+ on n\d is Assigned$/);
  fleet.run();
  fleet.look();
  assert.equal(fleet.tasks.find((row) => row.name === "web-0")?.desired, "Stop");
  assert.equal(fleet.up(), 2);
});

void test("planDrain counts a replacement only when it has been ready for rollout.minReady, and wakes for it", () => {
  const play = new Play(specOf({ replicas: 2, onNodeLoss: "replace", rollout: { minReady: { seconds: 5n } } }));
  const since = (ms: number): void => play.set((row) => row.phase === "Running", { availableSince: new Date(NOW.getTime() - ms) }); // prettier-ignore
  play.look();
  play.place();
  play.run();
  since(60_000);
  const node = play.tasks[0]!.node as NodeName;
  play.drain(node, "moving");
  play.look();
  play.place();
  play.run();
  const successor = play.tasks.find((row) => row.availableSince === null)!;
  play.set((row) => row.uid === successor.uid, { availableSince: new Date(NOW.getTime() - 4_000) });
  const early = play.look();
  assert.deepEqual([...early.waits.values()].map(({ state, message }) => `${state} ${message}`), [`Moving its replacement ${successor.name} on ${successor.node} is ready, and not for long enough yet (rollout.minReady)`]); // prettier-ignore
  assert.equal(early.wakeAt?.getTime(), NOW.getTime() + 1_000);
  since(6_000);
  assert.deepEqual([...play.look().waits.values()].map(({ state }) => state), ["Stopping"]); // prettier-ignore
});

void test("planDrain says by name what budget holds a task, and counts a task that is silent", () => {
  const spec = specOf({ replicas: 3, onNodeLoss: "keep", disruption: { maxUnavailable: "1" } });
  const fleet = running(spec, "n0", "n1", "n2");
  fleet.silence("n2", true);
  fleet.drain("n0", "moving");
  assert.deepEqual(waitsOf(fleet.plan()), [
    "web-0 Blocked: budget of web allows 0 more (1 down, 1 allowed); web-2 on n2 possibly runs: its node is silent",
  ]);
  fleet.silence("n2", false);
  assert.deepEqual(waitsOf(fleet.look()), ["web-0 Stopping: "]);
  // The slot is free when nothing is left of the old one: two must not run.
  assert.equal(fleet.tasks.length, 3);
  fleet.end();
  fleet.look();
  assert.deepEqual(
    fleet.tasks.map((row) => row.slot).sort((a, b) => a - b),
    [0, 1, 2],
  );
});

void test("planDrain counts what a rollout has taken down in the same plan", () => {
  const fleet = running(specOf({ replicas: 3, onNodeLoss: "keep" }), "n0", "n1", "n2");
  fleet.set((row) => row.slot === 1, { workloadGeneration: 0, container: { image: "old" } });
  fleet.drain("n0", "moving");
  fleet.look();
  assert.equal(fleet.tasks.find((row) => row.slot === 1)?.generation, 2);
  assert.equal(fleet.tasks.find((row) => row.slot === 0)?.desired, "Run");
});

void test("planDrain waits for tasks that run to an end, leaves those of silent nodes and of everyNode", () => {
  const job = running(specOf({ replicas: 1, restart: { policy: "onFailure" } }), "n0");
  job.look();
  job.drain("n0", "moving");
  assert.deepEqual(waitsOf(job.plan()), ["web-0 Blocked: it runs to its end (restart policy onFailure)"]);
  const silent = running(specOf({ replicas: 1 }), "n0");
  silent.silence("n0", true);
  silent.drain("n0", "forced");
  assert.match(waitsOf(silent.look())[0]!, /its node is silent/);
  assert.equal(silent.tasks[0]!.desired, "Run");
  const every = new Play(specOf({ everyNode: true }));
  every.tasks = [taskRow({ uid: "t", slot: -1, pinnedNode: "n0", node: "n0", phase: "Running" })];
  every.drain("n0", "forced");
  const plan = every.plan();
  assert.deepEqual([plan.update, plan.remove, [...plan.waits.keys()]], [[], [], []]);
});

void test("planDrain of a node that is drained no more leaves what has not found a place where it runs", () => {
  const fleet = running(specOf({ replicas: 2 }), "n0", "n1");
  fleet.drain("n0", "moving");
  fleet.look();
  fleet.drain("n0", undefined);
  fleet.look();
  assert.deepEqual(
    fleet.tasks.map((row) => `${row.name} ${row.desired}`),
    ["web-0 Run", "web-1 Run"],
  );
});
