/**
 * Test hosts: network namespaces with an address of their own on one bridge, which can be cut off and healed.
 *
 *     await using hosts = await createHosts({ dir, count: 2 });
 *     const agent = hosts.nodes[0].spawn(["bin/berthd", "--config", file]);
 *     await hosts.nodes[0].cut();
 *
 * 1. A namespace is held by a bind mount on a file in `dir`, not in /run/netns: nothing is left elsewhere.
 * 2. Programs enter by `nsenter --net` and share the mounts of everybody. (`ip netns exec` gives each a mount namespace
 *    of its own, in which a restarted agent would not see the mounts of its predecessor.)
 * 3. Names derive from `dir`, so clones and runs do not meet, and what a killed run left behind is found and removed by
 *    the next one with the same directory. `createHosts` takes over hosts that stand already.
 * 4. Hosts reach each other and the bridge's address, and nothing beyond: this machine's routing and filters stay as
 *    they are.
 */
import { spawn, type ChildProcess, type SpawnOptions } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { StatusError } from "@berth/base";
import { eventually } from "../servers/poll.ts";
import { ip, ipIn, links, run, usedNetworks } from "./ip.ts";
import { freeNetwork } from "./subnet.ts";

export interface HostsOptions {
  /** Where the namespaces are held; also what makes all names unique. Must survive as long as the hosts. */
  readonly dir: string;
  /** The hosts' names. */
  readonly names: readonly string[];
}

export interface Host {
  readonly name: string;
  /** On the bridge, such as 10.213.7.11. */
  readonly address: string;
  /** The file that holds the network namespace. */
  readonly netns: string;
  /** A subnet for this host's containers: no other host has it, and it is no part of the bridge's network. */
  readonly containerSubnet: string;
  /** The words that run a command in the host's network namespace: put them before it. */
  readonly enter: readonly string[];
  /** Starts a program on the host; the pid is the program's own. */
  spawn(argv: readonly string[], options?: SpawnOptions): ChildProcess;
  /** Runs a program on the host to its end and gives its output; throws INTERNAL with what it said on standard error. */
  exec(argv: readonly string[]): Promise<string>;
  /** Takes the host's link down: nobody reaches it and it reaches nobody. */
  cut(): Promise<void>;
  /** Takes back every {@link cut} and {@link drop}. */
  heal(): Promise<void>;
  /** Loses packets silently, by rules in the host's own namespace. What goes the other way goes on. */
  drop(...losses: readonly Loss[]): Promise<void>;
}

/** What is lost: one direction, all of it or of one peer, or of one of the peer's ports. */
export interface Loss {
  readonly direction: "in" | "out";
  readonly peer?: { readonly address: string; readonly port?: number };
}

export interface Hosts extends AsyncDisposable {
  /** Eight letters that are part of every name made here. */
  readonly id: string;
  readonly bridge: string;
  /** The bridge's address: where servers listen that all hosts shall reach. */
  readonly address: string;
  /** Of the bridge's network, such as 10.213.7.0/24. */
  readonly subnet: string;
  readonly nodes: readonly Host[];
  /** By name. */
  node(name: string): Host;
}

/** Makes the hosts, or takes over those that an earlier call with the same `dir` and names has made. */
export async function createHosts(options: HostsOptions): Promise<Hosts> {
  const dir = resolve(options.dir);
  const id = hostsId(dir);
  const bridge = `bb${id}`;
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const standing = await standingNetwork(bridge);
  const whole = standing !== undefined && (await allStand(dir, options.names));
  if (!whole) await removeHosts(dir, id, options.names);
  try {
    const network = whole ? standing : await makeBridge(bridge, Number.parseInt(id, 16));
    const nodes: Host[] = [];
    for (const [index, name] of options.names.entries()) {
      const link: HostLink = { netns: join(dir, `${name}.netns`), veth: `bv${id}${index}`, index, network, bridge };
      if (!whole) await makeHost(link);
      nodes.push(hostOf(name, link));
    }
    return {
      id,
      bridge,
      address: `${network}.1`,
      subnet: `${network}.0/24`,
      nodes,
      node(name) {
        const found = nodes.find((node) => node.name === name);
        if (found === undefined) throw new StatusError("NOT_FOUND", `no host "${name}"`);
        return found;
      },
      [Symbol.asyncDispose]: () => removeHosts(dir, id, options.names),
    };
  } catch (error) {
    await removeHosts(dir, id, options.names);
    throw error;
  }
}

/** Removes what `createHosts` made for this directory, whoever called it and however far it came. */
export async function destroyHosts(options: HostsOptions): Promise<void> {
  const dir = resolve(options.dir);
  await removeHosts(dir, hostsId(dir), options.names);
}

/** The letters that are part of every name made for this directory. */
export function hostsId(dir: string): string {
  return createHash("sha256").update(resolve(dir)).digest("hex").slice(0, 8);
}

interface HostLink {
  readonly netns: string;
  readonly veth: string;
  readonly index: number;
  readonly network: string;
  readonly bridge: string;
}

