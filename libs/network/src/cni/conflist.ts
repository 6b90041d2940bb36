/** The plugins of the bridge network, in the order of ADD, made from the agent's configuration. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { StatusError } from "@berth/base";
import type { PortMapping } from "../network.ts";
import type { NetworkOptions } from "./options.ts";
import type { PluginConfig } from "./plugin.ts";

/** Kept with an attachment: DEL needs what ADD was given, though the configuration may have changed since. */
export interface Conflist {
  readonly name: string;
  readonly plugins: readonly PluginConfig[];
}

/** @throws FAILED_PRECONDITION `IPTABLES_MISSING` when what is asked for needs iptables and there is none. */
export function bridgeConflist(options: NetworkOptions, ports: readonly PortMapping[]): Conflist {
  const hasIptables = findIptables(options.iptablesDirs) !== undefined;
  if (!hasIptables && options.ipMasq) throw iptablesMissing(options, "masquerading");
  if (!hasIptables && ports.length > 0) throw iptablesMissing(options, "port mappings");
  const firewall = hasIptables && existsSync(join(options.binDir, "firewall"));
  return {
    name: options.name,
    plugins: [
      bridge(options),
      ...(firewall ? [{ type: "firewall" }] : []),
      ...(ports.length > 0 ? [portmap(ports)] : []),
    ],
  };
}

function bridge(options: NetworkOptions): PluginConfig {
  return {
    type: "bridge",
    bridge: options.bridge,
    isGateway: true,
    ipMasq: options.ipMasq,
    hairpinMode: true,
    ipam: {
      type: "host-local",
      ranges: [[{ subnet: options.subnet }]],
      routes: [{ dst: "0.0.0.0/0" }],
      dataDir: join(options.stateDir, "ipam"),
    },
  };
}

function portmap(ports: readonly PortMapping[]): PluginConfig {
  const portMappings = ports.map(({ hostPort, containerPort, protocol, hostIp }) => ({
    hostPort,
    containerPort,
    protocol,
    ...(hostIp === undefined ? {} : { hostIP: hostIp }),
  }));
  return { type: "portmap", snat: true, capabilities: { portMappings: true }, runtimeConfig: { portMappings } };
}

function findIptables(directories: readonly string[]): string | undefined {
  return directories.map((directory) => join(directory, "iptables")).find((path) => existsSync(path));
}

function iptablesMissing(options: NetworkOptions, what: string): StatusError {
  const text = `network "${options.name}": ${what} needs iptables, which is not installed; on Debian: apt install iptables`;
  return new StatusError("FAILED_PRECONDITION", text, { reason: "IPTABLES_MISSING" });
}
