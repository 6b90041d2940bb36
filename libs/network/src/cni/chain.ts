/** Running a conflist: ADD and CHECK forwards, DEL backwards, each plugin given what the ones before it made. */
import { StatusError } from "@berth/base";
import type { Conflist } from "./conflist.ts";
import { callPlugin, type CniCommand, type CniResult, type PluginConfig } from "./plugin.ts";

export interface ChainTarget {
  readonly binDir: string;
  readonly timeoutMs: number;
  readonly conflist: Conflist;
  readonly containerId: string;
  readonly netnsPath: string;
}

/** The one interface that a container gets. */
const IF_NAME = "eth0";

/**
 * @param onResult is awaited after each plugin: what a plugin made must be on record before the next one makes more, as some
 * (firewall) can only undo what they are shown.
 * @throws RESOURCE_EXHAUSTED `NETWORK_SUBNET_FULL`; what {@link callPlugin} throws.
 */
export async function addChain(
  target: ChainTarget,
  onResult: (result: CniResult) => Promise<void>,
): Promise<CniResult> {
  let result: CniResult | undefined;
  for (const plugin of target.conflist.plugins) {
    try {
      result = await call(target, "ADD", plugin, result);
    } catch (error) {
      throw nameSubnet(error, target);
    }
    if (result !== undefined) await onResult(result);
  }
  return result!;
}

export async function checkChain(target: ChainTarget, result: CniResult): Promise<void> {
  for (const plugin of target.conflist.plugins) await call(target, "CHECK", plugin, result);
}

/** Every plugin gets its turn, whatever the others say; then the first failure is thrown. */
export async function deleteChain(target: ChainTarget, result: CniResult | undefined): Promise<void> {
  const failures: unknown[] = [];
  for (const plugin of [...target.conflist.plugins].reverse()) {
    try {
      await call(target, "DEL", plugin, result);
    } catch (error) {
      failures.push(error);
    }
  }
  if (failures.length > 0) throw failures[0];
}

async function call(
  target: ChainTarget,
  command: CniCommand,
  plugin: PluginConfig,
  prevResult: CniResult | undefined,
): Promise<CniResult | undefined> {
  const { binDir, timeoutMs, containerId, netnsPath, conflist } = target;
  const network = conflist.name;
  return await callPlugin({
    command,
    binDir,
    network,
    containerId,
    netnsPath,
    ifName: IF_NAME,
    plugin,
    prevResult,
    timeoutMs,
  });
}

/** host-local says only which range it looked through; its generic code leaves nothing but the words to go by. */
function nameSubnet(error: unknown, target: ChainTarget): unknown {
  if (!(error instanceof StatusError) || !error.message.includes("no IP addresses available in range set"))
    return error;
  const subnets = target.conflist.plugins.map(subnetOf).filter((subnet) => subnet !== undefined);
  const text = `network "${target.conflist.name}": subnet ${subnets.join(", ")} has no free address left`;
  return new StatusError("RESOURCE_EXHAUSTED", text, { reason: "NETWORK_SUBNET_FULL", cause: error });
}

function subnetOf(plugin: PluginConfig): string | undefined {
  const ipam = plugin.ipam as { ranges?: { subnet?: string }[][] } | undefined;
  return ipam?.ranges?.[0]?.[0]?.subnet;
}
