import assert from "node:assert/strict";
import { test } from "node:test";
import { specOf } from "./upgrade.ts";

void test("specOf refuses what no node would take, and names the option", () => {
  const options = { to: "0.2.0", canary: "1", batch: "10%", maxFailures: "0", timeout: "60s" };
  const image = `registry.internal/berth/agent@sha256:${"9".repeat(64)}`;
  assert.equal(specOf({ ...options, image }).image, image);
  assert.throws(() => specOf({ ...options, to: "../etc" }), /--to "\.\.\/etc" is no version/);
  assert.throws(
    () => specOf({ ...options, image: "berth/agent:0.2.0" }),
    /--image "berth\/agent:0\.2\.0": name it by digest/,
  );
  assert.throws(() => specOf({ ...options, canary: "some" }), /--canary "some" is not a number of nodes/);
  assert.throws(() => specOf({ ...options, timeout: "60" }), /--timeout "60" is not a duration/);
});
