/** `bin/berth` as users run it, against the real controller on real servers. No agents: tasks wait for a node. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { promisify } from "node:util";
import { Lifetime } from "@berth/base";
import { createControllerProcess, type ControllerProcess } from "@berth/testkit";
import { eventually, freePort, scratchDir, startNats, startPostgres, startRedis } from "@berth/testkit/servers";
import { EXIT_CODES } from "./exit-code.ts";
import { cleanEnv, runBerth, startBerth, type Result, type RunOptions } from "./testing/berth.ts";

const lifetime = new Lifetime();
let dir = "";
let token = "";
let controller: ControllerProcess;

before(async () => {
  dir = lifetime.own(scratchDir("berth-cli")).dir;
  const [postgres, redis, nats, grpc, http] = await Promise.all([
    startPostgres({ dir: join(dir, "postgres") }).then((server) => lifetime.own(server)),
    startRedis({ dir: join(dir, "redis") }).then((server) => lifetime.own(server)),
    startNats({ dir: join(dir, "nats") }).then((server) => lifetime.own(server)),
    freePort(),
    freePort(),
  ]);
  const config = {
    databaseUrl: postgres.url,
    redisUrl: redis.url,
    natsUrl: nats.url,
    listen: { grpc: `127.0.0.1:${grpc}`, http: `127.0.0.1:${http}` },
    bootstrapTokenFile: join(dir, "token"),
  };
  controller = lifetime.own(createControllerProcess({ dir: join(dir, "controller"), config }));
  await controller.start();
  token = readFileSync(join(dir, "token"), "utf8").trim();
  await ok(["ns", "create", "shop", "--description", "the shop"]);
});
after(() => lifetime[Symbol.asyncDispose]());

const access = (): Record<string, string> => ({
  BERTH_ENDPOINT: controller.grpcEndpoint,
  BERTH_TOKEN: token,
  XDG_CONFIG_HOME: join(dir, "config"),
});

const berth = (args: readonly string[], options: RunOptions = {}): Promise<Result> =>
  runBerth(args, { cwd: dir, ...options, env: { ...access(), ...options.env } });

async function ok(args: readonly string[], options: RunOptions = {}): Promise<string> {
  const result = await berth(args, options);
  assert.equal(result.code, 0, `berth ${args.join(" ")}: ${result.stderr}`);
  return result.stdout;
}

async function fails(code: number, args: readonly string[], stderr: RegExp, options: RunOptions = {}): Promise<void> {
  const result = await berth(args, options);
  assert.match(result.stderr, stderr);
  assert.equal(result.code, code, `berth ${args.join(" ")}: ${result.stderr}`);
  assert.equal(result.stdout, "");
}

const manifest = (name: string, replicas: number, more = ""): string =>
  `apiVersion: berth/v1\nkind: Workload\nmetadata: { name: ${name} }\nspec:\n  replicas: ${replicas}\n` +
  `  container:\n    image: registry.test/demo/app:v1\n${more}`;

void test("berth apply, diff, get, describe, scale and delete take a workload through its life", async () => {
  const shop = ["-n", "shop"];
  const input = manifest("web", 2);
  assert.equal(await ok([...shop, "apply", "-f", "-"], { input }), "workload/web created\n");
  assert.equal(await ok([...shop, "apply", "-f", "-"], { input }), "workload/web unchanged\n");
  assert.equal(await ok([...shop, "diff", "-f", "-"], { input }), "");
  const changed = await berth([...shop, "diff", "-f", "-"], { input: manifest("web", 3) });
  assert.equal(changed.code, 1);
  assert.match(changed.stdout, /^workload\/web$[^]*^- +replicas: 2$[^]*^\+ +replicas: 3$/m);
  assert.match(
    await ok([...shop, "apply", "--dry-run", "-f", "-"], { input: manifest("web", 3) }),
    /configured \(dry run\)/,
  );
  const table = await ok([...shop, "get", "workloads"]);
  assert.match(table, /^NAME +RUNNING +AVAILABLE +UPDATED +STATUS +PENDING +FAILED +UNKNOWN +AGE\nweb +0\/\d/);
  assert.match(await ok(["get", "wl", "-A"]), /^NAMESPACE +NAME .*\nshop +web /);
  assert.match(await ok([...shop, "scale", "web", "4"]), /scaled to 4/);
  const described = await ok([...shop, "describe", "workload/web"]);
  assert.match(described, /replicas: 4[^]*Conditions:[^]*Events:[^]*\/workloads\/create/);
  assert.equal(await ok([...shop, "delete", "workload", "web", "--wait"]), "workload/web deleted\n");
  await fails(3, [...shop, "get", "workload", "web"], /workload "web" does not exist in namespace "shop"/);
  assert.equal(await ok([...shop, "delete", "workload", "web", "--ignore-not-found"]), "");
});

void test("berth get prints JSON and YAML that apply takes again", async () => {
  const here = ["-n", "shop"];
  assert.equal(await ok([...here, "get", "campaigns", "-o", "json"]), "[]\n");
  await ok([...here, "apply", "-f", "-"], { input: `${manifest("one", 0)}---\n${manifest("two", 0)}` });
  for (const format of ["json", "yaml"]) {
    const input = await ok([...here, "get", "workloads", "one", "two", "-o", format]);
    const again = await ok(["apply", "-f", "-"], { input });
    assert.match(again, /^workload\/one unchanged$/m);
    assert.match(again, /^workload\/two unchanged$/m);
  }
  const single = JSON.parse(await ok([...here, "get", "workload", "one", "-o", "json"])) as { kind: string };
  assert.equal(single.kind, "Workload");
  const partly = await berth([...here, "get", "workload", "one", "nope"]);
  assert.equal(partly.code, 3);
  assert.match(partly.stdout, /^one /m);
  assert.match(partly.stderr, /"nope" does not exist/);
  await ok([...here, "delete", "workload/one", "workload/two"]);
});

void test("berth apply says file, line, column and the nearest name, and applies nothing", async () => {
  mkdirSync(join(dir, "manifests"), { recursive: true });
  writeFileSync(join(dir, "manifests/a.yaml"), manifest("good", 1));
  writeFileSync(join(dir, "manifests/b.yaml"), manifest("bad", 1).replace("image:", "imge:"));
  await fails(
    2,
    ["-n", "shop", "apply", "-f", "manifests"],
    /manifests\/b\.yaml:7:5: spec\.container\.imge: .*"image"\?/,
  );
  writeFileSync(join(dir, "manifests/b.yaml"), manifest("Bad", -1));
  const wrong = /2 fields are wrong\n.*b\.yaml:3:13: metadata\.name: .*\n.*b\.yaml:5:3: spec\.replicas: /;
  await fails(2, ["-n", "shop", "apply", "-f", "manifests"], wrong);
  await fails(3, ["-n", "shop", "get", "workload", "good"], /does not exist/);
  await fails(2, ["apply", "-f", "-"], /-:2:\d+: /, { input: "kind: [Workload\n}" });
  await fails(2, ["apply", "-f", "none.yaml"], /manifest none\.yaml does not exist/);
  await fails(4, ["apply", "-f", "-"], /nowhere.*berth ns create/, {
    input: manifest("w", 1).replace("name: w", "name: w, namespace: nowhere"),
  });
});

void test("berth ends with the code that stands for what went wrong, and says what to do next", async () => {
  await Promise.all([
    fails(2, ["frob"], /there is no command "frob"/),
    fails(2, ["ns", "usse", "x"], /"usse" is no command of berth ns; did you mean "use"\?/),
    fails(2, ["get", "tsks"], /did you mean "tasks"\?/),
    fails(2, ["get", "tasks", "-o", "xml"], /choose one of table, wide, json, yaml/),
    fails(3, ["-n", "shop", "logs", "nope"], /neither a task nor a workload "nope"/),
    fails(4, ["ns", "create", "shop"], /namespace "shop" exists already/),
    fails(4, ["-n", "shop", "pull", "registry.test/a:v1"], /no node has joined/),
    fails(2, ["-n", "shop", "exec", "-t", "web", "--", "sh"], /-t needs a terminal/),
  ]);
  await Promise.all([
    fails(5, ["get", "tasks"], /log in with: berth context set/, { env: { BERTH_TOKEN: "brt_no_such" } }),
    fails(
      6,
      ["get", "tasks"],
      /^error: controller http:\/\/127\.0\.0\.1:1 cannot be reached \(.*ECONNREFUSED.*\): is it running\? see berth context\n$/,
      {
        env: { BERTH_ENDPOINT: "http://127.0.0.1:1" },
      },
    ),
    fails(2, ["--endpoint", "https://127.0.0.1:1", "get", "tasks"], /is not http:\/\/host:port/),
  ]);
  const waiting = ["-n", "shop", "run", "registry.test/a:v1", "--name", "late", "--wait", "--timeout", "1500ms"];
  const late = await berth(waiting);
  assert.equal(late.code, 7);
  assert.match(late.stderr, /gave up waiting: workload "late" runs 0 of 1 tasks/);
  await fails(4, waiting, /workload "late" exists already/);
  const bounded = ["-n", "shop", "run", "registry.test/a:v1", "--name", "bounded", "--volatile", "--disk"];
  await fails(2, [...bounded, "64MB"], /spec\.container\.resources\.disk: quantity "64MB" is not a number of bytes/);
  await ok([...bounded, "1Gi"]);
  const described = await ok(["-n", "shop", "describe", "workload", "bounded"]);
  assert.match(described, /resources:\n +disk: 1Gi\n(.*\n)* +volatileRootfs: true\n/);
  await ok(["-n", "shop", "delete", "workload", "bounded"]);
  await ok(["-n", "shop", "delete", "workload", "late"]);
});

void test("berth context keeps tokens where only their owner may read", async () => {
  const env = { XDG_CONFIG_HOME: join(dir, "own") };
  const alone = (args: string[], input = ""): Promise<Result> => runBerth(args, { env, input, cwd: "/" });
  const path = join(dir, "own/berth/config.json");
  const none = await alone(["get", "tasks"]);
  assert.equal(none.code, 3);
  assert.match(none.stderr, /no context: .*berth context set NAME --url URL/);
  const set = await alone(
    ["context", "set", "dev", "--url", controller.grpcEndpoint, "--token-file", "-"],
    `${token}\n`,
  );
  assert.equal(set.code, 0, set.stderr);
  assert.equal(statSync(path).mode & 0o777, 0o600);
  assert.equal((await alone(["ns", "use", "shop"])).stdout, "context/dev uses namespace shop\n");
  assert.match((await alone(["context"])).stdout, /^\* +dev +http:.* shop /m);
  assert.doesNotMatch((await alone(["context"])).stdout, /brt_/);
  assert.match((await alone(["get", "tasks"])).stderr, /no tasks in namespace shop/);
  const open = JSON.stringify({ currentContext: "dev", contexts: {} });
  writeFileSync(path, open);
  chmodSync(path, 0o644);
  const refused = await alone(["get", "tasks"]);
  assert.equal(refused.code, 4);
  assert.match(refused.stderr, /others may read it: chmod 600/);
});

void test("berth colours only when asked or on a terminal, and never with NO_COLOR", async () => {
  const coloured = (env: Record<string, string>): Promise<boolean> =>
    berth(["status"], { env }).then(({ stdout }) => stdout.includes("\u001b["));
  assert.deepEqual(
    await Promise.all([coloured({}), coloured({ FORCE_COLOR: "1" }), coloured({ FORCE_COLOR: "1", NO_COLOR: "1" })]),
    [false, true, false],
  );
});

void test("berth completion completes kinds, options and names in bash", async () => {
  await ok(["-n", "shop", "apply", "-f", "-"], { input: manifest("complete-me", 0) });
  const script = `
    source <(berth completion bash)
    try() { COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _berth; echo "\${COMPREPLY[*]}"; }
    try berth get t
    try berth -n shop get workload comp
    try berth get --all
    try berth ns cr
    try berth --endpoint http://x:1 sta
    try berth get tasks -o y
    try berth -n sh`;
  const { stdout } = await promisify(execFile)("bash", ["--norc", "-c", script], { env: cleanEnv(access()), cwd: dir });
  assert.deepEqual(stdout.split("\n"), [
    "tasks",
    "complete-me",
    "--all-namespaces",
    "create",
    "status",
    "yaml",
    "shop",
    "",
  ]);
  await ok(["-n", "shop", "delete", "workload", "complete-me"]);
});

void test("berth schema prints a JSON Schema, and help tells the exit codes of docs/cli.md", async () => {
  const [schema, codes] = await Promise.all([ok(["schema"]), ok(["help", "exit-codes"])]);
  const { $schema } = JSON.parse(schema) as { $schema: string };
  assert.match($schema, /json-schema\.org/);
  const doc = readFileSync(join(import.meta.dirname, "../../../docs/cli.md"), "utf8");
  for (const [code, meaning] of EXIT_CODES) {
    assert.ok(doc.includes(`| ${code} | ${meaning} |`), `docs/cli.md lacks ${code}: ${meaning}`);
    assert.ok(codes.includes(`${code}  ${meaning}`));
  }
});

void test("berth status ends with 0 when all is well, with 1 when something is to be looked at, and says what", async () => {
  const json = async (): Promise<{
    code: number | string;
    fleet: { verdict: string; findings: { reason: string }[] };
  }> => {
    const { code, stdout } = await berth(["status", "-o", "json"]);
    return { code, fleet: JSON.parse(stdout) as never };
  };
  const well = await json();
  assert.deepEqual([well.code, well.fleet.verdict, well.fleet.findings], [0, "healthy", []]);
  assert.match(
    await ok(["status", "-o", "wide"]),
    /^fleet +healthy$[^]*^control +1 controller [^]*holds 8 partitions/m,
  );
  await ok(["-n", "shop", "apply", "-f", "-"], { input: manifest("nowhere", 1) });
  await eventually("the task that no node fits", async () => (await json()).code === 1);
  const { code, stdout } = await berth(["status"]);
  assert.equal(code, 1);
  assert.match(
    stdout,
    /^fleet +needs attention: 1 stuck$[^]*^STUCK$[^]*workload\/shop\/nowhere[^]*→ berth -n shop explain task nowhere-/m,
  );
  await ok(["-n", "shop", "delete", "workload", "nowhere", "--wait"]);
});

void test("berth explain tells why a task waits, as a screen and as JSON", async () => {
  await ok(["-n", "shop", "apply", "-f", "-"], { input: manifest("lost", 1) });
  const name = await eventually("its task", async () => {
    const tasks = JSON.parse(await ok(["-n", "shop", "get", "tasks", "--workload", "lost", "-o", "json"])) as {
      metadata: { name: string };
      status?: { reason?: string };
    }[];
    return tasks[0]?.status?.reason === "NoNodeFits" && tasks[0].metadata.name;
  });
  const screen = await ok(["-n", "shop", "explain", "task", name]);
  assert.match(screen, /^task\/lost-\w+ {2}has no node: Pending \(NoNodeFits\)$/m);
  assert.match(screen, /^ {2}no node has joined the fleet yet$/m);
  assert.match(screen, /^Now: 0 of 0 nodes would do$/m);
  const json = JSON.parse(await ok(["-n", "shop", "explain", `task/${name}`, "-o", "json"])) as {
    now: { reason: string };
  };
  assert.equal(json.now.reason, "no node has joined the fleet yet");
  assert.match(await ok(["-n", "shop", "explain", "workload", "lost"]), /^workload\/lost {2}0 placed, 1 waiting$/m);
  await fails(3, ["-n", "shop", "explain", "node", "n1"], /node "n1" does not exist; `berth nodes` lists those/);
  await fails(2, ["explain", "campaign", "n1"], /tasks, workloads and nodes are explained/);
  await fails(2, ["-n", "shop", "explain", "task"], /usage: berth explain task NAME/);
  await fails(2, ["-n", "shop", "explain", "workload", "lost", "--node", "n1"], /--node and --all-nodes are of tasks/);
  await fails(3, ["-n", "shop", "explain", "task", "nope"], /task "nope" does not exist/);
  await ok(["-n", "shop", "delete", "workload", "lost", "--wait"]);
});

void test("berth taint says how taints are written", async () => {
  await fails(2, ["taint", "node", "n1"], /usage: berth taint node NAME\.\.\. KEY\[=VALUE\]:EFFECT/);
  await fails(
    2,
    ["taint", "node", "n1", "gpu:NoScheduel"],
    /taint "gpu:NoScheduel" has no effect "NoScheduel": did you mean NoSchedule\?/,
  );
  await fails(2, ["taint", "workload", "web", "gpu:NoSchedule"], /only nodes have taints/);
  await fails(3, ["taint", "node", "n1", "gpu=yes:NoSchedule"], /node "n1" does not exist/);
  await fails(3, ["taint", "node/n1", "gpu-"], /node "n1" does not exist/);
});

void test("berth drain asks which nodes, and what is to happen at a deadline", async () => {
  await fails(2, ["drain"], /name nodes, or select them with -l LABELS/);
  await fails(2, ["drain", "node-1", "-l", "zone=a"], /name nodes, or select them/);
  await fails(2, ["drain", "node-1", "--force"], /--force needs --deadline/);
  await fails(2, ["drain", "node-1", "--deadline", "soon"], /--deadline "soon" is not a duration/);
  await fails(3, ["drain", "node-1"], /node "node-1" does not exist/);
  await fails(3, ["drain", "-l", "zone=a"], /no node has the labels zone=a/);
  const input = manifest("held", 1, "  disruption: { maxUnavailable: lots, minAvailable: '1' }\n");
  await fails(2, ["-n", "shop", "apply", "-f", "-"], /disruption\.maxUnavailable: "lots" is neither a number/, {
    input,
  });
  const both = manifest("held", 1, "  disruption: { maxUnavailable: '1', minAvailable: '1' }\n");
  await fails(2, ["-n", "shop", "apply", "-f", "-"], /cannot be given with minAvailable/, { input: both });
});

void test("berth get -w and events -f go on after the controller was killed, with a note, losing nothing", async () => {
  const apply = (name: string): Promise<string> => ok(["-n", "shop", "apply", "-f", "-"], { input: manifest(name, 0) });
  await apply("before");
  const watch = follow(["get", "workloads", "-w", "-o", "json"]);
  const events = follow(["events", "-f", "--tail", "1", "-o", "json"]);
  const changeOf = ({ change, object }: Line): string => `${change} ${object?.metadata.name}`;
  assert.equal(changeOf(await watch.next()), "ADDED before");
  await events.next();
  await controller.kill();
  assert.match(await watch.note(), /connection to the controller broke/);
  assert.match(await events.note(), /connection to the controller broke/);
  await controller.start();
  await apply("after");
  let seen = changeOf(await watch.next());
  for (; seen !== "ADDED after"; seen = changeOf(await watch.next())) assert.notEqual(seen, "ADDED before");
  while ((await events.next()).name !== "after");
  assert.deepEqual(await Promise.all([watch.interrupt(), events.interrupt()]), [130, 130]);
});

interface Line {
  readonly change?: string;
  readonly object?: { readonly metadata: { readonly name: string } };
  readonly name?: string;
}

interface Following {
  /** The next line of stdout. */
  next(): Promise<Line>;
  /** The next line of stderr. */
  note(): Promise<string>;
  /** Its exit code. */
  interrupt(): Promise<unknown>;
}

