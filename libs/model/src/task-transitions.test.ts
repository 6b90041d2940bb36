import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  applyTaskStep,
  becomeObserved,
  becomeUnreachable,
  hasEnded,
  isAvailable,
  TASK_PHASES,
  TASK_STEPS,
  type ExecutionStatus,
  type TaskStepEntry,
} from "./task-transitions.ts";

const start: ExecutionStatus = {
  generation: 3,
  attempt: 2,
  phase: "Assigned",
  reason: "",
  message: "",
  certainty: "observed",
  exitCode: null,
  oomKilled: false,
  startedAt: null,
  finishedAt: null,
  addresses: [],
  imageDigest: "",
  health: "",
  removed: false,
};

const entry = (step: string, more: Partial<TaskStepEntry> = {}): TaskStepEntry => ({
  generation: 3,
  attempt: 2,
  step,
  time: new Date(1_700_000_000_000),
  reason: "",
  message: "",
  exitCode: undefined,
  oomKilled: false,
  exitUnknown: false,
  addresses: [],
  imageDigest: "",
  health: "",
  ...more,
});

const run = (...entries: TaskStepEntry[]): ExecutionStatus => entries.reduce<ExecutionStatus>(applyTaskStep, start);

const anyEntry = fc.record({
  generation: fc.integer({ min: 2, max: 4 }),
  attempt: fc.integer({ min: 1, max: 3 }),
  step: fc.constantFrom(...TASK_STEPS, "hibernated"),
  time: fc.date({ noInvalidDate: true }),
  reason: fc.constantFrom("", "Why"),
  message: fc.constantFrom("", "text"),
  exitCode: fc.option(fc.integer({ min: 0, max: 255 }), { nil: undefined }),
  oomKilled: fc.boolean(),
  exitUnknown: fc.boolean(),
  addresses: fc.array(fc.constantFrom("10.0.0.1", "10.0.0.2"), { maxLength: 2 }),
  imageDigest: fc.constantFrom("", "sha256:aa"),
  health: fc.constantFrom("", "starting", "healthy", "unhealthy"),
});
const anyHistory = fc.array(anyEntry, { maxLength: 30 });

const rank = (status: ExecutionStatus): number => (hasEnded(status.phase) ? 6 : TASK_PHASES.indexOf(status.phase));

void test("applyTaskStep walks through a whole life", () => {
  const running = run(
    entry("accepted"),
    entry("pulling"),
    entry("creating", { imageDigest: "sha256:aa" }),
    entry("started", { addresses: ["10.0.0.1"] }),
  );
  assert.equal(running.phase, "Running");
  assert.deepEqual(running.addresses, ["10.0.0.1"]);
  assert.equal(running.imageDigest, "sha256:aa");
  const done = applyTaskStep(running, entry("exited", { exitCode: 0 }));
  assert.deepEqual([done.phase, done.reason, done.exitCode], ["Succeeded", "Completed", 0]);
  assert.equal(applyTaskStep(done, entry("removed")).removed, true);
});

void test("applyTaskStep tells the ways to end apart", () => {
  const started = run(entry("started"));
  const ending = (...entries: TaskStepEntry[]): unknown[] => {
    const { phase, reason, certainty } = entries.reduce(applyTaskStep, started);
    return [phase, reason, certainty];
  };
  assert.deepEqual(ending(entry("exited", { exitCode: 3 })), ["Failed", "Error", "observed"]);
  assert.deepEqual(ending(entry("exited", { exitCode: 137, oomKilled: true })), ["Failed", "OOMKilled", "observed"]);
  assert.deepEqual(ending(entry("exited", { exitUnknown: true })), ["Failed", "ExitUnknown", "unknown"]);
  assert.deepEqual(ending(entry("stopping"), entry("exited", { exitCode: 143 })), ["Stopped", "Stopped", "observed"]);
  assert.deepEqual(ending(entry("failed", { reason: "ImagePullFailed" })), ["Failed", "ImagePullFailed", "observed"]);
  assert.deepEqual(ending(entry("removed")), ["Stopped", "Stopped", "observed"]);
});

void test("applyTaskStep ignores entries of every other execution", () => {
  fc.assert(
    fc.property(anyHistory, (history) => {
      const others = history.filter((e) => e.generation !== start.generation || e.attempt !== start.attempt);
      assert.equal(others.reduce<ExecutionStatus>(applyTaskStep, start), start);
      const own = history.filter((e) => !others.includes(e));
      assert.deepEqual(
        history.reduce<ExecutionStatus>(applyTaskStep, start),
        own.reduce<ExecutionStatus>(applyTaskStep, start),
      );
    }),
  );
});

void test("applyTaskStep only goes forward, and an end is final", () => {
  fc.assert(
    fc.property(anyHistory, (history) => {
      let status = start;
      for (const each of history) {
        const next = applyTaskStep(status, each);
        assert.ok(rank(next) >= rank(status));
        if (hasEnded(status.phase)) assert.deepEqual({ ...next, removed: status.removed }, status);
        assert.ok(!(status.removed && !next.removed));
        status = next;
      }
    }),
  );
});

void test("applyTaskStep applied twice is applied once", () => {
  fc.assert(
    fc.property(anyHistory, anyEntry, (history, last) => {
      const once = applyTaskStep(history.reduce<ExecutionStatus>(applyTaskStep, start), last);
      assert.equal(applyTaskStep(once, last), once);
    }),
  );
});

void test("becomeUnreachable keeps the phase, and never touches what has ended", () => {
  fc.assert(
    fc.property(anyHistory, (history) => {
      const status = history.reduce<ExecutionStatus>(applyTaskStep, start);
      const silent = becomeUnreachable(status);
      assert.equal(silent.phase, status.phase);
      if (hasEnded(status.phase)) assert.equal(silent, status);
      else assert.equal(silent.certainty, "unreachable");
      assert.deepEqual(becomeObserved(silent), status);
      const ended = applyTaskStep(silent, entry("exited", { exitCode: 0 }));
      assert.notEqual(ended.certainty, "unreachable");
    }),
  );
});

test("applyTaskStep takes health from a running execution only, and says why", () => {
  const up = run(entry("started", { health: "starting" }));
  assert.equal(up.health, "starting");
  assert.equal(isAvailable(up), false);
  const healthy = applyTaskStep(up, entry("health", { health: "healthy" }));
  assert.equal(isAvailable(healthy), true);
  const ill = applyTaskStep(healthy, entry("health", { health: "unhealthy", reason: "Unready", message: "refused" }));
  assert.deepEqual([ill.phase, ill.health, ill.message, isAvailable(ill)], ["Running", "unhealthy", "refused", false]);
  const ended = applyTaskStep(ill, entry("exited", { exitCode: 0 }));
  assert.equal(applyTaskStep(ended, entry("health", { health: "healthy" })), ended);
  assert.equal(isAvailable(run(entry("started"))), true, "without probes, running is enough");
  assert.equal(isAvailable({ ...healthy, certainty: "unreachable" }), false);
});
