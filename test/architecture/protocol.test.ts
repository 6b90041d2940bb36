/**
 * The code names the steps of the protocol's specifications (`test/model`) that it implements: `// protocol: LeaseGranted`. Every
 * step is named somewhere, and no name is one that no specification has.
 */
import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { test } from "node:test";
import { STEPS as ASSIGNMENT } from "../model/assignment/specification.ts";
import { STEPS as STOP_THEN_REPLACE } from "../model/stop-then-replace/specification.ts";

const ROOT = resolve(import.meta.dirname, "../..");
const NAMES = /(?:\/\/|#) protocol: (.+)$/gm;

interface Mention {
  readonly file: string;
  readonly name: string;
}

function mentions(): Mention[] {
  const files = globSync("{apps,libs}/*/src/**/*.{ts,sh}", { cwd: ROOT }).filter((file) => !file.endsWith(".test.ts"));
  assert.ok(files.length > 200, `only ${files.length} files were read`);
  return files.flatMap((file) => {
    const text = readFileSync(resolve(ROOT, file), "utf8");
    return [...text.matchAll(NAMES)].flatMap((match) => match[1]!.split(", ").map((name) => ({ file, name })));
  });
}

void test("the code names no step that the specifications do not have", () => {
  const known = new Set([...Object.keys(ASSIGNMENT), ...Object.keys(STOP_THEN_REPLACE)]);
  assert.deepEqual(
    mentions().filter(({ name }) => !known.has(name)),
    [],
  );
});

void test("every step of the specifications is named in the code", () => {
  const named = new Set(mentions().map(({ name }) => name));
  const steps = new Set([...Object.keys(ASSIGNMENT), ...Object.keys(STOP_THEN_REPLACE)]);
  assert.deepEqual(
    [...steps].filter((name) => !named.has(name)),
    [],
  );
});
