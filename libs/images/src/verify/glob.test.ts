import assert from "node:assert/strict";
import { test } from "node:test";
import { globMatches } from "./glob.ts";

test("globMatches takes * for what is between slashes and ** for anything", () => {
  for (const [pattern, text, fits] of [
    ["r.io/app", "r.io/app", true],
    ["r.io/app", "r.io/app2", false],
    ["r.io/app", "xr.io/app", false],
    ["r.io/*", "r.io/app", true],
    ["r.io/*", "r.io/team/app", false],
    ["r.io/**", "r.io/team/app", true],
    ["r.io/*/app", "r.io/team/app", true],
    ["r.io/*", "r.io.evil/app", false],
    ["*.io/app", "r.io/app", true],
    ["**", "anything/at/all", true],
    ["r.io/a.p", "r.io/axp", false],
    ["", "", true],
    ["*", "", true],
  ] as const) {
    assert.equal(globMatches(pattern, text), fits, `${pattern} ${text}`);
  }
});

test("globMatches does not explode", () => {
  assert.equal(globMatches(`${"*a".repeat(50)}b`, "a".repeat(2000)), false);
});
