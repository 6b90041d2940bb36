/** `npm run up` and `npm run down` as a newcomer calls them, in a directory of their own. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { existsSync, globSync, readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { hostsId } from "@berth/testkit/hosts";
import { scratchDir } from "@berth/testkit/servers";
import { layoutIn, NODES, ROOT, type Layout } from "./fleet/layout.ts";
import { remembered } from "./fleet/state.ts";
import { findTraces } from "./fleet/traces.ts";

interface Outcome {
  readonly code: number;
  readonly output: string;
  readonly seconds: number;
}

function run(program: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Outcome> {
  const start = performance.now();
  // The external servers of whoever runs the tests are none of this test's.
  const { DATABASE_URL: _d, REDIS_URL: _r, NATS_URL: _n, NODE_TEST_CONTEXT: _t, ...rest } = process.env;
  return new Promise((resolve) => {
    execFile(program, args, { env: { ...rest, ...env }, timeout: 180_000 }, (error, stdout, stderr) => {
      const code = error === null ? 0 : Number(error.code ?? 1);
      resolve({ code, output: stdout + stderr, seconds: (performance.now() - start) / 1000 });
    });
  });
}

const dev = (script: string, dir: string, ...args: string[]): Promise<Outcome> =>
  run(process.execPath, [join(ROOT, "deploy/dev", script), "--dir", dir, ...args]);

async function succeed(script: string, dir: string, ...args: string[]): Promise<Outcome> {
  const outcome = await dev(script, dir, ...args);
  assert.equal(outcome.code, 0, outcome.output);
  return outcome;
}

/** Places outside `.berth/` where container tools like to keep things. */
function outside(): string[] {
  const places = [
    "/run/netns",
    "/run/runc",
    "/run/crun",
    "/run/conmon",
    "/run/berth",
    "/var/lib/cni",
    "/var/lib/berth",
  ];
  return places.flatMap((place) => globSync(`${place}/**`)).sort();
}

function programs(layout: Layout): (number | undefined)[] {
  const names = ["postgres", "redis", "nats", "registry", "controller", ...NODES];
  return names.map((name) => remembered(layout, name)?.pid);
}

void test("up brings a fleet to a running workload, a second up leaves it alone, down leaves nothing, up goes on", async () => {
  using scratch = scratchDir("berth-up");
  const layout = layoutIn(scratch.dir);
  const before = outside();
  try {
    const first = await succeed("up.ts", scratch.dir);
    assert.match(first.output, /the controller calls both nodes Ready/);
    assert.match(first.output, /\$ berth pull /);
    for (const node of NODES) assert.match(first.output, new RegExp(`^hello-.*${node} .*Running`, "m"));
    assert.match(first.output, /hello from /);
    assert.equal(statSync(layout.contextFile).mode & 0o777, 0o600);
    const pids = programs(layout);
    assert.ok(!pids.includes(undefined), String(pids));

    const scale = `cd ${scratch.dir} && exec ${join(ROOT, "bin/berth")} scale hello 3`;
    assert.equal((await run("sh", ["-c", scale], { XDG_CONFIG_HOME: scratch.dir })).code, 0);
    const second = await succeed("up.ts", scratch.dir);
    assert.ok(second.seconds < 15, `the second run took ${second.seconds} s`);
    assert.deepEqual(programs(layout), pids);
    assert.match(second.output, /workload\/hello unchanged/);
    assert.equal(second.output.match(/^hello-\w+ +hello .* Running /gm)?.length, 3, second.output);

    await succeed("down.ts", scratch.dir);
    assert.deepEqual(findTraces(layout), { processes: [], mounts: [], cgroups: [], links: [] });
    assert.deepEqual(outside(), before);
    assert.doesNotMatch(readFileSync("/proc/self/mountinfo", "utf8"), new RegExp(scratch.dir));
    assert.deepEqual(processesNaming(scratch.dir), []);
    assert.doesNotMatch((await run("iptables-save", [])).output, new RegExp(`${hostsId(layout.hosts)}|berth`));

    const again = await succeed("up.ts", scratch.dir);
    assert.match(again.output, /workload\/hello unchanged/);
    assert.match(again.output, /hello from /);
  } finally {
    await succeed("down.ts", scratch.dir, "--purge");
  }
  assert.equal(existsSync(layout.dir), false);
});

void test("down without a fleet says so and succeeds", async () => {
  using scratch = scratchDir("berth-up");
  const down = await dev("down.ts", scratch.dir);
  assert.equal(down.code, 0, down.output);
  assert.match(down.output, /none was running/);
});

/** Of processes that have the directory in their arguments. */
function processesNaming(dir: string): string[] {
  return readdirSync("/proc")
    .filter((pid) => /^\d+$/.test(pid))
    .map((pid) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
      } catch {
        return "";
      }
    })
    .filter((command) => command.includes(dir));
}
