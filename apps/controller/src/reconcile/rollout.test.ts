/**
 * Whole rollouts, played: a pure fleet carries plans out, tasks come up or fail as drawn, the clock is the test's. What must hold
 * is checked after every step.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { create, toJson, type JsonObject } from "@bufbuild/protobuf";
import fc from "fast-check";
import { isAvailable } from "@berth/model";
import { RestartSchema, WorkloadSpecSchema, WorkloadStatusSchema, type WorkloadSpec } from "@berth/proto";
import type { RevisionRow, TaskRow, WorkloadRow } from "@berth/store";
import { taskRow, WORKLOAD } from "../testing/plan-rows.ts";
import { planWorkload, type FleetNode } from "./plan.ts";
import { rolloutBounds } from "./rollout-bounds.ts";
import { evaluateView, rolloutMessage } from "./rollout-status.ts";
import type { RolloutState } from "./rollout.ts";

const NODE: FleetNode = { name: "n0", labels: {}, silent: false, cordoned: false, evict: false };
const NODES = new Map([["n0", NODE]]);
const SECOND_MS = 1_000;

interface Bounds {
  readonly replicas: number;
  readonly maxUnavailable: number;
  readonly maxSurge: number;
  readonly minReadyS: number;
}

/** A workload with its tasks, as the store would hold them. */
class Fleet {
  nowMs = 1_700_000_000_000;
  tasks: TaskRow[] = [];
  revisions: RevisionRow[] = [];
  workload: WorkloadRow = { ...WORKLOAD, generation: 0, revision: 0 };
  status = create(WorkloadStatusSchema);
  spec: WorkloadSpec = create(WorkloadSpecSchema);
  /** Images whose tasks never become available. */
  readonly bad = new Set<string>();
  readonly phases: string[] = [];
  #made = 0;

  apply(image: string, { replicas, maxUnavailable, maxSurge, minReadyS }: Bounds, onFailure = ""): void {
    const before = this.spec.container?.image;
    this.spec = create(WorkloadSpecSchema, {
      replicas,
      container: { image },
      rollout: {
        maxUnavailable,
        maxSurge,
        minReady: { seconds: BigInt(minReadyS), nanos: 0 },
        progressDeadline: { seconds: 60n, nanos: 0 },
        onFailure,
      },
    });
    const generation = this.workload.generation + 1;
    this.workload = { ...this.workload, generation };
    if (before !== image) this.revise(false);
  }

  revise(restart: boolean): void {
    const { generation, revision } = this.workload;
    this.workload = { ...this.workload, revision: revision + 1 };
    const template = toJson(WorkloadSpecSchema, create(WorkloadSpecSchema, { container: this.spec.container! }));
    const row = { workloadUid: "w", revision: revision + 1, generation, restart, cause: "", createdAt: new Date() };
    this.revisions.unshift({ ...row, template: template as JsonObject });
  }

  /** One look: returns the state, and whether anything was to be done. */
  step(): { readonly state: RolloutState; readonly idle: boolean } {
    const now = new Date(this.nowMs);
    const { workload, spec, status, revisions } = this;
    const live = this.tasks.filter((row) => row.desired === "Run");
    const { state, plan: rollout } = evaluateView({ workload, spec, status, revisions, live, nodes: NODES, now });
    const next = (): string => `t${(this.#made += 1)}`;
    const view = { workload, spec, rollout, tasks: this.tasks, nodes: NODES, now };
    const plan = planWorkload({ ...view, newUid: next, newSuffix: next });
    const gone = new Set(plan.remove.map(({ uid }) => uid));
    const patches = new Map(plan.update.map(({ before, patch }) => [before.uid, patch]));
    this.tasks = [
      ...this.tasks.filter(({ uid }) => !gone.has(uid)).map((row): TaskRow => ({ ...row, ...patches.get(row.uid) })),
      ...plan.create.map((row): TaskRow => taskRow({ ...row, node: "n0", phase: "Assigned", createdAt: now })),
    ];
    this.status = create(WorkloadStatusSchema, { desired: state.wanted, rollout: rolloutMessage(state) });
    if (this.phases.at(-1) !== state.phase) this.phases.push(state.phase);
    return { state, idle: plan.create.length + plan.update.length + plan.remove.length === 0 };
  }

  /** Time passes on the node: some of what was begun is up, what is to stop is gone. */
  run(pick: (row: TaskRow) => boolean): void {
    this.nowMs += SECOND_MS;
    this.tasks = this.tasks
      .filter((row) => row.desired === "Run" || !pick(row))
      .map((row): TaskRow => {
        if (row.phase !== "Assigned" || !pick(row)) return row;
        const bad = this.bad.has((row.container as { image: string }).image);
        const health = bad ? "unhealthy" : "healthy";
        return { ...row, phase: "Running", health, availableSince: bad ? null : new Date(this.nowMs) };
      });
  }

  get live(): TaskRow[] {
    return this.tasks.filter((row) => row.desired === "Run");
  }

  get available(): number {
    return this.live.filter(isAvailable).length;
  }

