/** The command line of `berthd` without an agent: help, usage, and what is said when nobody answers. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import { runBerthd } from "../testing/berthd.ts";
import { EXIT_CODES } from "./exit-code.ts";
import type { GlobalOptions, SimulatorOptions } from "./options.ts";
import { createProgram, runProgram } from "./program.ts";

const silent = { write: () => true };

interface Seen {
  config?: string | undefined;
  options?: GlobalOptions;
  simulator?: SimulatorOptions;
}

/** Runs a command line; gives what it would run the agent or a command with. */
async function parsed(...argv: string[]): Promise<Seen> {
  const seen: Seen = {};
  const program = createProgram({
    stdout: silent,
    stderr: silent,
    runAgent: async (config) => void (seen.config = config ?? "-"),
    runSimulator: async (options) => void (seen.simulator = options),
    openSession: async (options) => {
      seen.options = options;
      throw new Error("enough");
    },
  });
  await runProgram(program, argv).catch((error: unknown) => {
    if ((error as Error).message !== "enough") throw error;
  });
  return seen;
}

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

void test("main.ts loads nothing heavy before it knows what to do, so that help answers at once", () => {
  const packages = packagesOf(join(import.meta.dirname, "../main.ts"));
  const heavy = [...packages].filter((name) => !name.startsWith("node:"));
  assert.deepEqual(heavy.toSorted(), ["@berth/base", "@berth/base/terminal", "commander"]);
});

void test("berthd is the agent without a command, and its options stand anywhere with one", async () => {
  assert.deepEqual(await parsed(), { config: "-" });
  assert.deepEqual(await parsed("--config", "a.yaml"), { config: "a.yaml" });
  assert.deepEqual(await parsed("--config=a.yaml"), { config: "a.yaml" });
  const { options } = await parsed("-o", "json", "images", "list", "-n", "shop", "--address", "unix:/x");
  assert.deepEqual({ ...options }, { namespace: "shop", output: "json", address: "unix:/x" });
});

void test("berthd --simulate is many agents, with what they pretend", async () => {
  const { simulator } = await parsed(
    "--simulate",
    "20",
    "--simulate-set",
    "seed=2",
    "--simulate-set=zones=5",
    "--config",
    "c",
  );
  assert.deepEqual(
    [simulator?.simulate, simulator?.simulateSet, simulator?.simulateProfile, simulator?.config],
    [20, ["seed=2", "zones=5"], undefined, "c"],
  );
});

void test("berthd refuses what it does not know, with the nearest that it does", async () => {
  const says = async (argv: string[], pattern: RegExp): Promise<void> => {
    const { code, stderr, stdout } = await runBerthd(argv);
    assert.deepEqual([code, stdout], [2, ""], argv.join(" "));
    assert.match(stderr, pattern);
  };
  await Promise.all([
    says(["--confg", "x"], /^berthd: there is no option --confg; did you mean --config\?/),
    says(["imags", "ls", "-o", "json"], /^berthd: there is no command "imags"; did you mean "images"\?/),
    says(["images", "lst"], /there is no command "lst"; did you mean list or ls\?\n\(see berthd images --help\)/),
    says(["images", "ls", "--jsn"], /there is no option --jsn/),
    says(["pull"], /<image> is missing\n\(see berthd pull --help\)/),
    says(["--simulate", "none"], /--simulate "none" is not a number of agents from 1 to 20000/),
    says(["--simulate", "2", "--simulate-set", "seed"], /write it as FIELD=VALUE/),
    says(["--simulate-set", "seed=1"], /say what --simulate N pretends/),
    says(["-n", "shop"], /-n and -o belong to a command/),
    says(["images", "ls", "-o", "yml"], /-o "yml": choose table or json/),
    says(["images", "ls", "--address", "tcp:1"], /--address "tcp:1" is not of the form unix:/),
    says(["content", "cat", "sha256:x", "--offset", "-1"], /--offset "-1" is not a number of bytes/),
    says(["content", "label", "sha256:x", "odd"], /"odd" is neither KEY=VALUE nor KEY-/),
    says(["leases", "create", "--expires", "soon"], /--expires "soon" is not a duration such as/),
  ]);
});

void test("berthd without a command that cannot start ends with 1, and 2 when its configuration is wrong", async () => {
  const missing = await runBerthd(["--config", "/nonexistent.yaml"]);
  assert.equal(missing.code, 1);
  assert.match(missing.stderr, /^berthd: .*\/nonexistent\.yaml/);
  const wrong = await runBerthd([], { env: { BERTH_NODE: "UPPER", REDIS_URL: "redis://x", NATS_URL: "nats://x" } });
  assert.deepEqual([wrong.code, /node/.test(wrong.stderr)], [2, true], wrong.stderr);
});

void test("berthd says that there is no agent, and how to name another socket", async () => {
  const missing = await runBerthd(["images", "ls", "--address", "unix:/nonexistent/berthd.sock"]);
  assert.equal(missing.code, 6);
  assert.match(missing.stderr, /^berthd: there is no socket \/nonexistent\/berthd\.sock: is berthd running\?/);
});

void test("berthd helps on every command, with examples, and on exit codes as docs/berthd.md has them", async () => {
  const [all, pull, help, codes] = await Promise.all([
    runBerthd(["--help"]),
    runBerthd(["pull", "--help"]),
    runBerthd(["help", "pull"]),
    runBerthd(["help", "exit-codes"]),
  ]);
  for (const word of ["images", "content", "snapshots", "leases", "gc", "status", "Exit codes:"]) {
    assert.ok(all.stdout.includes(word), word);
  }
  assert.match(pull.stdout, /Examples:\n {2}berthd pull/);
  assert.match(pull.stdout, /--namespace <name>/);
  assert.deepEqual(help, pull);
  const document = readFileSync(resolve(import.meta.dirname, "../../../../docs/berthd.md"), "utf8");
  for (const [code, meaning] of EXIT_CODES) {
    assert.ok(codes.stdout.includes(`${code}  ${meaning}`));
    assert.ok(document.includes(`| ${code} | ${meaning} |`), `docs/berthd.md lacks ${code}`);
  }
});

void test("berthd and berth end quietly when whoever reads their help has gone", async () => {
  const bin = resolve(import.meta.dirname, "../../../../bin");
  for (const name of ["berthd", "berth"]) {
    const script = `"${bin}/${name}" --help | :; exit "\${PIPESTATUS[0]}"`;
    const { stderr } = await promisify(execFile)("bash", ["-c", script]);
    assert.equal(stderr, "");
  }
});
