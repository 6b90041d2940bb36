import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { formatSelector, parseSelector, selectorMatches, type Requirement } from "./selector.ts";

function selects(text: string, labels: Record<string, string>): boolean {
  return selectorMatches(parseSelector(text), labels);
}

test("parseSelector reads every form", () => {
  assert.deepEqual(parseSelector("a=b, c!=d,e in (x, y),g notin (z),f,!h/i,j==k"), [
    { key: "a", op: "in", values: ["b"] },
    { key: "c", op: "notin", values: ["d"] },
    { key: "e", op: "in", values: ["x", "y"] },
    { key: "g", op: "notin", values: ["z"] },
    { key: "f", op: "exists" },
    { key: "h/i", op: "absent" },
    { key: "j", op: "in", values: ["k"] },
  ]);
  assert.deepEqual(parseSelector("  "), []);
});

test("selectorMatches holds where all requirements do", () => {
  assert.ok(selects("zone=a,tier in (web,api),!old", { zone: "a", tier: "api" }));
  assert.ok(!selects("zone=a", {}));
  assert.ok(selects("zone!=a", {}));
  assert.ok(selects("zone notin (a)", {}));
  assert.ok(selects("zone", { zone: "" }));
  assert.ok(!selects("constructor", {}));
});

test("parseSelector refuses and names the place", () => {
  for (const text of ["a=b,", ",", "a in x", "a=b c=d", "=b", "a in (x", "-a=b", "a=b c", "!a=b", "a=-"]) {
    assert.throws(() => parseSelector(text), { code: "INVALID_ARGUMENT", reason: "SELECTOR_INVALID" }, text);
  }
  assert.throws(() => parseSelector("a=b,c in x"), /does not parse at "c in x"/);
});

test("formatSelector gives back the same requirements", () => {
  const word = fc.stringMatching(/^[a-z][a-z0-9]{0,5}$/);
  const requirement: fc.Arbitrary<Requirement> = fc.oneof(
    fc.record(
      {
        key: word,
        op: fc.constantFrom("in" as const, "notin" as const),
        values: fc.array(word, { minLength: 1, maxLength: 3 }),
      },
      { noNullPrototype: true },
    ),
    fc.record({ key: word, op: fc.constantFrom("exists" as const, "absent" as const) }, { noNullPrototype: true }),
  );
  fc.assert(
    fc.property(fc.array(requirement, { maxLength: 5 }), (requirements) => {
      assert.deepEqual(parseSelector(formatSelector(requirements)), requirements);
    }),
  );
});
