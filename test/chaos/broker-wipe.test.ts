/**
 * D1: Redis and NATS carry work and news and may be wiped at any moment. Fifty tasks are in flight when it happens; all of
 * them run in the end, and each execution started once: by the journals, and by what the containers themselves wrote down.
 */
import assert from "node:assert/strict";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { eventually, flushRedis, startFleet, type Fleet } from "@berth/testkit";
import { pushHello, startsByExecution, tasksOf, workloadManifest } from "../support/fleet.ts";

const TASKS = 50;

void describe("with fifty tasks in flight", { timeout: 300_000 }, () => {
  let fleet: Fleet;
  let image: string;

  before(async () => {
    fleet = await startFleet({ nodes: 2 });
    image = await pushHello(fleet);
    await fleet.berth(["ns", "create", "demo"]);
    await fleet.berth(["-n", "demo", "pull", image]);
  });
  after(async () => fleet?.[Symbol.asyncDispose]());

  const wipes: readonly [string, () => Promise<void>][] = [
    ["Redis is flushed", async () => await flushRedis(fleet.redis)],
    ["NATS loses its store", async () => await fleet.nats.wipe()],
  ];
  for (const [index, [what, wipe]] of wipes.entries()) {
    void test(`${what}: all run, and each once`, async () => {
      const name = `burst-${index}`;
      const ledger = join(fleet.dir, `ledger-${index}`);
      mkdirSync(ledger);
      const manifest = workloadManifest({
        name,
        image,
        replicas: TASKS,
        args: ["sh", "-c", "hostname >> /ledger/$(hostname); exec sleep 1000"],
        mounts: [{ type: "bind", source: ledger, target: "/ledger" }],
      });
      await fleet.berth(["apply", "-f", "-"], manifest);
      await eventually("some, not all, run", async () => {
        const running = (await tasksOf(fleet, name)).filter((task) => task.status.phase === "Running").length;
        return running > 0;
      });
      await wipe();
      const tasks = await eventually(
        "all run",
        async () => {
          const found = await tasksOf(fleet, name);
          return found.length === TASKS && found.every((task) => task.status.phase === "Running") && found;
        },
        { timeoutMs: 90_000, intervalMs: 500 },
      );
      const starts = await startsByExecution(fleet);
      for (const task of tasks) {
        assert.equal(starts.get(`${task.metadata.uid}/1/1`), 1, task.metadata.name);
        const written = readFileSync(join(ledger, task.metadata.name), "utf8");
        assert.equal(written, `${task.metadata.name}\n`, "the container ran once");
      }
      await fleet.berth(["-n", "demo", "delete", "workload", name, "--wait"]);
    });
  }
});
