/**
 * `npm run soak -- chaos [--rounds 30] [--seed n]`: a fleet of two nodes under seeded trouble.
 *
 * Every round applies a new size or a new version of a workload, hurts something at a random moment meanwhile (the
 * controller or an agent killed, a node cut off, Redis flushed, NATS wiped), heals it, and waits until all is as desired.
 * Then the invariants are checked over everything that ever happened: each execution started once, by the journals (D4) and
 * by what the containers themselves wrote down (D2), and no journal has a gap.
 */
import assert from "node:assert/strict";
import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { parseArgs } from "node:util";
import { seededRandom, type Random } from "@berth/base";
import { eventually, flushRedis, startFleet, type Fleet } from "@berth/testkit";
import { pushHello, startsByExecution, tasksOf, workloadManifest } from "../support/fleet.ts";
import { journalsAreWhole } from "../support/journals.ts";

const { values } = parseArgs({
  options: {
    rounds: { type: "string", default: "30" },
    seed: { type: "string", default: String(Date.now() % 100_000) },
  },
});
const seed = Number(values.seed);
const random = seededRandom(seed);
const pick = <T>(items: readonly T[]): T => items[Math.floor(random() * items.length)]!;

/** Hurts something; what it returns heals it. */
type Trouble = (fleet: Fleet, random: Random) => Promise<() => Promise<void>>;

const TROUBLES: Readonly<Record<string, Trouble>> = {
  "controller killed": async ({ controller }) => {
    await controller.kill();
    return () => controller.start();
  },
  "agent killed": async ({ agents }) => {
    const agent = pick(agents);
    await agent.kill();
    return () => agent.start();
  },
  "node cut off": async ({ hosts }) => {
    const host = pick(hosts.nodes);
    await host.cut();
    return () => host.heal();
  },
  "redis flushed": async ({ redis }) => {
    await flushRedis(redis);
    return () => Promise.resolve();
  },
  "nats wiped": async ({ nats }) => {
    await nats.wipe();
    return () => Promise.resolve();
  },
};

await using fleet = await startFleet({ nodes: 2 });
const image = await pushHello(fleet);
const ledger = join(fleet.dir, "ledger");
mkdirSync(ledger);
await fleet.berth(["ns", "create", "demo"]);
console.log(`seed ${seed}, ${values.rounds} rounds`);
for (let round = 1; round <= Number(values.rounds); round += 1) {
  const replicas = 1 + Math.floor(random() * 8);
  const version = Math.floor(random() * 3);
  const [name, trouble] = pick(Object.entries(TROUBLES));
  const manifest = workloadManifest({
    name: "app",
    image,
    replicas,
    onNodeLoss: "keep",
    // The file's name is the container's own mount namespace: a second start of one execution would be a second line.
    args: ["sh", "-c", `echo start >> /ledger/$(hostname)-${version}-$(date +%s%N); exec sleep 10000`],
    mounts: [{ type: "bind", source: ledger, target: "/ledger" }],
  });
  const start = performance.now();
  await fleet.berth(["apply", "-f", "-"], manifest);
  await delay(random() * 1_500);
  const heal = await trouble(fleet, random);
  await delay(random() * 6_000);
  await heal();
  await eventually("the fleet as desired", async () => await isSettled(replicas), {
    timeoutMs: 90_000,
    intervalMs: 500,
  });
  console.log(
    `round ${round}: ${replicas} replicas, ${name}: settled after ${((performance.now() - start) / 1000).toFixed(1)} s`,
  );
}
const starts = await startsByExecution(fleet);
for (const [execution, count] of starts) assert.equal(count, 1, `execution ${execution} started ${count} times`);
await journalsAreWhole(fleet);
const written = readdirSync(ledger).flatMap((file) => readFileSync(join(ledger, file), "utf8").trim().split("\n"));
assert.ok(written.length <= starts.size, `${written.length} containers ran for ${starts.size} executions`);
console.log(`${starts.size} executions, each started once; ${written.length} containers wrote so; journals whole`);

async function isSettled(replicas: number): Promise<boolean> {
  const tasks = await tasksOf(fleet, "app");
  const { metadata } = JSON.parse(await fleet.berth(["-n", "demo", "get", "workload", "app", "-o", "json"])) as {
    metadata: { generation: string };
  };
  return (
    tasks.length === replicas &&
    tasks.every(
      ({ status, spec }) =>
        status.phase === "Running" &&
        status.certainty === "observed" &&
        spec.workloadGeneration === metadata.generation,
    )
  );
}
