/** Jobs: played on a pure fleet whose tasks succeed and fail as drawn, and on a real Postgres with fake agents. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { create, toJson, type JsonObject } from "@bufbuild/protobuf";
import fc from "fast-check";
import { hasEnded } from "@berth/model";
import { WorkloadSpecSchema, WorkloadStatusSchema, type WorkloadSpec } from "@berth/proto";
import { workloadStatus, type TaskRow, type WorkloadRow } from "@berth/store";
import { eventually } from "@berth/testkit/servers";
import { carriedOut, taskRow, WORKLOAD } from "../testing/plan-rows.ts";
import { startTestDatabases, TestFleet, type TestDatabases } from "../testing/test-fleet.ts";
import { evaluateJob, jobBounds, jobMessage, type JobState } from "./job.ts";
import { heldRollout, planWorkload, type FleetNode } from "./plan.ts";

const NODES = new Map<string, FleetNode>([
  ["n0", { name: "n0", labels: {}, silent: false, cordoned: false, evict: false }],
]);

/** A job's row and tasks, moved by plans and by chance. */
class JobLab {
  readonly spec: WorkloadSpec;
  workload: WorkloadRow = WORKLOAD;
  tasks: TaskRow[] = [];
  nowMs = 1_700_000_000_000;
  #made = 0;

  constructor(job: { completions: number; parallelism: number; retries: number }) {
    this.spec = create(WorkloadSpecSchema, { job, container: { image: "a" }, restart: { policy: "onFailure" } });
  }

  step(): JobState {
    const { workload, spec, tasks } = this;
    const now = new Date(this.nowMs);
    const next = (): string => `t${(this.#made += 1)}`;
    const own = tasks.filter((row) => row.desired === "Run");
    const state = evaluateJob(jobBounds(spec.job!), 1, own, workloadStatus(workload).job, now);
    const rollout = { ...heldRollout(workload, spec), advance: true };
    const view = { workload, spec, rollout, tasks, nodes: NODES, now, newUid: next, newSuffix: next };
    this.tasks = carriedOut(tasks, planWorkload(view)).map((row) =>
      row.node === null ? { ...row, node: "n0", phase: "Assigned" } : row,
    );
    const status = toJson(WorkloadStatusSchema, create(WorkloadStatusSchema, { job: jobMessage(state) })) as JsonObject;
    this.workload = { ...workload, status };
    return state;
  }

  /** Some of what runs ends, well or not; what was told to stop is gone. */
  run(succeeds: () => boolean): void {
    this.nowMs += 120_000;
    this.tasks = this.tasks
      .filter((row) => row.desired === "Run")
      .map((row) => (hasEnded(row.phase) ? row : taskRow({ ...row, phase: succeeds() ? "Succeeded" : "Failed" })));
  }

  get active(): number {
    return this.tasks.filter((row) => row.desired === "Run" && !hasEnded(row.phase)).length;
  }
}

void test("a job ends, complete or failed by its retries, never runs more at a time than it may, and then begins nothing", () => {
  const bounds = fc.record({
    completions: fc.integer({ min: 1, max: 6 }),
    parallelism: fc.integer({ min: 1, max: 4 }),
    retries: fc.integer({ min: 0, max: 4 }),
  });
  fc.assert(
    fc.property(bounds, fc.array(fc.boolean(), { minLength: 1, maxLength: 30 }), (job, draws) => {
      const lab = new JobLab(job);
      let drawn = 0;
      let failed = 0;
      const succeeds = (): boolean => {
        drawn += 1;
        const well = draws[drawn % draws.length]!;
        if (!well) failed += 1;
        return well;
      };
      let state = lab.step();
      for (let n = 0; state.phase === "Running"; n += 1) {
        assert.ok(n < 200, "it does not end");
        assert.ok(lab.active <= job.parallelism, `${lab.active} at a time`);
        lab.run(succeeds);
        state = lab.step();
      }
      assert.equal(state.failures, failed);
      if (state.phase === "Complete") assert.equal(state.succeeded, job.completions);
      else assert.ok(failed > job.retries && state.message.includes("tries have failed"));
      lab.run(() => true);
      const { phase, failures, succeeded } = lab.step();
      assert.deepEqual([phase, failures, succeeded], [state.phase, state.failures, state.succeeded], "an end is final");
      assert.equal(lab.active, 0);
    }),
    { numRuns: 80 },
  );
});

void test("a job does not run again what has succeeded on a node that is gone", () => {
  const lab = new JobLab({ completions: 2, parallelism: 2, retries: 0 });
  lab.step();
  lab.tasks = lab.tasks.map((row, index) => ({ ...row, node: "gone", phase: index === 0 ? "Succeeded" : "Running" }));
  lab.step();
  const live = lab.tasks.filter((row) => row.desired === "Run");
  assert.deepEqual(live.map(({ phase, slot }) => `${slot} ${phase}`).sort(), ["0 Succeeded", "1 Assigned"]); // prettier-ignore
});

let databases: TestDatabases;
before(async () => {
  databases = await startTestDatabases();
});
after(() => databases[Symbol.asyncDispose]());

void test("a job on a fleet retries, completes once, survives its controller, begins anew for a new spec, and expires", async () => {
  await using fleet = await TestFleet.open(databases);
  await fleet.startController();
  const agent = await fleet.addAgent("node-1");
  let fails = 1;
  agent.onStart = (self, uid) => {
    const fail = self.executions.get(uid)!.task.container!.args[0] === "bad" || fails > 0;
    fails -= 1;
    self.exit(uid, fail ? 3 : 0);
  };
  const job = { completions: 3, parallelism: 2, retries: 1 };
  const phase = (wanted: string, revision: bigint) =>
    eventually(
      `the job is ${wanted}`,
      async () => {
        const status = workloadStatus((await fleet.workload("sum"))!).job;
        return status?.phase === wanted && status.revision === revision && status;
      },
      { timeoutMs: 15_000 },
    );
  await fleet.apply("sum", { job, container: { args: ["good"] } });
  const { succeeded, failures } = await phase("Complete", 1n);
  assert.deepEqual([succeeded, failures], [3, 1]);
  const starts = fleet.starts().size;
  assert.equal(starts, 4);
  await fleet.stopController();
  await fleet.startController();
  await fleet.apply("sum", { job: { ...job, completions: 3, parallelism: 1 }, container: { args: ["good"] } });
  await eventually(
    "it was looked at",
    async () => workloadStatus((await fleet.workload("sum"))!).observedGeneration === 2n,
  );
  assert.equal(fleet.starts().size, starts, "what is complete is not run again");
  const short = { ...job, retries: 0, ttlAfterFinished: { seconds: 1n, nanos: 0 } };
  await fleet.apply("sum", { job: short, container: { args: ["bad"] } });
  const failed = await phase("Failed", 2n);
  assert.match(failed.message, /1 tries have failed, 0 may|2 tries have failed, 0 may/);
  await eventually("it has deleted itself", async () => (await fleet.workload("sum")) === undefined, {
    timeoutMs: 15_000,
  });
  assert.deepEqual(await fleet.tasks(), []);
});
