/** Jobs as a user sees them, on a real node: retries, deadlines, completion, failure, by `berth`. */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { startFleet, type Fleet } from "@berth/testkit";
import { pushHello } from "../support/fleet.ts";

void describe("jobs on a fleet", { timeout: 240_000 }, () => {
  let fleet: Fleet;
  let image: string;
  before(async () => {
    fleet = await startFleet({ nodes: 1 });
    image = await pushHello(fleet);
    await fleet.berth(["ns", "create", "demo"]);
  });
  after(async () => fleet?.[Symbol.asyncDispose]());

  void test("run --wait ends when so many tasks have succeeded, and their logs stay", async () => {
    const args = ["run", image, "--name", "sum", "--completions", "3", "--parallelism", "2", "--wait"];
    const said = await fleet.berth(["-n", "demo", ...args, "--", "sh", "-c", "echo done"]);
    assert.match(said, /workload\/sum created/);
    assert.match(await fleet.berth(["-n", "demo", "get", "workloads"]), /^sum +3\/3 done .* Complete /m);
    const logs = await fleet.berth(["-n", "demo", "logs", "sum"]);
    assert.equal(logs.match(/ done$/gm)?.length, 3);
  });

  void test("apply --wait and wait fail with the reason when too many tries have failed", async () => {
    const manifest = JSON.stringify({
      apiVersion: "berth/v1",
      kind: "Workload",
      metadata: { name: "slow", namespace: "demo" },
      spec: {
        job: { retries: 0 },
        container: { image, args: ["sleep", "1000"], activeDeadline: "1s", stop: { grace: "0s" } },
      },
    });
    const applied = await fleet.berth(["apply", "-f", "-", "--wait"], manifest).catch((error: Error) => error.message);
    assert.match(applied, /job "slow" has failed: 1 tries have failed, 0 may; .*deadline of 1 s/);
    const waited = await fleet.cli("-n", "demo", "wait", "slow");
    assert.equal(waited.code, 4);
    const scaled = await fleet.cli("-n", "demo", "scale", "slow", "2");
    assert.match(scaled.stderr, /workload "slow" is a job: apply it with other job.completions/);
    const wrong = await fleet.cli("-n", "demo", "run", image, "--completions", "2", "--restart", "always");
    assert.match(wrong.stderr, /a job has no --restart: say --retries/);
  });
});
