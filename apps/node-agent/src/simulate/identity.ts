/** Who the simulated nodes are: names, addresses, labels and sizes, all following from the profile and their number. */
import type { SimulationProfile } from "@berth/config";
import type { Chance } from "./chance.ts";

export interface NodeIdentity {
  readonly name: string;
  readonly address: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly capacity: {
    readonly cpuMillis: number;
    readonly memoryBytes: number;
    readonly tasks: number;
    readonly diskBytes: number;
  };
}

/** `number` counts from 1. Zones take turns, so that any prefix of the fleet is spread. */
export function identityOf(number: number, profile: SimulationProfile, chance: Chance): NodeIdentity {
  const name = `${profile.prefix}-${String(number).padStart(4, "0")}`;
  const zone = ((number - 1) % profile.zones) + 1;
  const rack = (Math.floor((number - 1) / profile.zones) % profile.racksPerZone) + 1;
  const { cpuMillis, memoryBytes, tasks, diskBytes } = profile.capacity;
  return {
    name,
    address: `10.${64 + (number >> 16)}.${(number >> 8) & 255}.${number & 255}`,
    labels: {
      ...profile.labels,
      "berth.io/zone": `z${zone}`,
      "berth.io/rack": `z${zone}-r${rack}`,
      "berth.io/simulated": "true",
    },
    capacity: { cpuMillis, memoryBytes, tasks, diskBytes: chance.within(diskBytes, "disk", name) },
  };
}
