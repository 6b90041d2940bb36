import assert from "node:assert/strict";
import { test } from "node:test";
import { billOfMaterials, packageFolderOf, partsOf } from "./bill.ts";

void test("packageFolderOf finds the innermost package, with its scope", () => {
  assert.equal(packageFolderOf("node_modules/yaml/dist/index.js"), "node_modules/yaml");
  assert.equal(packageFolderOf("node_modules/a/node_modules/@b/c/lib/x.js"), "node_modules/a/node_modules/@b/c");
  assert.equal(packageFolderOf("libs/base/src/clock.ts"), undefined);
});

void test("billOfMaterials names each package once, with the hash that the lock file has", () => {
  const lock = { "node_modules/@b/c": { version: "1.2.3", license: "MIT", integrity: "sha512-AAEC" } };
  const parts = partsOf(lock, ["node_modules/@b/c", "node_modules/@b/c"]);
  const { components } = JSON.parse(billOfMaterials("0.1.0", parts)) as { components: unknown[] };
  assert.deepEqual(components, [
    {
      type: "library",
      name: "@b/c",
      version: "1.2.3",
      purl: "pkg:npm/%40b/c@1.2.3",
      licenses: [{ expression: "MIT" }],
      hashes: [{ alg: "SHA-512", content: "000102" }],
    },
  ]);
  assert.throws(() => partsOf(lock, ["node_modules/other"]), /does not know node_modules\/other/);
});