  images(): string[] {
    return [...new Set(this.live.map((row) => (row.container as { image: string }).image))].sort();
  }

  /** Until nothing changes any more. */
  settle(pick: (row: TaskRow) => boolean, check: () => void, steps = 400): RolloutState {
    for (let quiet = 0, n = 0; ; n += 1) {
      assert.ok(n < steps, `not settled: ${this.phases.join(" ")}`);
      const { state, idle } = this.step();
      check();
      const over = state.phase === "Complete" || state.phase === "RolledBack" || state.phase === "Paused";
      quiet = idle && over && this.tasks.every((row) => row.desired === "Run") ? quiet + 1 : 0;
      if (quiet > 2) return state;
      this.run(pick);
    }
  }
}

const anyBounds = fc
  .record({
    replicas: fc.integer({ min: 1, max: 8 }),
    maxUnavailable: fc.integer({ min: 0, max: 3 }),
    maxSurge: fc.integer({ min: 0, max: 3 }),
    minReadyS: fc.integer({ min: 0, max: 4 }),
  })
  .map((bounds) => (bounds.maxSurge === 0 && bounds.maxUnavailable === 0 ? { ...bounds, maxSurge: 1 } : bounds));

/** Chance that is drawn once, so that a failure can be shrunk. */
const anyPicks = fc.array(fc.boolean(), { minLength: 1, maxLength: 40 }).map((draws) => {
  let at = 0;
  return (): boolean => {
    at += 1;
    // Now and then everything comes through, so that nothing waits for ever.
    return at % 7 === 0 || draws[at % draws.length]!;
  };
});

/** That a rollout keeps its bounds: neither too few available because of it, nor too many tasks. */
function keepsBounds(fleet: Fleet, bounds: Bounds): () => void {
  let least = Math.min(fleet.available, bounds.replicas - bounds.maxUnavailable);
  return () => {
    const { maxUnavailable } = rolloutBounds(fleet.spec.rollout, bounds.replicas);
    const floor = bounds.replicas - maxUnavailable;
    assert.ok(fleet.available >= Math.min(least, floor), `${fleet.available} available, ${floor} promised`);
    least = Math.max(least, Math.min(fleet.available, floor));
    assert.ok(fleet.live.length <= bounds.replicas + bounds.maxSurge, `${fleet.live.length} tasks`);
  };
}

void test("a rollout keeps its bounds, ends, and then has nothing more to do", () => {
  fc.assert(
    fc.property(anyBounds, anyPicks, (bounds, pick) => {
      const fleet = new Fleet();
      fleet.apply("one", bounds);
      assert.equal(fleet.settle(pick, () => {}).phase, "Complete");
      fleet.apply("two", bounds);
      const state = fleet.settle(pick, keepsBounds(fleet, bounds));
      assert.deepEqual([state.phase, state.stable, fleet.images()], ["Complete", 2, ["two"]]);
      const slots = fleet.live.map(({ slot }) => slot).sort((a, b) => a - b);
      assert.deepEqual(
        slots,
        Array.from({ length: bounds.replicas }, (_, slot) => slot),
      );
    }),
    { numRuns: 150 },
  );
});

void test("a rollout of what never becomes available goes back by itself, and keeps its bounds both ways", () => {
  fc.assert(
    fc.property(anyBounds, anyPicks, (bounds, pick) => {
      const fleet = new Fleet();
      fleet.bad.add("two");
      fleet.apply("one", bounds);
      fleet.settle(pick, () => {});
      fleet.apply("two", bounds);
      const state = fleet.settle(pick, keepsBounds(fleet, bounds));
      assert.deepEqual([state.phase, state.target, fleet.images()], ["RolledBack", 1, ["one"]]);
      assert.match(state.message, /no further task became available within 60 s/);
      // The same spec again is no new rollout; another one is.
      fleet.apply("two", bounds);
      assert.equal(fleet.settle(pick, () => {}).phase, "RolledBack");
      fleet.apply("three", bounds);
      const next = fleet.settle(pick, keepsBounds(fleet, bounds));
      assert.deepEqual([next.phase, next.stable, fleet.images()], ["Complete", 3, ["three"]]);
    }),
    { numRuns: 100 },
  );
});

void test("a new spec amid a rollout, and a scale, take over at once and keep the bounds", () => {
  fc.assert(
    fc.property(anyBounds, anyPicks, fc.integer({ min: 1, max: 8 }), fc.nat(12), (bounds, pick, replicas, after) => {
      const fleet = new Fleet();
      fleet.apply("one", bounds);
      fleet.settle(pick, () => {});
      fleet.apply("two", bounds);
      for (let n = 0; n < after; n += 1) {
        fleet.step();
        fleet.run(pick);
      }
      const scaled = { ...bounds, replicas };
      fleet.apply("three", scaled);
      fleet.step();
      const state = fleet.settle(pick, keepsBounds(fleet, scaled));
      assert.deepEqual([state.phase, fleet.images(), fleet.live.length], ["Complete", ["three"], replicas]);
    }),
    { numRuns: 100 },
  );
});

