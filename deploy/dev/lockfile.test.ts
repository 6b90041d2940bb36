/** What `npm ci` would refuse in a fresh clone, said before somebody clones. */
import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { ROOT } from "./fleet/layout.ts";

type Versions = Readonly<Record<string, string>>;

interface Manifest {
  readonly dependencies?: Versions;
  readonly devDependencies?: Versions;
  readonly optionalDependencies?: Versions;
}

const MEND = "run `npm install --package-lock-only`, then `node deploy/dev/lockfile-stubs.mjs`";

function read(file: string): unknown {
  return JSON.parse(readFileSync(join(ROOT, file), "utf8"));
}

const { packages } = read("package-lock.json") as { packages: Record<string, Manifest> };

void test("package-lock.json knows the dependencies of every workspace", () => {
  const manifests = globSync("{package.json,{libs,apps}/*/package.json}", { cwd: ROOT });
  assert.ok(manifests.length > 20, `only ${manifests.length} manifests were found`);
  for (const file of manifests) {
    const locked = packages[dirname(file) === "." ? "" : dirname(file)] ?? {};
    const manifest = read(file) as Manifest;
    for (const kind of ["dependencies", "devDependencies", "optionalDependencies"] as const) {
      assert.deepEqual(locked[kind] ?? {}, manifest[kind] ?? {}, `${kind} of ${file} differ: ${MEND}`);
    }
  }
});

void test("package-lock.json has an entry for the packages of every platform", () => {
  const names = new Set(Object.keys(packages).map((path) => path.slice(path.lastIndexOf("node_modules/") + 13)));
  const optional = Object.values(packages).flatMap((entry) => Object.keys(entry.optionalDependencies ?? {}));
  assert.ok(optional.length > 20, `only ${optional.length} optional packages were found`);
  assert.deepEqual(
    optional.filter((name) => !names.has(name)),
    [],
    MEND,
  );
});
