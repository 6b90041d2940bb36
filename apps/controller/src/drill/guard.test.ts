/** The guard rails of drills: what is refused names the field and the way out. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { StatusError } from "@berth/base";
import { guardDrill, type DrillTerms, type GuardedNode } from "./guard.ts";

const terms = (more: Partial<DrillTerms> = {}): DrillTerms => ({ selector: "zone=z1", durationMs: 30_000, maxNodes: 0, lasts: true, ...more }); // prettier-ignore
const node = (name: string, more: Partial<GuardedNode> = {}): GuardedNode => ({ name, phase: "Ready", draining: false, ...more }); // prettier-ignore

const refusal = (given: DrillTerms, chosen: readonly GuardedNode[], ready = 10): string => {
  try {
    guardDrill(given, chosen, ready);
    return "";
  } catch (error) {
    const { violations, message } = StatusError.from(error);
    return violations.map(({ field, description }) => `${field} ${description}`).join() || message;
  }
};

void test("a drill is refused unless it is bounded in time and in nodes, and all it hits is well", () => {
  const one = [node("a")];
  assert.equal(refusal(terms(), one), "");
  assert.match(refusal(terms({ selector: "" }), one), /^selector is required/);
  assert.match(refusal(terms(), []), /^selector matches no node/);
  assert.match(refusal(terms({ durationMs: 4_999 }), one), /^duration is 4.999 s: choose from 5s to 10m/);
  assert.match(refusal(terms({ durationMs: 600_001 }), one), /^duration/);
  assert.equal(refusal(terms({ durationMs: 0, lasts: false }), one), "");
  assert.match(refusal(terms({ lasts: false }), one), /^duration is none of a kill's/);
  assert.match(refusal(terms(), [node("a"), node("b")]), /^maxNodes zone=z1 matches 2 nodes \(a, b\), at most 1/);
  assert.equal(refusal(terms({ maxNodes: 2 }), [node("a"), node("b")], 4), "");
  assert.match(refusal(terms({ maxNodes: 2 }), [node("a"), node("b")], 3), /^selector matches 2 of 3 Ready nodes/);
  assert.match(refusal(terms(), [node("a", { phase: "Unknown" })]), /node a is Unknown: wait/);
  assert.match(refusal(terms(), [node("a", { draining: true })]), /node a is being drained: berth uncordon a/);
});
