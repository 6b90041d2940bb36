/**
 * `npm run soak -- streams [--megabytes 1024] [--seed n]`: a gigabyte through exec and cp, each way, beside an exec and a copy
 * that nobody reads, on a real fleet: the bytes are whole, memory of controller and agent stays bounded, the node's lease held.
 */
import { parseArgs } from "node:util";
import { startFleet } from "@berth/testkit";
import { pushHello, tasksOf, workloadManifest } from "../support/fleet.ts";
import { runStreamLoad } from "../support/stream-load.ts";

const MOST_MEGABYTES = 200;

const { values } = parseArgs({
  options: {
    megabytes: { type: "string", default: "1024" },
    seed: { type: "string", default: String(Date.now() % 100_000) },
  },
});
const [bytes, seed] = [Number(values.megabytes) * 1024 * 1024, Number(values.seed)];
await using fleet = await startFleet({ nodes: 1, leaseTtlMs: 3_000 });
const image = await pushHello(fleet);
await fleet.berth(["ns", "create", "demo"]);
const manifest = workloadManifest({ name: "load", image, replicas: 1, args: ["sleep", "100000"] });
await fleet.berth(["apply", "-f", "-", "--wait", "--timeout", "60s"], manifest);
const task = (await tasksOf(fleet, "load"))[0]!.metadata.name;

console.log(`seed ${seed}, ${values.megabytes} MiB each`);
for (const report of await runStreamLoad(fleet, { task, bytes, seed })) {
  const { name, seconds, megabytesPerSecond, controllerMegabytes, agentMegabytes } = report;
  const rate = `${seconds.toFixed(1).padStart(6)} s ${megabytesPerSecond.toFixed(0).padStart(5)} MB/s`;
  const memory = `controller +${controllerMegabytes.toFixed(0)} MB, agent +${agentMegabytes.toFixed(0)} MB`;
  console.log(`${name.padEnd(9)} ${rate}   ${memory}`);
  if (Math.max(controllerMegabytes, agentMegabytes) > MOST_MEGABYTES) {
    throw new Error(`${name}: memory grew by more than ${MOST_MEGABYTES} MB`);
  }
}
console.log("the node was Ready all along");
