/**
 * Flow A with the controller killed between any two of its steps: the task ends up running, once (D1, D2, D3). The soak
 * repeats it with each failpoint's later passages.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { eventually, startFleet, type Fleet } from "@berth/testkit";
import { pushHello, startsByExecution, tasksOf, workloadManifest } from "../support/fleet.ts";
import { FLOW_A_FAILPOINTS } from "../support/failpoints.ts";

void describe("the controller is killed", { timeout: 300_000 }, () => {
  let fleet: Fleet;
  let image: string;

  before(async () => {
    fleet = await startFleet({ nodes: 2 });
    image = await pushHello(fleet);
    await fleet.berth(["ns", "create", "demo"]);
  });
  after(async () => fleet?.[Symbol.asyncDispose]());

  for (const [index, failpoint] of FLOW_A_FAILPOINTS.entries()) {
    void test(`at ${failpoint}: the task runs once`, async () => {
      const name = `crash-${index}`;
      await fleet.controller.stop();
      await fleet.controller.start(failpoint);
      const manifest = workloadManifest({ name, image, replicas: 1, args: ["sleep", "1000"] });
      await fleet.berth(["apply", "-f", "-"], manifest).catch(() => {});
      assert.ok(await fleet.controller.ended(20_000), `the controller never reached ${failpoint}`);
      await fleet.controller.start();
      await fleet.berth(["apply", "-f", "-"], manifest);
      const [task] = await eventually(
        "the running task",
        async () => {
          const tasks = await tasksOf(fleet, name);
          return tasks.length === 1 && tasks[0]!.status.phase === "Running" && tasks;
        },
        { timeoutMs: 30_000 },
      );
      const starts = await eventually("the start in the events", async () => {
        const found = [...(await startsByExecution(fleet))].filter(([execution]) =>
          execution.startsWith(task!.metadata.uid),
        );
        return found.length > 0 && found;
      });
      assert.deepEqual(starts, [[`${task!.metadata.uid}/1/1`, 1]]);
    });
  }
});
