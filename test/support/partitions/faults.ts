/**
 * Partitions of a fleet whose controller and nodes are hosts of their own. Each fault hurts for as long as it says, by rules in
 * the hosts' own namespaces, and heals whatever it did.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Random } from "@berth/base";
import type { AgentProcess, Fleet } from "@berth/testkit";

export interface Partition {
  /** How long it is to last; a lease of the test fleet is 4 s, T about 7.5 s after its end. */
  readonly seconds: readonly [least: number, most: number];
  begin(fleet: Fleet, random: Random): Promise<void>;
  /** Goes on until the signal, for faults that move. */
  during?(fleet: Fleet, random: Random, signal: AbortSignal): Promise<void>;
  /** Beyond taking back what was cut and dropped. */
  end?(fleet: Fleet): Promise<void>;
}

const LONG = [14, 22] as const;
const SHORT = [2, 12] as const;

export const PARTITIONS: Readonly<Record<string, Partition>> = {
  "a minority of the nodes": {
    seconds: LONG,
    begin: async (fleet, random) => await some(fleet, random, 1)[0]!.host.cut(),
  },
  "a majority of the nodes": {
    seconds: LONG,
    begin: async (fleet, random) => {
      for (const { host } of some(fleet, random, 2)) await host.cut();
    },
  },
  "a node whose agent is killed meanwhile": {
    seconds: LONG,
    async begin(fleet, random) {
      const [agent] = some(fleet, random, 1);
      await agent!.host.cut();
      await agent!.kill();
    },
    async end({ agents }) {
      for (const agent of agents) if (!agent.running) await agent.start();
    },
  },
  "the controller from Redis": { seconds: SHORT, begin: (fleet) => controllerFrom(fleet, fleet.redis) },
  "the controller from NATS": { seconds: LONG, begin: (fleet) => controllerFrom(fleet, fleet.nats) },
  "the controller from Postgres": { seconds: LONG, begin: (fleet) => controllerFrom(fleet, fleet.postgres) },
  "what a node says is lost": {
    seconds: LONG,
    begin: async (fleet, random) => await some(fleet, random, 1)[0]!.host.drop({ direction: "out" }),
  },
  "what a node is told is lost": {
    seconds: LONG,
    begin: async (fleet, random) => await some(fleet, random, 1)[0]!.host.drop({ direction: "in" }),
  },
  "a node that comes and goes": {
    seconds: LONG,
    begin: async () => {},
    async during(fleet, random, signal) {
      const [agent] = some(fleet, random, 1);
      while (!signal.aborted) {
        await agent!.host.cut();
        await delay(500 + random() * 6_000, undefined, { signal }).catch(() => {});
        await agent!.host.heal();
        await delay(200 + random() * 3_000, undefined, { signal }).catch(() => {});
      }
    },
  },
};

/** Begins, waits, and heals whatever happens. */
export async function hurt(fleet: Fleet, partition: Partition, random: Random): Promise<number> {
  const [least, most] = partition.seconds;
  const seconds = least + random() * (most - least);
  const over = new AbortController();
  try {
    await partition.begin(fleet, random);
    const moving = partition.during?.(fleet, random, over.signal);
    await delay(seconds * 1_000);
    over.abort();
    await moving;
  } finally {
    over.abort();
    for (const { host } of fleet.agents) await host.heal();
    await fleet.controllerHost!.heal();
    await partition.end?.(fleet);
  }
  return seconds;
}

async function controllerFrom(fleet: Fleet, server: { readonly host: string; readonly port: number }): Promise<void> {
  const peer = { address: server.host, port: server.port };
  await fleet.controllerHost!.drop({ direction: "in", peer }, { direction: "out", peer });
}

function some({ agents }: Fleet, random: Random, count: number): AgentProcess[] {
  const left = [...agents];
  return Array.from({ length: count }, () => left.splice(Math.floor(random() * left.length), 1)[0]!);
}