const BOUNDS: Bounds = { replicas: 4, maxUnavailable: 1, maxSurge: 0, minReadyS: 0 };
const always = (): boolean => true;

void test("a paused rollout moves nothing, makes lost tasks of the last good revision, and goes on when resumed", () => {
  const fleet = new Fleet();
  fleet.apply("one", BOUNDS);
  fleet.settle(always, () => {});
  fleet.apply("two", BOUNDS);
  fleet.step();
  fleet.workload = { ...fleet.workload, paused: true };
  fleet.settle(always, () => {});
  const count = (image: string): number => fleet.live.filter((row) => (row.container as { image: string }).image === image).length; // prettier-ignore
  assert.deepEqual([count("one"), count("two")], [3, 1]);
  fleet.apply("two", { ...BOUNDS, replicas: 6 });
  fleet.nowMs += 3_600_000;
  assert.equal(fleet.settle(always, () => {}).phase, "Paused", "no deadline passes while it is held");
  assert.deepEqual([count("one"), count("two")], [5, 1]);
  fleet.workload = { ...fleet.workload, paused: false };
  assert.equal(fleet.settle(always, keepsBounds(fleet, { ...BOUNDS, replicas: 6 })).phase, "Complete");
  assert.deepEqual(fleet.images(), ["two"]);
});

void test("a restart starts every task anew, within the bounds, though the container is the same", () => {
  const fleet = new Fleet();
  fleet.apply("one", BOUNDS);
  fleet.settle(always, () => {});
  const before = new Map(fleet.live.map((row) => [row.uid, row.generation]));
  fleet.workload = { ...fleet.workload, generation: fleet.workload.generation + 1 };
  fleet.revise(true);
  assert.equal(fleet.settle(always, keepsBounds(fleet, BOUNDS)).phase, "Complete");
  for (const row of fleet.live) assert.equal(row.generation, before.get(row.uid)! + 1);
});

void test("a rollout does not fail while all that is missing is on silent nodes", () => {
  const fleet = new Fleet();
  fleet.apply("one", BOUNDS);
  fleet.settle(always, () => {});
  fleet.apply("two", BOUNDS);
  fleet.step();
  fleet.run(always);
  fleet.tasks = fleet.tasks.map((row) => ({ ...row, certainty: "unreachable" }));
  fleet.nowMs += 3_600_000;
  assert.equal(fleet.step().state.phase, "Progressing");
  fleet.nowMs += 3_600_000;
  assert.equal(fleet.step().state.phase, "Progressing");
});

void test("a rollout fails at once when a task has failed for good, and waits where it has nothing to go back to", () => {
  const once = (fleet: Fleet): void => {
    fleet.spec.restart = create(RestartSchema, { policy: "never" });
    fleet.revisions[0] = {
      ...fleet.revisions[0]!,
      template: toJson(WorkloadSpecSchema, fleet.spec) as JsonObject,
    };
  };
  const fail = (fleet: Fleet): RolloutState => {
    fleet.step();
    fleet.tasks = fleet.tasks.map((row) =>
      row.phase === "Assigned" ? { ...row, phase: "Failed", reason: "Error", message: "exit code 3" } : row,
    );
    return fleet.step().state;
  };
  const fresh = new Fleet();
  fresh.apply("one", BOUNDS);
  once(fresh);
  const first = fail(fresh);
  assert.deepEqual([first.phase, first.reason], ["Failed", "TaskFailed"]);
  const fleet = new Fleet();
  fleet.apply("one", BOUNDS);
  once(fleet);
  fleet.settle(always, () => {});
  fleet.apply("two", BOUNDS);
  once(fleet);
  const second = fail(fleet);
  assert.deepEqual([second.phase, second.target], ["RollingBack", 1]);
  assert.match(second.message, /exit code 3/);
  const waiting = new Fleet();
  waiting.bad.add("two");
  waiting.apply("one", BOUNDS);
  waiting.settle(always, () => {});
  waiting.apply("two", BOUNDS, "wait");
  for (let n = 0; n < 80; n += 1) {
    waiting.step();
    waiting.run(always);
  }
  assert.deepEqual([waiting.step().state.phase, waiting.available], ["Failed", 3]);
});

void test("rolloutBounds rounds in favour of what is available, and never lets a rollout stand still", () => {
  const bounds = (rollout: object, wanted: number): number[] => {
    const spec = create(WorkloadSpecSchema, { rollout });
    const { maxUnavailable, maxSurge } = rolloutBounds(spec.rollout, wanted);
    return [maxUnavailable, maxSurge];
  };
  assert.deepEqual(bounds({}, 10), [1, 0]);
  assert.deepEqual(bounds({ maxUnavailablePercent: 25, maxSurgePercent: 25 }, 10), [2, 3]);
  assert.deepEqual(bounds({ maxUnavailablePercent: 25 }, 3), [1, 0]);
  assert.deepEqual(bounds({ maxUnavailable: 0, maxSurge: 1 }, 3), [0, 1]);
});
