/**
 * An upgrade as operators make it, and its way back, on one fleet with containers running all the while: controllers first, then
 * agents; then the controller of the build before again, on the database that the newer one has migrated.
 *
 *   controller   agents
 *   before       before     begins
 *   this         before     the schema is migrated, old agents are led
 *   this         this       agents find their containers again
 *   before       this       the way back of controllers
 *   this         this       ends what the first pair began
 *
 * In each mixed pair everything is led through once (`life.ts`), in the others where `thorough` asks for it. Containers keep their processes over all of it (A1).
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { checkoutBuild, eventually, startFleet, type Build, type Fleet } from "@berth/testkit";
import { nodesOf, pushHello } from "../fleet.ts";
import { begin, containerPids, end, leadThrough } from "./life.ts";
import { previousBuild } from "./previous-build.ts";

export interface RollingOptions {
  readonly commit: string;
  /** Where the build before is unpacked. */
  readonly dir: string;
  readonly nodes: number;
  readonly thorough: boolean;
  readonly log: (line: string) => void;
}

export async function rollOver({ commit, dir, nodes, thorough, log }: RollingOptions): Promise<void> {
  const before = previousBuild(commit, join(dir, commit.slice(0, 12)));
  const now = checkoutBuild(join(import.meta.dirname, "../../.."));
  await using fleet = await startFleet({ nodes, build: before });
  const image = await pushHello(fleet);
  await fleet.berth(["ns", "create", "demo"]);
  const pids = await begin(fleet, image, "lasting");
  const step = async (name: string, change: () => Promise<void>): Promise<void> => {
    const from = performance.now();
    await change();
    await allReady(fleet);
    if (thorough || name.startsWith("old")) await leadThrough(fleet, image, name);
    log(`${name}: ${((performance.now() - from) / 1_000).toFixed(1)} s`);
    assert.deepEqual(containerPids(fleet), pids, `${name}: containers kept their processes`);
  };
  await step("old-agents", () => toController(fleet, now));
  await step("both-new", () => toAgents(fleet, now));
  await step("old-controller", () => toController(fleet, before));
  await step("both-again", () => toController(fleet, now));
  await end(fleet, "lasting");
}

async function toController({ controller }: Fleet, build: Build): Promise<void> {
  await controller.stop();
  controller.use(build);
  await controller.start();
}

/** One after the other, and each is killed rather than asked: the next build has to take up what it finds. */
async function toAgents(fleet: Fleet, build: Build): Promise<void> {
  for (const agent of fleet.agents) {
    await agent.kill();
    agent.use(build);
    await agent.start();
  }
}

async function allReady(fleet: Fleet): Promise<void> {
  await eventually("all nodes ready", async () => {
    const nodes = await nodesOf(fleet);
    return nodes.length === fleet.agents.length && nodes.every(({ status }) => status.phase === "Ready");
  });
}
