/** What is done to a fleet. Each trouble hurts something and gives what heals it; none outlives its healing. */
import { rmSync, statfsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Random } from "@berth/base";
import { flushRedis, type AgentProcess, type ControllerProcess, type Fleet } from "@berth/testkit";
import { childrenOf, identify, signalProcess } from "@berth/testkit/servers";
import type { Lab } from "./lab.ts";

export type Heal = () => Promise<void>;
export type Trouble = (lab: Lab, random: Random) => Promise<Heal>;

const nothing: Heal = () => Promise.resolve();

export const TROUBLES: Readonly<Record<string, Trouble>> = {
  "controller killed": async ({ fleet }, random) => {
    const controller = oneController(fleet, random);
    await controller.kill();
    return () => controller.start();
  },
  "controller paused": async ({ fleet }, random) => paused(oneController(fleet, random).pid),
  "agent killed": async (lab, random) => {
    const agent = oneOf(lab.fleet.agents, random);
    await agent.kill();
    return () => agent.start();
  },
  "agent paused": async (lab, random) => paused(oneOf(lab.fleet.agents, random).pid),
  "node cut off": async (lab, random) => {
    const { host } = oneOf(lab.fleet.agents, random);
    await host.cut();
    return () => host.heal();
  },
  "node deaf": async (lab, random) => await dropped(oneOf(lab.fleet.agents, random), "INPUT", "-i"),
  "node mute": async (lab, random) => await dropped(oneOf(lab.fleet.agents, random), "OUTPUT", "-o"),
  "link flapping": async (lab, random) => {
    const { host } = oneOf(lab.fleet.agents, random);
    for (let times = 0; times < 4; times += 1) {
      await host.cut();
      await host.heal();
    }
    return nothing;
  },
  "redis flushed": async ({ fleet: { redis } }) => {
    await flushRedis(redis);
    return nothing;
  },
  "redis killed": async ({ fleet: { redis } }) => {
    await redis.kill();
    return () => redis.start();
  },
  "redis paused": async ({ fleet: { redis } }) => paused(redis.identity?.pid),
  "nats wiped": async ({ fleet: { nats } }) => {
    await nats.wipe();
    return nothing;
  },
  "nats killed": async ({ fleet: { nats } }) => {
    await nats.kill();
    return () => nats.start();
  },
  "nats paused": async ({ fleet: { nats } }) => paused(nats.identity?.pid),
  "postgres killed": async ({ fleet: { postgres } }) => {
    await postgres.kill();
    return () => postgres.start();
  },
  "postgres paused": async ({ fleet: { postgres } }) => paused(postgres.identity?.pid, true),
  "clock jumps": async ({ fleet, programs, setClockOffset }, random) => {
    const offsetMs = Math.round((random() - 0.5) * 2 * 7_200_000);
    // One clock of many: they differ from each other then.
    const of = fleet.controllers.length > 1 && random() < 0.7 ? [oneOf(programs, random)] : programs;
    setClockOffset(offsetMs, of);
    return async () => setClockOffset(0, of);
  },
  "disk full": async (lab, random) => diskFull(oneOf(lab.fleet.agents, random)),
};

export function oneOf<T>(items: readonly T[], random: Random): T {
  return items[Math.floor(random() * items.length)]!;
}

/** Draws only where there is a choice, so that the seeds of a fleet with one controller mean what they always did. */
function oneController({ controllers }: Fleet, random: Random): ControllerProcess {
  return controllers.length === 1 ? controllers[0]! : oneOf(controllers, random);
}

/** SIGSTOP, to a process that we started (and to its children). */
function paused(pid: number | undefined, withChildren = false): Heal {
  const own = pid === undefined ? undefined : identify(pid);
  const all = own === undefined ? [] : [own, ...(withChildren ? childrenOf(own.pid) : [])];
  for (const each of all) signalProcess(each, "SIGSTOP");
  return async () => {
    for (const each of all) signalProcess(each, "SIGCONT");
  };
}

/** One-way loss, in the node's own network namespace. */
async function dropped({ host }: AgentProcess, chain: string, direction: string): Promise<Heal> {
  const rule = [chain, direction, "eth0", "-j", "DROP"];
  await host.exec(["iptables", "-w", "-I", ...rule]);
  return async () => void (await host.exec(["iptables", "-w", "-D", ...rule]));
}

function diskFull({ root }: AgentProcess): Heal {
  const file = join(root, "..", "data", "chaos-filler");
  const { bavail, bsize } = statfsSync(root);
  try {
    writeFileSync(file, Buffer.alloc(Math.max(0, bavail * bsize - 64 * 1024)));
  } catch (error) {
    // Somebody was quicker with the last pages: it is full.
    if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
  }
  return async () => rmSync(file, { force: true });
}
