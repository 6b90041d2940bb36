import assert from "node:assert/strict";
import { test } from "node:test";
import { hasCode } from "@berth/base";
import { groupsOf } from "./groups.ts";

const nodes = ["d", "a", "c", "b", "e"].map((name, index) => ({
  name,
  labels: { zone: index % 2 === 0 ? "x" : "y" },
}));
const names = (options: { canary?: number; batch?: string; groupBy?: string }): string[] =>
  groupsOf(nodes, { batch: "", groupBy: "", ...options }).map((group) => group.map(({ name }) => name).join(""));

void test("groupsOf begins with the canary, then takes a number or a share at a time, by name", () => {
  assert.deepEqual(names({ batch: "2" }), ["a", "bc", "de"]);
  assert.deepEqual(names({ canary: 2 }), ["ab", "c", "d", "e"]);
  assert.deepEqual(names({ canary: 0, batch: "100%" }), ["abcde"]);
  assert.deepEqual(names({ canary: 9, batch: "1" }), ["abcde"]);
});

void test("groupsOf puts no two values of the label into a group, the canary apart", () => {
  assert.deepEqual(names({ canary: 0, batch: "5", groupBy: "zone" }), ["ab", "cde"]);
});

void test("groupsOf refuses what is no number of nodes and no share", () => {
  for (const batch of ["0", "0%", "101%", "some", "-1", "1.5"]) {
    const refused = (error: unknown): boolean => hasCode(error, "INVALID_ARGUMENT") && /spec.batch/.test(String(error));
    assert.throws(() => names({ batch }), refused, batch);
  }
});
