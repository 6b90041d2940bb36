import assert from "node:assert/strict";
import { test } from "node:test";
import { Gathering } from "./gathering.ts";

void test("Gathering waits as the last look took and by its tasks, between its bounds, for each workload by itself", () => {
  const gathering = new Gathering();
  assert.equal(gathering.waitMs("a"), 10);
  gathering.took("a", 1, 1);
  assert.equal(gathering.waitMs("a"), 10);
  gathering.took("a", 50, 1);
  assert.deepEqual([gathering.waitMs("a"), gathering.waitMs("b")], [200, 10]);
  gathering.took("a", 60_000, 1);
  assert.equal(gathering.waitMs("a"), 500);
  gathering.took("a", 2, 1);
  assert.equal(gathering.waitMs("a"), 10);
  gathering.took("a", 2, 1_000);
  assert.equal(gathering.waitMs("a"), 300);
  gathering.forget("a");
  assert.equal(gathering.waitMs("a"), 10);
});
