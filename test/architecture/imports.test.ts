/**
 * Who may import whom (ARCHITECTURE.md, "Layers"). Every import statement of every source file is read and held against
 * two things: the rank of the package, and the edges its package.json declares. The test asserts that it saw files, so that
 * a moved folder cannot make it pass by seeing nothing.
 */
import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { builtinModules } from "node:module";
import { dirname, join, relative, resolve } from "node:path";
import { test } from "node:test";

const ROOT = resolve(import.meta.dirname, "../..");

/** Lower may not see higher, nor its equals. */
const RANK: Readonly<Record<string, number>> = {
  base: 0,
  proto: 0,
  model: 1,
  config: 1,
  telemetry: 1,
  linux: 2,
  metadata: 2,
  content: 3,
  registry: 3,
  journal: 3,
  snapshots: 3,
  runtime: 3,
  network: 3,
  store: 3,
  jobs: 3,
  bus: 3,
  identity: 3,
  rpc: 3,
  images: 4,
  testkit: 5,
  controller: 6,
  "node-agent": 6,
  cli: 6,
};

interface Import {
  readonly file: string;
  readonly specifier: string;
}

interface Manifest {
  readonly name: string;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
}

const IMPORT =
  /(?:^|[\s;{}])(?:import|export)\s+(?:type\s+)?(?:[^"';]*?\sfrom\s+)?["']([^"']+)["']|\bimport\(\s*["']([^"']+)["']\s*\)/g;
const BUILTINS = new Set(builtinModules);

function sourcesOf(pattern: string): string[] {
  return globSync(pattern, { cwd: ROOT }).filter((file) => !file.includes("node_modules") && !file.includes("/gen/"));
}

function importsOf(file: string): Import[] {
  const text = readFileSync(join(ROOT, file), "utf8").replaceAll(/\/\*[\s\S]*?\*\//g, "");
  return [...text.matchAll(IMPORT)].map((match) => ({ file, specifier: match[1] ?? match[2]! }));
}

function manifestOf(file: string): Manifest {
  const [group, name] = file.split("/");
  return JSON.parse(readFileSync(join(ROOT, group!, name!, "package.json"), "utf8")) as Manifest;
}

const isTest = (file: string): boolean => /\.test\.ts$|\/testing\//.test(file);
const packageOf = (specifier: string): string =>
  specifier.startsWith("@") ? specifier.split("/").slice(0, 2).join("/") : specifier.split("/")[0]!;

const files = sourcesOf("{libs,apps}/*/src/**/*.{ts,tsx}");
const imports = files.flatMap(importsOf);

void test("architecture: the checks see the sources", () => {
  assert.ok(files.length > 150, `only ${files.length} source files were found`);
  assert.ok(imports.length > 500, `only ${imports.length} imports were found`);
  const packages = new Set(files.map((file) => file.split("/")[1]!));
  for (const name of packages)
    assert.ok(name in RANK, `package ${name} has no rank: add it here and to ARCHITECTURE.md`);
});

void test("architecture: packages import lower ranks only, by the edges their package.json declares", () => {
  const wrong: string[] = [];
  for (const { file, specifier } of imports) {
    if (specifier.startsWith(".") || specifier.startsWith("node:") || BUILTINS.has(specifier)) continue;
    const own = file.split("/")[1]!;
    const manifest = manifestOf(file);
    const target = packageOf(specifier);
    if (target === manifest.name) continue;
    const declared = { ...manifest.dependencies, ...(isTest(file) ? manifest.devDependencies : {}) };
    const rootOnly = isTest(file) && target === "fast-check";
    const testkit = isTest(file) && target === "@berth/testkit";
    if (!rootOnly && !testkit && !Object.hasOwn(declared, target))
      wrong.push(`${file}: ${specifier} is not in ${manifest.name}'s dependencies`);
    if (!target.startsWith("@berth/") || isTest(file)) continue;
    const rank = RANK[target.slice("@berth/".length)];
    if (rank === undefined || rank >= RANK[own]!)
      wrong.push(`${file}: ${own} (rank ${RANK[own]}) may not import ${target} (rank ${rank})`);
  }
  assert.deepEqual(wrong, []);
});

void test("architecture: packages declare only what they import", () => {
  const used = new Map<string, Set<string>>();
  for (const { file, specifier } of imports) {
    const folder = file.split("/").slice(0, 2).join("/");
    used.set(folder, (used.get(folder) ?? new Set()).add(packageOf(specifier)));
  }
  const idle = [...used].flatMap(([folder, specifiers]) =>
    Object.keys(manifestOf(folder).dependencies ?? {})
      // Generated code is not read here, and libs/proto is nothing else.
      .filter((name) => !specifiers.has(name) && folder !== "libs/proto")
      .map((name) => `${folder} declares ${name} and does not import it`),
  );
  assert.deepEqual(idle, []);
});

void test("architecture: relative imports stay inside their package and name a file", () => {
  const wrong = imports
    .filter(({ specifier }) => specifier.startsWith("."))
    .filter(({ file, specifier }) => {
      const target = relative(ROOT, resolve(ROOT, dirname(file), specifier));
      const inside = target.split("/").slice(0, 2).join("/") === file.split("/").slice(0, 2).join("/");
      return !inside || !/\.(ts|tsx|json)$/.test(specifier);
    });
  assert.deepEqual(wrong, []);
});

void test("architecture: only composition roots read the environment, take signals or exit", () => {
  const allowed = /\/main\.ts$|-thread\.ts$|-worker\.ts$|\/testkit\/|\.test\.ts$|\/testing\//;
  const wrong = files
    .filter((file) => !allowed.test(file))
    .filter((file) =>
      /\bprocess\.(env|exit|on|once)\b/.test(
        readFileSync(join(ROOT, file), "utf8").replaceAll(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, ""),
      ),
    );
  assert.deepEqual(wrong, []);
});

void test("architecture: every source file opens with what it is about", () => {
  const silent = files.filter((file) => {
    if (/\.test\.ts$|\/index\.ts$|\/gen\//.test(file)) return false;
    return !/^(#!.*\n)?\s*\/\*\*/.test(readFileSync(join(ROOT, file), "utf8"));
  });
  assert.deepEqual(silent, []);
});
