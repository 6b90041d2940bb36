/**
 * D4: somebody changes a row of a node's journal on its disk before the controller has it, and later one in Postgres. Neither
 * passes silently, nothing is lost, and the fleet goes on.
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { test } from "node:test";
import { eventually, startFleet, type Fleet } from "@berth/testkit";
import postgres from "postgres";
import { journalsAreWhole } from "../support/journals.ts";
import { pushHello, tasksOf, workloadManifest } from "../support/fleet.ts";

const phaseOf = async (fleet: Fleet, name: string): Promise<string | undefined> =>
  (await tasksOf(fleet, name))[0]?.status.phase;

void test(
  "a journal row altered on its node is kept, marked and shown; one altered in Postgres is found",
  { timeout: 120_000 },
  async () => {
    await using fleet = await startFleet({ nodes: 1 });
    const image = await pushHello(fleet);
    const [agent] = fleet.agents;
    await fleet.berth(["ns", "create", "demo"]);
    await fleet.berth(
      ["apply", "-f", "-", "--wait"],
      workloadManifest({ name: "web", image, replicas: 1, args: ["sleep", "1000"] }),
    );
    await journalsAreWhole(fleet);

    // While the controller is away the restarts of the agent stay in its journal; then its disk lies about one.
    await fleet.controller.stop();
    await agent!.kill();
    await agent!.start();
    await agent!.kill();
    const altered = alterLastEntry(join(agent!.root, "metadata.db"));
    await fleet.controller.start();
    await agent!.start();
    const described = await eventually("the condition", async () => {
      const text = await fleet.berth(["describe", "node", agent!.name]);
      return text.includes("JournalIntact") && text;
    });
    assert.match(described, new RegExp(`JournalIntact +False .*ChainBroken +entry ${altered} of epoch`));
    const verified = await fleet.cli("journal", "verify", agent!.name);
    assert.equal(verified.code, 1);
    assert.match(verified.stdout, new RegExp(`${altered} +Arrived `));
    assert.match(verified.stdout, /\n[0-9a-f-]{36} +\d+ +1 +1 +\d+ +1 /);

    const sql = postgres(fleet.postgres.url, { max: 1 });
    await sql`update events set message = 'all is well' where journal_seq = 2`;
    await sql.end();
    const again = await fleet.cli("journal", "verify", agent!.name);
    assert.match(again.stdout, / 2 +Altered +the event says something else than the entry: message/);

    await fleet.berth(["journal", "acknowledge", agent!.name, "--reason", "we altered it"]);
    assert.doesNotMatch(await fleet.berth(["describe", "node", agent!.name]), /JournalIntact/);
    const told = await fleet.cli("journal", "verify", agent!.name);
    assert.deepEqual([told.code, told.stdout.includes("acknowledged by")], [1, true]);

    // What does not follow is no reason to stop work.
    await fleet.berth(
      ["apply", "-f", "-", "--wait"],
      workloadManifest({ name: "more", image, replicas: 1, args: ["sleep", "1000"] }),
    );
    assert.equal(await phaseOf(fleet, "web"), "Running");
  },
);

/** Another payload under the same hash: it can be read, and says nothing of what happened. */
function alterLastEntry(path: string): number {
  const db = new DatabaseSync(path);
  try {
    const [last] = db.prepare("SELECT seq FROM journal WHERE kind LIKE 'agent.%' ORDER BY seq DESC LIMIT 1").all() as {
      seq: number;
    }[];
    db.prepare("UPDATE journal SET payload = x'0a0178' WHERE seq = ?").run(last!.seq);
    return last!.seq;
  } finally {
    db.close();
  }
}
