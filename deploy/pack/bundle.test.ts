/** What the sources start or read by a path beside their own is in the bundles' folder too. */
import assert from "node:assert/strict";
import { existsSync, globSync, readFileSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { test } from "node:test";
import { ENTRY_POINTS } from "./bundle.ts";

const ROOT = resolve(import.meta.dirname, "../..");

interface Mention {
  readonly file: string;
  readonly name: string;
}

function mentionsOf(pattern: RegExp): Mention[] {
  const files = globSync("{apps,libs}/*/src/**/*.ts", { cwd: ROOT }).filter(
    (file) => !/\.test\.ts$|\/testing\/|libs\/testkit/.test(file),
  );
  assert.ok(files.length > 300, `only ${files.length} files were read`);
  return files.flatMap((file) =>
    [...readFileSync(join(ROOT, file), "utf8").matchAll(pattern)].map(([, name = ""]) => ({ file, name })),
  );
}

void test("ENTRY_POINTS has every thread that the agent starts, and files that exist", () => {
  const started = mentionsOf(/siblingModule\("([^"]+)"/g).map(({ file, name }) => join(dirname(file), `${name}.ts`));
  assert.ok(started.length >= 7);
  const known = new Set(Object.values(ENTRY_POINTS).flatMap((entries) => Object.values(entries)));
  assert.deepEqual(started.filter((file) => !known.has(file)), []); // prettier-ignore
  assert.deepEqual([...known].filter((file) => !existsSync(join(ROOT, file))), []); // prettier-ignore
  for (const [name, file] of Object.entries(ENTRY_POINTS.agent)) assert.equal(basename(file, ".ts"), name);
});

void test("modules look for nothing beside themselves but what tree.ts puts there", () => {
  const found = mentionsOf(/new URL\("([^"]+)", import\.meta\.url\)/g).map(({ name }) => name);
  assert.deepEqual([...new Set(found)].toSorted(), ["../migrations", "../package.json", "pause.sh", "stopper.sh"]);
  assert.deepEqual(mentionsOf(/new Worker\(new URL\(([^)]*)/g), []);
});

void test("packages that are imported late are taken by their default export: in a bundle, CommonJS has no other", () => {
  const late = mentionsOf(/(?:const|let) (.*) = await import\("(?!@berth\/|node:|\.)/g);
  assert.ok(late.length > 0);
  assert.deepEqual(late.filter(({ name }) => !name.startsWith("{ default: ")), []); // prettier-ignore
});
