/** The controller and the agents of the development fleet: configured by files, detached, taken over when they run. */
import { mkdirSync, readFileSync, readlinkSync, statSync } from "node:fs";
import { join } from "node:path";
import type { Host, Hosts } from "@berth/testkit/hosts";
import { Daemon, endProcess, eventually, type ProcessIdentity } from "@berth/testkit/servers";
import { ROOT, type Layout } from "./layout.ts";
import type { Servers } from "./servers.ts";
import { portOf, remember, remembered, writePrivate } from "./state.ts";

export interface Controller {
  /** gRPC, plain. */
  readonly endpoint: string;
  readonly httpEndpoint: string;
  readonly token: string;
  readonly before: boolean;
}

/** Starts the controller (or takes it over) and waits until it is ready. */
export async function startController(layout: Layout, servers: Servers): Promise<Controller> {
  const grpc = `127.0.0.1:${await portOf(layout, "grpc", "127.0.0.1")}`;
  const http = `127.0.0.1:${await portOf(layout, "http", "127.0.0.1")}`;
  const file = join(layout.config, "controller.json");
  const changed = writeConfig(file, {
    databaseUrl: servers.databaseUrl,
    redisUrl: servers.redis.url,
    natsUrl: servers.nats.url,
    listen: { grpc, http },
    bootstrapTokenFile: layout.tokenFile,
  });
  const before = await startProgram(layout, "controller", changed, {
    argv: [join(ROOT, "bin/berth-controller")],
    env: { BERTH_CONTROLLER_CONFIG: file },
    url: `http://${http}/readyz`,
  });
  const token = await eventually("the controller's first token", () => readFileSync(layout.tokenFile, "utf8").trim(), {
    timeoutMs: 5_000,
  });
  return { endpoint: `http://${grpc}`, httpEndpoint: `http://${http}`, token, before };
}

/** Starts an agent on its host (or takes it over) and waits until it answers. True when it ran before. */
export async function startAgent(layout: Layout, servers: Servers, hosts: Hosts, host: Host): Promise<boolean> {
  const dir = layout.node(host.name);
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const file = join(layout.config, `${host.name}.json`);
  const { address, credentials } = servers.registry;
  const changed = writeConfig(file, {
    node: host.name,
    labels: { fleet: "dev", zone: host.name === "node-1" ? "a" : "b" },
    root: join(dir, "data"),
    state: join(dir, "run"),
    redisUrl: servers.redis.nodeUrl(host.name),
    natsUrl: servers.nats.nodeUrl(host.name),
    metricsListen: "0.0.0.0:1338",
    registries: { [address]: { plainHttp: true, ...credentials } },
    cni: { subnet: host.containerSubnet },
    cgroupParent: cgroupParent(hosts.id, host.name),
  });
  const running = remembered(layout, host.name);
  const elsewhere = running !== undefined && !isOnHost(running, host);
  return await startProgram(layout, host.name, changed || elsewhere, {
    argv: [...host.enter, join(ROOT, "bin/berthd"), "--config", file],
    env: {},
    url: `http://${host.address}:1338/healthz`,
  });
}

/** Every cgroup of a fleet begins with this, so that they are found again. */
export function cgroupPrefix(fleetId: string): string {
  return `berth-${fleetId}`;
}

function cgroupParent(fleetId: string, node: string): string {
  return `${cgroupPrefix(fleetId)}-${node}`;
}

/** After the hosts were made anew, an agent that still runs is in a network namespace that nobody else can reach. */
function isOnHost(identity: ProcessIdentity, host: Host): boolean {
  const inode = /\d+/.exec(readlinkSync(`/proc/${identity.pid}/ns/net`))?.[0];
  return String(statSync(host.netns).ino) === inode;
}

interface Program {
  readonly argv: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  /** Answers 200 when it is ready. */
  readonly url: string;
}

/** True when it ran before and was left alone. */
async function startProgram(layout: Layout, name: string, changed: boolean, program: Program): Promise<boolean> {
  const daemon = new Daemon({
    name,
    argv: program.argv,
    cwd: layout.dir,
    env: programEnv(program.env),
    logFile: join(layout.logs, `${name}.log`),
    probe: async () => {
      const response = await fetch(program.url, { signal: AbortSignal.timeout(2_000) });
      await response.arrayBuffer();
      if (!response.ok) throw new Error(`${program.url} answers ${response.status}`);
    },
    detached: true,
    readyTimeoutMs: 60_000,
  });
  const running = remembered(layout, name);
  if (running !== undefined && !changed && (await daemon.adopt(running))) return true;
  if (running !== undefined) await endProcess(running);
  await daemon.start();
  if (daemon.identity !== undefined) remember(layout, name, daemon.identity);
  return false;
}

/** Configuration comes from the files alone: a DATABASE_URL for `up` must not override an agent's own settings. */
function programEnv(extra: Readonly<Record<string, string>>): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(
    ([name]) => !/^(BERTH_|npm_|DATABASE_URL$|REDIS_URL$|NATS_URL$|NODE_TEST_CONTEXT$)/.test(name),
  );
  return { ...Object.fromEntries(kept), ...extra };
}

function writeConfig(file: string, config: object): boolean {
  return writePrivate(file, `${JSON.stringify(config, undefined, 2)}\n`);
}
