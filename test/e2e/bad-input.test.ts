/**
 * Wrong input and broken surroundings: each gets an error that names its subject, nothing is half done, and everything else
 * goes on (what must be shown, 6).
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { eventually, startFleet, type Fleet } from "@berth/testkit";
import { pushHello, tasksOf, workloadManifest } from "../support/fleet.ts";
import { startHostileRegistry, type HostileRegistry } from "../support/hostile-registry.ts";

void describe("bad input", { timeout: 240_000 }, () => {
  let fleet: Fleet;
  let image: string;
  let hostile: HostileRegistry;

  before(async () => {
    fleet = await startFleet({ nodes: 1, plainHttpPorts: 1 });
    image = await pushHello(fleet);
    hostile = await startHostileRegistry(fleet.hosts.address, fleet.plainHttpPorts[0]!);
    await fleet.berth(["ns", "create", "demo"]);
  });
  after(async () => {
    await hostile?.[Symbol.asyncDispose]();
    await fleet?.[Symbol.asyncDispose]();
  });

  const put = async (
    path: string,
    body: string,
    headers: Record<string, string> = {},
  ): Promise<{ status: number; problem: Problem }> => {
    const response = await fetch(`${fleet.controller.httpEndpoint}${path}`, {
      method: "PUT",
      body,
      headers: { "content-type": "application/json", authorization: `Bearer ${fleet.token()}`, ...headers },
    });
    return { status: response.status, problem: (await response.json()) as Problem };
  };

  void test("an unknown field is refused with its name and the nearest one", async () => {
    const { status, problem } = await put(
      "/v1/namespaces/demo/workloads/w",
      JSON.stringify({ spec: { container: { image, comand: ["x"] } } }),
    );
    assert.equal(status, 400);
    assert.match(JSON.stringify(problem.violations), /spec\.container\.comand.*command/);
  });

  void test("a wrong type is refused with its path", async () => {
    const { status, problem } = await put(
      "/v1/namespaces/demo/workloads/w",
      JSON.stringify({ spec: { replicas: "many", container: { image } } }),
    );
    assert.equal(status, 400);
    assert.match(JSON.stringify(problem.violations), /spec\.replicas/);
  });

  void test("an oversized body is refused as too large", async () => {
    const { status, problem } = await put(
      "/v1/namespaces/demo/workloads/w",
      JSON.stringify({ spec: { container: { image: "x".repeat(2_000_000) } } }),
    );
    assert.equal(status, 413);
    assert.equal(problem.status, 413);
  });

  void test("no token, and a wrong one, are refused", async () => {
    for (const authorization of ["", "Bearer wrong"]) {
      const { status } = await put("/v1/namespaces/demo/workloads/w", "{}", { authorization });
      assert.equal(status, 401);
    }
  });

  void test("a bad image name is refused with the part that is wrong", async () => {
    const result = await fleet.cli("-n", "demo", "run", "Registry/UPPER:tag");
    assert.equal(result.code, 2);
    assert.match(result.stderr, /UPPER/);
  });

  void test("a manifest with a wrong field applies nothing, and says where", async () => {
    const good = workloadManifest({ name: "good", image, replicas: 1, args: [] });
    const bad =
      "apiVersion: berth/v1\nkind: Workload\nmetadata: { name: bad, namespace: demo }\nspec:\n  container:\n    image: Bad Image\n";
    await assert.rejects(
      fleet.berth(["apply", "-f", "-"], `${good}\n---\n${bad}`),
      /-:\d+:\d+: spec\.container\.image/,
    );
    assert.equal((await fleet.cli("-n", "demo", "get", "workload", "good")).code, 3);
  });

  void test("a namespace that is not there is named, with the way out", async () => {
    const manifest = workloadManifest({ name: "w", image, replicas: 1, args: [] }).replace('"demo"', '"nowhere"');
    await assert.rejects(fleet.berth(["apply", "-f", "-"], manifest), /nowhere.*berth ns create/s);
  });

  const failures: readonly [string, () => string, RegExp][] = [
    ["a missing image", () => `${fleet.registry.address}/demo/none:v9`, /demo\/none/],
    ["a registry that is down", () => `${fleet.hosts.address}:1/demo/app:v1`, /:1\b/],
    ["a layer with wrong bytes", () => `${hostile.address}/wrong/bytes:v1`, /instead of sha256:/],
    ["a truncated layer", () => `${hostile.address}/cut/short:v1`, /wrong|short|truncated|ended|bytes/i],
  ];
  for (const [index, [what, name, message]] of failures.entries()) {
    void test(`${what} fails its task with a message that names it, and nothing else`, async () => {
      const workload = `broken-${index}`;
      await fleet.berth(
        ["apply", "-f", "-"],
        workloadManifest({ name: workload, image: name(), replicas: 1, args: [], restart: "never" }),
      );
      const failed = await eventually(
        "the failed task",
        async () => (await tasksOf(fleet, workload)).find((task) => task.status.phase === "Failed"),
        { timeoutMs: 60_000 },
      );
      assert.equal(failed.status.reason, "ImagePullFailed");
      assert.match(failed.status.message, message);
      await fleet.berth(["-n", "demo", "delete", "workload", workload, "--wait"]);
      await assertStillWorks(fleet, image, `fine-${index}`);
    });
  }

  void test("a task that fits nowhere stays pending and says why", async () => {
    const manifest = JSON.parse(workloadManifest({ name: "huge", image, replicas: 1, args: [] })) as {
      spec: { container: { resources: object } };
    };
    manifest.spec.container.resources = { cpu: "4000", memory: "900Ti" };
    await fleet.berth(["apply", "-f", "-"], JSON.stringify(manifest));
    const pending = await eventually("the reason", async () =>
      (await tasksOf(fleet, "huge")).find((task) => task.status.message !== ""),
    );
    assert.equal(pending.status.phase, "Pending");
    assert.match(pending.status.message, /0 of 1 node/);
    await fleet.berth(["-n", "demo", "delete", "workload", "huge", "--wait"]);
  });

  void test("a mount of a path that is not there fails with the field's name", async () => {
    const mounts = [{ type: "bind", source: "/no/such/path", target: "/x" }];
    await fleet.berth(
      ["apply", "-f", "-"],
      workloadManifest({ name: "mounts", image, replicas: 1, args: [], mounts, restart: "never" }),
    );
    const failed = await eventually(
      "the failed task",
      async () => (await tasksOf(fleet, "mounts")).find((task) => task.status.phase === "Failed"),
      { timeoutMs: 30_000 },
    );
    assert.match(failed.status.message, /\/no\/such\/path/);
    await fleet.berth(["-n", "demo", "delete", "workload", "mounts", "--wait"]);
  });

  void test("a bound on the disk that the node cannot keep fails with the field's name and the way out", async () => {
    const manifest = JSON.parse(workloadManifest({ name: "disk", image, replicas: 1, args: [], restart: "never" })) as {
      spec: { container: object };
    };
    Object.assign(manifest.spec.container, { snapshotter: "native", resources: { disk: "8Mi" } });
    await fleet.berth(["apply", "-f", "-"], JSON.stringify(manifest));
    const failed = await eventually(
      "the failed task",
      async () => (await tasksOf(fleet, "disk")).find((task) => task.status.phase === "Failed"),
      { timeoutMs: 30_000 },
    );
    assert.equal(failed.status.reason, "SnapshotFailed");
    assert.match(failed.status.message, /^resources\.disk 8Mi: .*native cannot bound its size.*missingSnapshotQuota/);
    await fleet.berth(["-n", "demo", "delete", "workload", "disk", "--wait"]);
  });
});

interface Problem {
  readonly status: number;
  readonly detail: string;
  readonly violations?: readonly { readonly field: string; readonly description: string }[];
}

async function assertStillWorks(fleet: Fleet, image: string, name: string): Promise<void> {
  const result = await fleet.cli("-n", "demo", "run", "--name", name, "--follow", "--rm", image, "--", "echo", "fine");
  assert.equal(result.stdout, "fine\n", result.stderr);
}
