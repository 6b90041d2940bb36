import assert from "node:assert/strict";
import { test } from "node:test";
import { explore, printTrace } from "../explore.ts";
import { stuckAt, walkFar } from "./converge.ts";
import { MUTATIONS, PROTOCOL } from "./rules.ts";
import { STEPS, stopThenReplace } from "./specification.ts";
import { LARGE, SMALL, unbounded, type Scope } from "./scopes.ts";

void test("stopThenReplace holds in every state of two nodes and two executions, and converges from them", () => {
  const spec = stopThenReplace(SMALL);
  const free = stopThenReplace(unbounded(SMALL));
  const stuck: string[] = [];
  const result = explore(spec, { maxStates: 200_000 }, (state, index) => {
    // Every 50th: each takes some hundred steps.
    const at = index % 50 === 0 ? stuckAt(free, state) : undefined;
    if (at !== undefined) stuck.push(`from ${spec.show(state)}\nstuck at ${spec.show(at)}`);
  });
  assert.equal(result.found && printTrace(spec, result.found), undefined);
  assert.ok(result.complete, "every state was seen");
  assert.ok(result.states > 50_000, `only ${result.states} states`);
  assert.deepEqual(stuck, []);
});

void test("stopThenReplace holds breadth first around a restored store", () => {
  const spec = stopThenReplace({ ...SMALL, maxRestores: 1, maxEnds: 0 });
  const result = explore(spec, { maxStates: 150_000 });
  assert.equal(result.found && printTrace(spec, result.found), undefined);
});

void test("stopThenReplace holds breadth first around a name that another agent gets", () => {
  const spec = stopThenReplace({ ...SMALL, maxHeirs: 1, maxEnds: 0 });
  const result = explore(spec, { maxStates: 100_000 });
  assert.equal(result.found && printTrace(spec, result.found), undefined);
});

void test("stopThenReplace holds on long walks of three nodes, and every step is taken", () => {
  const result = walkFar(LARGE, { walks: 200, length: 400, seed: 4 });
  assert.equal(result.found && printTrace(stopThenReplace(LARGE), result.found), undefined);
  assert.deepEqual(Object.keys(STEPS).filter((name) => !result.taken.has(name)), []); // prettier-ignore
});

for (const [name, mutation] of Object.entries(MUTATIONS)) {
  void test(`the explorer finds the harm of: ${name}`, (t) => {
    const heirs = mutation.giveAfter !== undefined || mutation.newNumbers === false;
    const scope: Scope = {
      ...SMALL,
      ...(heirs ? { maxHeirs: 1, maxEnds: 0 } : { maxExecs: 3 }),
      maxRestores: mutation.holdAfterRestore === false ? 1 : 0,
      crashes: mutation.stopperOutlivesAgent === false,
      lateAnswers: mutation.countFromSend === false,
    };
    const spec = stopThenReplace(scope, { ...PROTOCOL, ...mutation });
    const { found } = explore(spec, { maxStates: 400_000 });
    assert.ok(found !== undefined, "the protocol without this rule is as safe as with it");
    assert.match(found.violation, /run at once/);
    t.diagnostic(`\n${printTrace(spec, found)}`);
  });
}