function hostOf(name: string, link: HostLink): Host {
  const enter = ["nsenter", `--net=${link.netns}`, "--"];
  return {
    name,
    netns: link.netns,
    address: addressOf(link),
    containerSubnet: `10.88.${link.index + 1}.0/24`,
    enter,
    spawn: (argv, spawnOptions = {}) => spawn("nsenter", [...enter.slice(1), ...argv], spawnOptions),
    exec: (argv) => run("nsenter", ...enter.slice(1), ...argv),
    cut: async () => void (await ip("link", "set", link.veth, "down")),
    drop: (...losses) => drop(link.netns, losses),
    async heal() {
      await healLosses(link.netns);
      await ip("link", "set", link.veth, "up");
      // The kernel tells the bridge a little later, and the bridge drops what comes before it forwards again.
      const device = `/sys/class/net/${link.veth}`;
      const says = (file: string): string => readFileSync(`${device}/${file}`, "utf8").trim();
      const isUp = (): boolean => says("operstate") === "up" && says("brport/state") === FORWARDING;
      await eventually(`link of ${name} up`, isUp, { intervalMs: 20 });
    },
  };
}

/** BR_STATE_FORWARDING of linux/if_bridge.h. */
const FORWARDING = "3";

/** Its own chains, so that the rules of CNI's plugins stay. */
const CHAINS = { in: ["INPUT", "BERTH-IN"], out: ["OUTPUT", "BERTH-OUT"] } as const;

async function drop(netns: string, losses: readonly Loss[]): Promise<void> {
  for (const { direction, peer } of losses) {
    const [hook, chain] = CHAINS[direction];
    const made = await iptables(netns, "-N", chain).then(...yesNo);
    if (made) await iptables(netns, "-I", hook, "-j", chain);
    const address = peer === undefined ? [] : [direction === "in" ? "-s" : "-d", peer.address];
    const side = direction === "in" ? "--sport" : "--dport";
    const port = peer?.port === undefined ? [] : ["-p", "tcp", side, String(peer.port)];
    await iptables(netns, "-A", chain, ...address, ...port, "-j", "DROP");
  }
}

async function healLosses(netns: string): Promise<void> {
  // There may be none.
  for (const [, chain] of Object.values(CHAINS)) await iptables(netns, "-F", chain).catch(() => {});
}

function iptables(netns: string, ...args: string[]): Promise<string> {
  return run("nsenter", `--net=${netns}`, "iptables", "-w", ...args);
}

function addressOf(link: HostLink): string {
  return `${link.network}.${link.index + 11}`;
}

/**
 * Makes the bridge with a free network. Two fleets may choose the same one at the same moment; then both see it
 * afterwards, and the one whose bridge was made later (higher index) chooses again.
 */
async function makeBridge(bridge: string, seed: number): Promise<string> {
  await ip("link", "add", bridge, "type", "bridge");
  await ip("link", "set", bridge, "up");
  for (let attempt = 0; attempt < 10; attempt += 1) {
    const network = freeNetwork(await usedNetworks(), seed + attempt);
    await ip("address", "add", `${network}.1/24`, "dev", bridge);
    const owners = (await links()).filter((l) => l.addr_info?.some((a) => a.local === `${network}.1`));
    if (Math.min(...owners.map((l) => l.ifindex)) === owners.find((l) => l.ifname === bridge)?.ifindex) return network;
    await ip("address", "del", `${network}.1/24`, "dev", bridge);
  }
  throw new StatusError("ABORTED", `bridge ${bridge}: other fleets kept taking the networks it chose`);
}

async function makeHost(link: HostLink): Promise<void> {
  const { netns, veth } = link;
  writeFileSync(netns, "", { mode: 0o600 });
  await run("unshare", `--net=${netns}`, "true");
  await ip("link", "add", veth, "type", "veth", "peer", "name", "eth0", "netns", netns);
  await ip("link", "set", veth, "master", link.bridge, "up");
  await ipIn(netns, "link", "set", "lo", "up");
  await ipIn(netns, "address", "add", `${addressOf(link)}/24`, "dev", "eth0");
  await ipIn(netns, "link", "set", "eth0", "up");
}

/** The network of a bridge that stands already. */
async function standingNetwork(bridge: string): Promise<string | undefined> {
  const link = (await links()).find((each) => each.ifname === bridge);
  return link?.addr_info?.[0]?.local?.replace(/\.1$/, "");
}

async function allStand(dir: string, names: readonly string[]): Promise<boolean> {
  for (const name of names) {
    const netns = join(dir, `${name}.netns`);
    // A file without its mount (after a reboot) is no namespace, and entering fails.
    if (!existsSync(netns) || !(await ipIn(netns, "link", "show", "eth0").then(...yesNo))) return false;
  }
  return true;
}

async function removeHosts(dir: string, id: string, names: readonly string[]): Promise<void> {
  for (const [index, name] of names.entries()) {
    const netns = join(dir, `${name}.netns`);
    await ip("link", "del", `bv${id}${index}`).catch(() => {}); // at once, and not when the kernel reaps the namespace
    if (!existsSync(netns)) continue;
    await run("umount", "--no-mtab", netns).catch(() => {}); // not mounted any more
    rmSync(netns, { force: true });
  }
  await ip("link", "del", `bb${id}`).catch(() => {}); // there was none
}

const yesNo = [() => true, () => false] as const;
