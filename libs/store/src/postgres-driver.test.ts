import assert from "node:assert/strict";
import { test } from "node:test";
import { isLostSocketWrite, STARTUP_OPTIONS } from "./postgres-driver.ts";

/** As it was seen. That the controller lives on is shown by `test/chaos/seeded.test.ts`, seed 1. */
void test("isLostSocketWrite knows the driver's own mistake, and takes no other error for it", () => {
  const seen = new TypeError("Cannot read properties of null (reading 'write')");
  assert.equal(isLostSocketWrite(seen), false, "somebody else's");
  seen.stack = `${String(seen)}\n    at Immediate.nextWrite (file:///srv/berth/node_modules/postgres/src/connection.js:255:22)`;
  assert.equal(isLostSocketWrite(seen), true);
  assert.equal(isLostSocketWrite(new Error("anything")), false);
  assert.ok(STARTUP_OPTIONS.length > 1_024 && STARTUP_OPTIONS.trim() === "");
});
