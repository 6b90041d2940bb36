/**
 * Rollouts as a user sees them, on real nodes with real probes: a good one, one that goes back by itself, history, undo, pause,
 * resume and restart, all by `berth`.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { eventually, startFleet, type Fleet } from "@berth/testkit";
import { pushHello, tasksOf } from "../support/fleet.ts";

void describe("rollouts on a fleet", { timeout: 240_000 }, () => {
  let fleet: Fleet;
  let image: string;
  before(async () => {
    fleet = await startFleet({ nodes: 2 });
    image = await pushHello(fleet);
    await fleet.berth(["ns", "create", "demo"]);
  });
  after(async () => fleet?.[Symbol.asyncDispose]());

  const manifest = (version: string, progressDeadline = "60s"): string =>
    JSON.stringify({
      apiVersion: "berth/v1",
      kind: "Workload",
      metadata: { name: "web", namespace: "demo" },
      spec: {
        replicas: 3,
        rollout: { maxUnavailable: 0, maxSurge: 1, minReady: "0.2s", progressDeadline },
        container: {
          image,
          args: ["sh", "-c", "touch /tmp/ready-$VERSION; exec sleep 1000"],
          env: [{ name: "VERSION", value: version }],
          health: { readiness: { exec: { command: ["sh", "-c", "test -e /tmp/ready-2 || test -e /tmp/ready-1"] }, interval: "0.2s", timeout: "5s" } }, // prettier-ignore
          stop: { grace: "0s" },
        },
      },
    });
  const demo = (...args: string[]): Promise<string> => fleet.berth(["-n", "demo", ...args]);
  const versions = async (): Promise<string[]> => {
    const tasks = (await tasksOf(fleet, "web")) as unknown as {
      readonly spec: { readonly container: { readonly env: { readonly value: string }[] } };
      readonly status: { readonly health?: string };
    }[];
    return tasks.map(({ spec, status }) => `${spec.container.env[0]!.value} ${status.health ?? ""}`).sort();
  };

  void test("apply --wait rolls a change of the environment out, and tells why in the history", async () => {
    await fleet.berth(["apply", "-f", "-", "--wait", "--cause", "launch"], manifest("1"));
    await fleet.berth(["apply", "-f", "-", "--wait"], manifest("2"));
    await eventually("only the new tasks", async () => (await versions()).join() === "2 healthy,2 healthy,2 healthy");
    const history = await demo("rollout", "history", "web");
    assert.match(history, /^2 .* container\.env +spec, tasks, last good$/m);
    assert.match(history, /^1 .* launch +-$/m);
    assert.match(await demo("rollout", "status", "web"), /web {2}Complete\n.*revision +2, last good 2\n.*3 of 3\n/);
  });

  void test("what never becomes healthy goes back by itself, and --wait fails with the reason", async () => {
    const failed = await fleet.berth(["apply", "-f", "-", "--wait"], manifest("3", "10s")).then(
      () => "",
      (error: Error) => error.message,
    );
    assert.match(failed, /revision 3 has failed.*readiness probe failed.*back at revision 2/s);
    await eventually("what failed is gone", async () => (await versions()).join() === "2 healthy,2 healthy,2 healthy");
    const followed = await fleet.cli("-n", "demo", "rollout", "status", "web", "-w");
    assert.equal(followed.code, 4);
    assert.match(await demo("rollout", "history", "web"), /^3 .* spec, rolledback$/m);
    assert.match(await demo("describe", "workload", "web"), /RolledBack +True/);
  });

  void test("undo makes the spec what runs; restart starts every task anew; pause holds, resume lets go", async () => {
    await demo("rollout", "undo", "web", "--wait");
    assert.match(await demo("rollout", "history", "web"), /^4 .* undo to revision 2 +spec, tasks, last good$/m);
    const generations = async (): Promise<Map<string, number>> =>
      new Map((await tasksOf(fleet, "web")).map(({ metadata }) => [metadata.uid, Number(metadata.generation)]));
    const before = await generations();
    await demo("rollout", "restart", "web", "--cause", "new certificates", "--wait");
    await eventually("no surge is left", async () => (await versions()).length === 3);
    for (const [uid, generation] of await generations()) assert.equal(generation, before.get(uid)! + 1);
    await demo("rollout", "pause", "web");
    await fleet.berth(["apply", "-f", "-"], manifest("1"));
    await eventually("it is held", async () => /Paused/.test(await demo("rollout", "status", "web")));
    assert.deepEqual(await versions(), ["2 healthy", "2 healthy", "2 healthy"]);
    await demo("rollout", "resume", "web", "--wait");
    await eventually("the held spec runs", async () => (await versions()).join() === "1 healthy,1 healthy,1 healthy");
  });
});
