import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { decideRestart, RESTART_BACKOFF, type EndedExecution, type RestartRule } from "./restart-policy.ts";

const ended = (more: Partial<EndedExecution> = {}): EndedExecution => ({
  phase: "Failed",
  attempt: 1,
  failures: 0,
  startedAt: new Date(0),
  finishedAt: new Date(1_000),
  ...more,
});
const rule = (policy: RestartRule["policy"], maxAttempts = 0): RestartRule => ({ policy, maxAttempts });

void test("decideRestart follows the policy", () => {
  assert.equal(decideRestart(rule("always"), ended({ phase: "Succeeded" })).restart, true);
  assert.equal(decideRestart(rule("onFailure"), ended({ phase: "Succeeded" })).restart, false);
  assert.equal(decideRestart(rule("onFailure"), ended()).restart, true);
  assert.equal(decideRestart(rule("never"), ended()).restart, false);
});

void test("decideRestart gives up after maxAttempts", () => {
  assert.equal(decideRestart(rule("always", 3), ended({ attempt: 2 })).restart, true);
  assert.equal(decideRestart(rule("always", 3), ended({ attempt: 3 })).restart, false);
});

void test("decideRestart backs off from 1 s to 60 s", () => {
  let failures = 0;
  const delays: number[] = [];
  for (let attempt = 1; attempt <= 9; attempt += 1) {
    const decision = decideRestart(rule("always"), ended({ attempt, failures }));
    assert.ok(decision.restart);
    delays.push(decision.delayMs);
    failures = decision.failures;
  }
  assert.deepEqual(delays, [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000, 60_000]);
});

void test("decideRestart begins anew after ten minutes of running", () => {
  const long = ended({ failures: 9, finishedAt: new Date(RESTART_BACKOFF.resetAfterMs) });
  assert.deepEqual(decideRestart(rule("always"), long), { restart: true, delayMs: 1_000, failures: 1 });
});

void test("decideRestart never waits longer than the bound, however often it failed", () => {
  fc.assert(
    fc.property(fc.nat(), (failures) => {
      const decision = decideRestart(rule("always"), ended({ failures }));
      assert.ok(decision.restart && decision.delayMs >= 1_000 && decision.delayMs <= 60_000);
    }),
  );
});
