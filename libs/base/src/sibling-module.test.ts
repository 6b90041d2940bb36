import assert from "node:assert/strict";
import { test } from "node:test";
import { siblingModule } from "./sibling-module.ts";

void test("siblingModule is TypeScript beside TypeScript, and JavaScript beside a bundle", () => {
  assert.equal(siblingModule("thread", "file:///repo/src/pull.ts").href, "file:///repo/src/thread.ts");
  assert.equal(siblingModule("thread", "file:///opt/lib/chunk-AB12.js").href, "file:///opt/lib/thread.js");
});
