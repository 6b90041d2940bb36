/** What a CNI network is made of. */
import { isIP } from "node:net";
import { silentLogger, StatusError, systemClock, type Clock, type FieldViolation, type Logger } from "@berth/base";
import type { Metadata } from "@berth/metadata";

export interface NetworkDeps {
  readonly metadata: Metadata;
  readonly clock?: Clock;
  readonly logger?: Logger;
}

export interface CniNetworkOptions {
  /** Where the plugins are: `/usr/lib/cni`, `/opt/cni/bin`. */
  readonly binDir: string;
  /** Interface name, at most 15 characters: `berth0`. */
  readonly bridge: string;
  /** IPv4 in CIDR form: `10.88.0.0/16`. */
  readonly subnet: string;
  /** Absolute; holds namespace files and address leases. Must survive as long as the containers do, not a reboot. */
  readonly stateDir: string;
  /** The network's name; default `berth`. Networks of one host need different names. */
  readonly name?: string;
  /** Masquerade what leaves the bridge; default true, needs iptables. */
  readonly ipMasq?: boolean;
  /** Of one plugin call; default 30,000. */
  readonly timeoutMs?: number;
  /** Where iptables may be; the system's usual directories by default. */
  readonly iptablesDirs?: readonly string[];
}

export interface NetworkOptions extends Required<CniNetworkOptions> {
  readonly clock: Clock;
  readonly logger: Logger;
}

const SYSTEM_DIRS = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/** @throws INVALID_ARGUMENT naming the options at fault. */
export function resolveOptions(deps: NetworkDeps, given: CniNetworkOptions): NetworkOptions {
  const name = given.name ?? "berth";
  const violations: FieldViolation[] = [];
  const demand = (holds: boolean, field: string, description: string): void => {
    if (!holds) violations.push({ field, description });
  };
  demand(given.binDir.startsWith("/"), "binDir", "must be an absolute path");
  demand(given.stateDir.startsWith("/"), "stateDir", "must be an absolute path");
  demand(/^[a-zA-Z0-9][a-zA-Z0-9._-]{0,14}$/.test(given.bridge), "bridge", "must be an interface name");
  demand(/^[a-zA-Z0-9][a-zA-Z0-9._-]*$/.test(name), "name", "must be letters, digits, '.', '_' and '-'");
  demand(isSubnet(given.subnet), "subnet", "must be an IPv4 network such as 10.88.0.0/16");
  if (violations.length > 0) throw StatusError.invalid(violations);
  return {
    ...given,
    name,
    ipMasq: given.ipMasq ?? true,
    timeoutMs: given.timeoutMs ?? 30_000,
    iptablesDirs: given.iptablesDirs ?? SYSTEM_DIRS,
    clock: deps.clock ?? systemClock,
    logger: deps.logger ?? silentLogger,
  };
}

function isSubnet(text: string): boolean {
  const [address = "", bits = ""] = text.split("/");
  return isIP(address) === 4 && /^\d{1,2}$/.test(bits) && Number(bits) >= 8 && Number(bits) <= 30;
}
