import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { CLOCK_DRIFT, fencedBy, replacementSafety, type ReplacedTask } from "./fencing.ts";

void test("fencedBy is never before the node's own deadline, grace and slack, whatever the clocks do within their drift", () => {
  const ms = (max: number) => fc.integer({ min: 0, max });
  fc.assert(
    fc.property(
      ms(600_000),
      ms(10_000),
      ms(600_000),
      ms(5_000),
      fc.double({ min: -1, max: 1, noNaN: true }),
      (ttlMs, delayMs, graceMs, lateMs, drift) => {
        // prettier-ignore
        // The node sends at 0; the controller writes delayMs later. The node's clock runs slower or faster by `drift`.
        const slackMs = 5_000;
        const stoppedMs = ttlMs / (1 + drift * CLOCK_DRIFT * 0.9) + graceMs + lateMs;
        const t = fencedBy({ expiresAt: new Date(delayMs + ttlMs), ttlMs }, graceMs, { slackMs }).getTime();
        assert.ok(t >= stoppedMs - 1, `T ${t}, stopped ${stoppedMs}`);
      },
    ),
  );
});

void test("replacementSafety answers for each certainty", () => {
  const task: ReplacedTask = {
    phase: "Running",
    certainty: "observed",
    node: "n",
    fence: true,
    possiblyUntil: null,
    nextAttemptAt: null,
    removed: false,
  };
  const at = new Date(5_000);
  const of = (patch: Partial<ReplacedTask>) => replacementSafety({ ...task, ...patch });
  assert.equal(of({}).verdict, "unsafe");
  assert.equal(of({ node: null }).verdict, "safe");
  assert.equal(of({ removed: true }).verdict, "safe");
  assert.equal(of({ phase: "Failed" }).verdict, "safe");
  assert.deepEqual([of({ certainty: "unreachable", possiblyUntil: at }).verdict, of({ certainty: "unreachable", possiblyUntil: at }).at], ["later", at]); // prettier-ignore
  assert.deepEqual([of({ certainty: "fenced", possiblyUntil: at }).verdict], ["safe"]);
  assert.match(of({ certainty: "unreachable" }).why, /stopper was not working/);
  assert.match(of({ certainty: "unreachable", fence: false }).why, /nothing ends it there.*berth delete node n/);
});
