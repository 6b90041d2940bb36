import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { NodeSchema } from "@berth/proto";
import { groupsOf } from "./upgrade.ts";

const nodes = ["d", "a", "c", "b", "e"].map((name, index) =>
  create(NodeSchema, { metadata: { name, labels: { zone: index % 2 === 0 ? "x" : "y" } } }),
);
const names = (options: { canary: string; batch: string; groupBy?: string }): string[] =>
  groupsOf(nodes, options).map((group) => group.map((node) => node.metadata!.name).join(""));

void test("groupsOf begins with the canary, then takes a number or a share at a time, by name", () => {
  assert.deepEqual(names({ canary: "1", batch: "2" }), ["a", "bc", "de"]);
  assert.deepEqual(names({ canary: "2", batch: "10%" }), ["ab", "c", "d", "e"]);
  assert.deepEqual(names({ canary: "0", batch: "100%" }), ["abcde"]);
  assert.deepEqual(names({ canary: "9", batch: "1" }), ["abcde"]);
});

void test("groupsOf puts no two values of the label into a group, the canary apart", () => {
  assert.deepEqual(names({ canary: "0", batch: "5", groupBy: "zone" }), ["ab", "cde"]);
});

void test("groupsOf refuses what is no number of nodes", () => {
  assert.throws(() => names({ canary: "some", batch: "1" }), /--canary "some" is not a number of nodes/);
  assert.throws(() => names({ canary: "1", batch: "0" }), /at least one node/);
});
