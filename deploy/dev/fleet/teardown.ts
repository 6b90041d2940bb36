/**
 * Ends a fleet the way an orderly power-off of its machines would: agents first, then containers (asked, then forced; their
 * supervisors write the exit codes down), then the controller and the servers; then what the kernel still holds.
 *
 * Desired state stays in the database: the next `npm run up` finds the nodes as after a reboot and runs everything again.
 */
import { existsSync } from "node:fs";
import { detectCgroupLayout, removeCgroup, unmountUnder } from "@berth/linux";
import { destroyHosts } from "@berth/testkit/hosts";
import { childrenOf, endProcess, waitForExit, type ProcessIdentity } from "@berth/testkit/servers";
import { NODES, type Layout } from "./layout.ts";
import { forget, remembered, rememberedNames } from "./state.ts";
import type { Steps } from "./steps.ts";
import { fleetCgroups, findTraces, type Traces } from "./traces.ts";

/** How long a container may take after SIGTERM. */
const CONTAINER_GRACE_MS = 5_000;

/** Stops everything; gives what is left nevertheless. Works on any state, also on that of an `up` that was cut short. */
export async function tearDown(layout: Layout, steps: Steps): Promise<Traces> {
  const nodes: readonly string[] = NODES;
  const others = rememberedNames(layout).filter((name) => !nodes.includes(name));
  const servers = others.filter((name) => name !== "controller");
  await steps.step("agents", () => endAll(layout, nodes), countOf);
  await steps.step("containers", () => endContainers(layout), countOf);
  await steps.step("controller", () => endAll(layout, ["controller"]), countOf);
  await steps.step("servers", () => endAll(layout, servers), countOf);
  await steps.step(
    "hosts",
    () => releaseKernelObjects(layout),
    () => "mounts, cgroups, network namespaces, links",
  );
  return findTraces(layout);
}

function countOf(count: number): string {
  return count === 0 ? "none was running" : `${count} stopped`;
}

async function endAll(layout: Layout, names: readonly string[]): Promise<number> {
  const ended = await Promise.all(
    names.map(async (name) => {
      const identity = remembered(layout, name);
      // Postgres ends quickly on SIGINT only; SIGTERM waits for its clients.
      const signal = name === "postgres" ? "SIGINT" : "SIGTERM";
      if (identity !== undefined) await endProcess(identity, { signal, graceMs: 15_000 });
      forget(layout, name);
      return identity;
    }),
  );
  return ended.filter((identity) => identity !== undefined).length;
}

async function endContainers(layout: Layout): Promise<number> {
  const supervisors = findTraces(layout).processes.filter(({ command }) => /^(\S*\/)?conmon /.test(command));
  const containers = supervisors.flatMap(({ identity }) => childrenOf(identity.pid));
  await Promise.all(containers.map((container) => endProcess(container, { graceMs: CONTAINER_GRACE_MS })));
  // A supervisor writes the exit code and leaves; what still stands after that is ended.
  await Promise.all(supervisors.map(({ identity }) => waitForExit(identity, 3_000)));
  await Promise.all(findTraces(layout).processes.filter(isPartOfContainers(layout)).map(killed));
  return containers.length;
}

/** Remembered programs have their own turn. */
function isPartOfContainers(layout: Layout): (found: { readonly identity: ProcessIdentity }) => boolean {
  const programs = new Set(rememberedNames(layout).map((name) => remembered(layout, name)?.pid));
  return ({ identity }) => !programs.has(identity.pid);
}

async function killed({ identity }: { readonly identity: ProcessIdentity }): Promise<void> {
  await endProcess(identity, { graceMs: 1_000 });
}

async function releaseKernelObjects(layout: Layout): Promise<void> {
  for (const name of NODES) {
    // Detached where something outside the fleet (a shell) still stands in it.
    if (existsSync(layout.node(name))) unmountUnder(layout.node(name), { detach: true });
  }
  for (const { path } of fleetCgroups(layout)) await removeCgroup(detectCgroupLayout(), path, { kill: true });
  await destroyHosts({ dir: layout.hosts, names: NODES });
  if (existsSync(layout.dir)) unmountUnder(layout.dir, { detach: true });
}
