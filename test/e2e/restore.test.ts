/**
 * Postgres is dumped, work goes on, and the dump is put back, under real agents with containers: what must never run twice goes on as
 * it was, nothing is ended before an operator confirms, and what the store does not name ends then.
 */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { eventually, startFleet, type Fleet } from "@berth/testkit";
import { postgresPrograms } from "@berth/testkit/servers";
import { quotedCommand, readPage } from "../support/documents.ts";
import { pushHello, tasksOf, workloadManifest } from "../support/fleet.ts";

void describe("a store that was put back", { timeout: 240_000 }, () => {
  let fleet: Fleet;
  let image: string;
  before(async () => {
    // A lease that outlasts the restore, however busy the machine: the node's stopper is not what this is about.
    fleet = await startFleet({ nodes: 2, leaseTtlMs: 12_000 });
    image = await pushHello(fleet);
    await fleet.berth(["ns", "create", "demo"]);
  });
  after(async () => fleet?.[Symbol.asyncDispose]());

  const ledgerOf = (name: string): string => join(fleet.dir, `ledger-${name}`);
  const apply = async (name: string): Promise<void> => {
    mkdirSync(ledgerOf(name), { recursive: true });
    const manifest = workloadManifest({
      name,
      image,
      replicas: 1,
      onNodeLoss: "stopThenReplace",
      args: ["sh", "-c", "echo started >> /ledger/$(hostname); exec sleep 1000"],
      mounts: [{ type: "bind", source: ledgerOf(name), target: "/ledger" }],
    });
    await fleet.berth(["apply", "-f", "-"], manifest);
  };
  /** In a shell with the controller's DATABASE_URL, as an operator has it. */
  const asThePageSays = (command: string): void => {
    const env = {
      ...process.env,
      PATH: `${postgresPrograms()}:${process.env["PATH"]}`,
      DATABASE_URL: fleet.postgres.url,
    };
    execFileSync("sh", ["-ec", command], { cwd: fleet.dir, env });
  };
  const starts = (name: string): string[] =>
    readdirSync(ledgerOf(name)).map((task) => `${task} ${readFileSync(join(ledgerOf(name), task), "utf8").trim()}`);
  const runs = (name: string): Promise<unknown> =>
    eventually(
      `${name} runs`,
      async () => {
        const found = await tasksOf(fleet, name);
        return found.length === 1 && found[0]!.status.phase === "Running";
      },
      { timeoutMs: 60_000 },
    );

  void test("is held until its nodes have shown what they run, and an operator has confirmed it", async () => {
    await apply("known");
    await runs("known");
    const page = readPage("operations/backup-restore.md");
    asThePageSays(page.commands.find((command) => command.startsWith("pg_dump"))!);
    await apply("late");
    await runs("late");
    await fleet.controller.stop();
    for (const schema of ["public", "drizzle"]) await fleet.postgres.query(`drop schema if exists ${schema} cascade`);
    await fleet.postgres.query("create schema public");
    asThePageSays(quotedCommand(page, "pg_restore"));
    await fleet.controller.start();
    const held = await fleet.berth(quotedCommand(page, "berth store status").split(" ").slice(1));
    assert.match(held, /not confirmed/);
    assert.match(held, /held: no stopThenReplace task is begun yet/);
    const epoch = /store confirm (\S+)/.exec(held)![1]!;
    await apply("fresh");
    await eventually("all have shown what they run", async () => {
      const stdout = await fleet.berth(["describe", "node", "node-1"]);
      return stdout.includes("AwaitsConfirmation");
    });
    assert.equal(starts("late").length, 1);
    assert.deepEqual(starts("fresh"), [], "it may run where this store does not know of it");
    const [waiting] = await tasksOf(fleet, "fresh");
    const why = await fleet.berth(["-n", "demo", "explain", "task", waiting!.metadata.name]);
    assert.match(why, /the store was put back from a copy and this task must never run twice/);
    await fleet.berth(quotedCommand(page, "berth store confirm").replace("EPOCH", epoch).split(" ").slice(1));
    await runs("fresh");
    await runs("known");
    const released = await fleet.berth(["store", "status"]);
    assert.doesNotMatch(released, /held/);
    for (const name of ["known", "fresh"]) assert.match(starts(name).join(), /^\S+ started$/, name);
  });
});