function follow(args: readonly string[]): Following {
  const child = startBerth(["-n", "shop", ...args], { env: access(), cwd: dir });
  lifetime.defer(() => void child.kill("SIGKILL"));
  const exited = once(child, "exit");
  const results = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const notes = createInterface({ input: child.stderr })[Symbol.asyncIterator]();
  const lineOf = async (lines: AsyncIterator<string>): Promise<string> => {
    const line = await lines.next();
    assert.ok(line.done !== true, `berth ${args.join(" ")} ended`);
    return line.value;
  };
  return {
    next: async () => JSON.parse(await lineOf(results)) as Line,
    note: () => lineOf(notes),
    async interrupt() {
      child.kill("SIGINT");
      return (await exited)[0];
    },
  };
}

void test("berth get and events --as-of tell what was", async () => {
  const past = ["-n", "shop"];
  await ok([...past, "apply", "-f", "-"], { input: manifest("bygone", 1) });
  const then = new Date().toISOString();
  // Changes are timed to the millisecond.
  await ok([...past, "scale", "bygone", "2"]);
  await ok([...past, "delete", "workload", "bygone"]);
  assert.match(await ok([...past, "get", "workload", "bygone", "--as-of", then]), /^bygone +\d\/\d /m);
  assert.match(await ok([...past, "get", "workloads", "-o", "yaml", "--as-of", then]), /replicas: 1\n/);
  assert.match(await ok([...past, "events", "--as-of", then]), /workload\/bygone/);
  await fails(2, [...past, "get", "tasks", "--as-of", "2001-01-01"], /is before .* ask for a later time/);
  await fails(2, [...past, "get", "tasks", "--as-of", "yesterday"], /"yesterday" is no time/);
  await fails(2, [...past, "get", "tasks", "-w", "--as-of", then], /what was cannot be watched/);
  await fails(2, ["get", "registrymirrors", "--as-of", then], /nothing is kept of what registrymirrors were/);
});

