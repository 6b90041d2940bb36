/** What is installed here is what `npm ci` and the mends made of it. */
import assert from "node:assert/strict";
import { existsSync, readFileSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { ROOT } from "../fleet/layout.ts";

const MANIFEST = join(ROOT, "node_modules/drizzle-orm/package.json");

void test("drizzle-orm's manifest is short, and its names lead to the same files as before", () => {
  assert.ok(statSync(MANIFEST).size < 20_000, "Node reads it for each of the package's modules");
  const { exports } = JSON.parse(readFileSync(MANIFEST, "utf8")) as { exports: Record<string, { import: string }> };
  assert.ok(Object.keys(exports).length > 60);
  for (const [name, file] of [
    ["drizzle-orm", "index.js"],
    ["drizzle-orm/pg-core", "pg-core/index.js"],
    ["drizzle-orm/postgres-js/migrator", "postgres-js/migrator.js"],
  ] as const) {
    assert.equal(fileURLToPath(import.meta.resolve(name)), join(dirname(MANIFEST), file));
  }
  for (const target of Object.values(exports).map((each) => each.import))
    assert.ok(target.includes("*") || existsSync(join(dirname(MANIFEST), target)), target);
});

void test("postgres.js is the one that survives lost connections", () => {
  const text = readFileSync(join(ROOT, "node_modules/postgres/src/connection.js"), "utf8");
  assert.ok(text.startsWith("/* berth */"), "npm ci runs deploy/dev/patches/apply.mjs");
});
