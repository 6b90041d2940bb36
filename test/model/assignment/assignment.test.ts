import assert from "node:assert/strict";
import { test } from "node:test";
import { explore, printTrace } from "../explore.ts";
import type { Scope } from "./controller.ts";
import { FAR, stuckAt, walkFar } from "./converge.ts";
import { MUTATIONS, PROTOCOL } from "./rules.ts";
import { assignment, STEPS } from "./specification.ts";

const SMALL: Scope = { maxExecs: 2, maxFaults: 1, maxSets: 2 };

void test("assignments hold breadth first, and converge", () => {
  const spec = assignment(SMALL);
  const stuck: string[] = [];
  const result = explore(spec, { maxStates: 120_000 }, (state, index) => {
    const at = index % 40 === 0 && state.store.epoch === 0 ? stuckAt(spec, state) : undefined;
    if (at !== undefined) stuck.push(`from ${spec.show(state)}\nstuck at ${spec.show(at)}`);
  });
  assert.equal(result.found && printTrace(spec, result.found), undefined);
  assert.deepEqual(stuck, []);
});

void test("assignments hold on long walks, converge, and every step is taken", () => {
  const result = walkFar({ walks: 300, length: 300, seed: 11 });
  assert.equal(result.found && printTrace(assignment(FAR), result.found), undefined);
  assert.deepEqual(Object.keys(STEPS).filter((name) => !result.taken.has(name)), []); // prettier-ignore
});

for (const [name, { rules, harm }] of Object.entries(MUTATIONS)) {
  void test(`the explorer finds the harm of: ${name}`, (t) => {
    const spec = assignment(SMALL, { ...PROTOCOL, ...rules });
    const { found } = explore(spec, { maxStates: 200_000 });
    assert.ok(found !== undefined, "the protocol without this rule is as safe as with it");
    assert.match(found.violation, harm);
    t.diagnostic(`\n${printTrace(spec, found)}`);
  });
}
