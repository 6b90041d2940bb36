import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";

/** Packages that a file imports before it runs, by itself or through its relatives. `import type` and `import()` are left out. */
function packagesOf(file: string, seen = new Set<string>()): Set<string> {
  const packages = new Set<string>();
  if (seen.has(file)) return packages;
  seen.add(file);
  for (const [, specifier = ""] of readFileSync(file, "utf8").matchAll(/^import (?!type )[^"]*"([^"]+)";$/gm)) {
    const found = specifier.startsWith(".") ? packagesOf(join(dirname(file), specifier), seen) : [specifier];
    for (const name of found) packages.add(name);
  }
  return packages;
}

void test("main.ts loads nothing heavy before a command runs, so that help answers at once", () => {
  const heavy = [...packagesOf(join(import.meta.dirname, "main.ts"))].filter((name) => !name.startsWith("node:"));
  assert.deepEqual(heavy.toSorted(), ["@berth/base", "@berth/base/terminal", "commander"]);
});