void test("berth webhook tells a secret once, and says why a receiver may not be called", async () => {
  const shop = ["-n", "shop"];
  const input =
    "apiVersion: berth/v1\nkind: Webhook\nmetadata: { name: ci }\nspec: { url: 'http://127.0.0.1:9/hook', topics: [/tasks/**] }\n";
  const made = await ok([...shop, "apply", "-f", "-"], { input });
  assert.match(made, /^webhook\/ci created\n {2}its secret, told only now: whsec_\S+\n$/);
  assert.equal(await ok([...shop, "apply", "-f", "-"], { input }), "webhook/ci unchanged\n");
  assert.match(await ok([...shop, "get", "webhooks"]), /^ci +http:\/\/127\.0\.0\.1:9\/hook +Active +0 /m);
  const rotated = await berth([...shop, "webhook", "rotate-secret", "ci", "--grace", "1h"]);
  assert.match(rotated.stdout, /^whsec_\S+\n$/);
  assert.match(rotated.stderr, /the one before signs, too, until 20/);
  assert.doesNotMatch(await ok([...shop, "get", "webhook", "ci", "-o", "yaml"]), /whsec_/);
  const tried = await berth([...shop, "webhook", "test", "ci"]);
  assert.equal(tried.code, 1);
  assert.match(tried.stdout, /did not take it: 127\.0\.0\.1 is not of the public internet: webhooks\.allowPrivate/);
  await ok([...shop, "webhook", "resume", "ci"]);
  assert.match((await berth([...shop, "webhook", "deliveries", "ci"])).stderr, /nothing was sent yet/);
  await fails(3, [...shop, "webhook", "test", "cj"], /webhook "cj" does not exist/);
  await ok([...shop, "delete", "webhook", "ci"]);
});
