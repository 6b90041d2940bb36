/**
 * A whole fleet for tests: real Postgres, Redis, NATS and registry, the real controller, and real agents in network
 * namespaces of their own. Everything can be killed, cut and started again; nothing outlives `dispose`.
 *
 *     await using fleet = await startFleet({ nodes: 2 });
 *     await fleet.cli("ns", "create", "demo");
 *     await fleet.agents[0].kill();
 *     fleet.agents[1].host.cut();
 *
 * Programs are started as users start them, by their launchers' main files and configuration files, so that what is tested
 * is what ships. Leaves what a fleet must do to the tests.
 */
import { execFileSync, type ChildProcess, type ChildProcessWithoutNullStreams } from "node:child_process";
import { mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Lifetime } from "@berth/base";
import { agentPermissions } from "@berth/bus";
import { createHosts, type Host, type Hosts } from "../hosts/index.ts";
import { startNats, type NatsServer } from "../servers/nats.ts";
import { startPostgres, type PostgresServer } from "../servers/postgres.ts";
import { startRedis, type RedisServer } from "../servers/redis.ts";
import { startRegistry, type RegistryServer } from "../servers/registry.ts";
import { freePort } from "../servers/ports.ts";
import { scratchDir } from "../servers/scratch.ts";
import { startAgent, type AgentProcess } from "./agent-process.ts";
import { runCli, spawnCli, startCli, type CliOptions, type CliResult } from "./cli.ts";
import type { Build } from "./programs.ts";
import { createControllerProcess, type ControllerProcess } from "./controller-process.ts";

export interface FleetOptions {
  /** Default 2. */
  readonly nodes?: number;
  /** Default 4 s, so that tests of silence are short. */
  readonly leaseTtlMs?: number;
  /** That many controllers on one control plane. Default 1. */
  readonly controllers?: number;
  /** Names the failpoint at which the first controller's first process kills itself. */
  readonly controllerCrashAt?: string;
  /** So many free ports on the bridge's address that agents take for registries speaking plain HTTP. */
  readonly plainHttpPorts?: number;
  /** Puts each agent's data root on a tmpfs of this size, so that it can be filled. */
  readonly dataBytes?: number;
  /** Gives the controller a host of its own, `controller`, so that it can be cut off from one server alone. */
  readonly controllerHost?: boolean;
  /** Labels of each node, by index. */
  readonly labels?: readonly Readonly<Record<string, string>>[];
  /** What programs are run; default this repository's. */
  readonly build?: Build;
  /** Of a process, beyond its own: `controller`, `controller-2`, `node-1`… */
  readonly env?: (program: string) => Readonly<Record<string, string>>;
}

export interface Fleet extends AsyncDisposable {
  readonly dir: string;
  readonly postgres: PostgresServer;
  readonly redis: RedisServer;
  readonly nats: NatsServer;
  readonly registry: RegistryServer;
  readonly hosts: Hosts;
  /** The first one, which the fleet's `berth` asks. */
  readonly controller: ControllerProcess;
  readonly controllers: readonly ControllerProcess[];
  /** What `controllerHost` asked for. */
  readonly controllerHost: Host | undefined;
  readonly agents: readonly AgentProcess[];
  /** What `plainHttpPorts` asked for. */
  readonly plainHttpPorts: readonly number[];
  /** The bootstrap admin's. */
  token(): string;
  /** Runs the real `berth` against this fleet. */
  cli(...args: string[]): Promise<CliResult>;
  /** The same, with standard input; a code other than 0 throws with what it printed. */
  berth(args: readonly string[], input?: string): Promise<string>;
  /** The same as a child process that its caller talks to and ends; it is killed after two minutes. */
  startBerth(...args: string[]): ChildProcessWithoutNullStreams;
  /** The same with a file's descriptor as its input, or none, and an hour's time. */
  spawnBerth(args: readonly string[], stdin: "ignore" | number): ChildProcess;
}

export async function startFleet(options: FleetOptions = {}): Promise<Fleet> {
  const lifetime = new Lifetime();
  try {
    return await assemble(lifetime, options);
  } catch (error) {
    await lifetime[Symbol.asyncDispose]();
    throw error;
  }
}

async function assemble(lifetime: Lifetime, options: FleetOptions): Promise<Fleet> {
  const { nodes: count = 2, leaseTtlMs = 4_000 } = options;
  const { dir } = lifetime.own(scratchDir("berth-fleet"));
  const names = Array.from({ length: count }, (_, index) => `node-${index + 1}`);
  const hosts = lifetime.own(
    await createHosts({ dir: join(dir, "hosts"), names: [...names, ...(options.controllerHost ? [CONTROLLER] : [])] }),
  );
  const host = hosts.address;
  const controllerHost = options.controllerHost === true ? hosts.node(CONTROLLER) : undefined;
  const [postgres, redis, nats, registry] = await Promise.all([
    startPostgres({ dir: join(dir, "postgres"), ...(controllerHost && { host }) }).then((server) =>
      lifetime.own(server),
    ),
    startRedis({ dir: join(dir, "redis"), host, nodes: names }).then((server) => lifetime.own(server)),
    startNats({ dir: join(dir, "nats"), host, nodes: names, permissions: agentPermissions }).then((server) =>
      lifetime.own(server),
    ),
    startRegistry({ dir: join(dir, "registry"), host, username: "berth" }).then((server) => lifetime.own(server)),
  ]);
  const plainHttpPorts = await Promise.all(Array.from({ length: options.plainHttpPorts ?? 0 }, () => freePort(host)));
  const tokenFile = join(dir, "token");
  const controllers: ControllerProcess[] = [];
  for (let index = 0; index < (options.controllers ?? 1); index += 1) {
    const name = index === 0 ? CONTROLLER : `${CONTROLLER}-${index + 1}`;
    const controller = lifetime.own(
      createControllerProcess({
        dir: join(dir, name),
        build: options.build,
        env: options.env?.(name) ?? {},
        enter: (index === 0 ? controllerHost?.enter : undefined) ?? [],
        config: {
          databaseUrl: postgres.url,
          redisUrl: redis.url,
          natsUrl: nats.url,
          listen: await listenOn(index === 0 ? controllerHost : undefined),
          bootstrapTokenFile: tokenFile,
          lease: { ttlMs: leaseTtlMs, renewMs: Math.floor(leaseTtlMs / 4), fenceSlackMs: 2_000 },
          resyncMs: 3_000,
        },
      }),
    );
    controllers.push(controller);
    await controller.start(index === 0 ? options.controllerCrashAt : undefined);
  }
  const controller = controllers[0]!;
  const agents = await Promise.all(
    names.map(async (name, index) => {
      if (options.dataBytes !== undefined) mountData(join(dir, name, "data"), options.dataBytes);
      const agent = await startAgent({
        dir: join(dir, name),
        host: hosts.nodes[index]!,
        build: options.build,
        env: options.env?.(name) ?? {},
        config: agentConfig({
          host: hosts.nodes[index]!,
          dir,
          redis,
          nats,
          registry,
          plainHttpPorts,
          labels: options.labels?.[index] ?? {},
        }),
      });
      return lifetime.own(agent);
    }),
  );
  const token = (): string => readFileSync(tokenFile, "utf8").trim();
  const cliOptions = (): CliOptions => ({
    endpoint: controller.grpcEndpoint,
    token: token(),
    home: makeHome(dir),
    build: options.build,
  });
  const cli = (args: readonly string[], input?: string): Promise<CliResult> => runCli(args, { ...cliOptions(), input });
  return {
    dir,
    postgres,
    redis,
    nats,
    registry,
    hosts,
    controller,
    controllers,
    controllerHost,
    agents,
    plainHttpPorts,
    token,
    cli: (...args) => cli(args),
    async berth(args, input) {
      const result = await cli(args, input);
      if (result.code !== 0)
        throw new Error(`berth ${args.join(" ")} ended with ${result.code}: ${result.stderr || result.stdout}`);
      return result.stdout;
    },
    startBerth: (...args) => startCli(args, cliOptions()),
    spawnBerth: (args, stdin) => spawnCli(args, { ...cliOptions(), timeoutMs: 3_600_000 }, stdin),
    [Symbol.asyncDispose]: () => lifetime[Symbol.asyncDispose](),
  };
}

const CONTROLLER = "controller";

/** In a namespace of its own every port is free. */
async function listenOn(host: Host | undefined): Promise<{ readonly grpc: string; readonly http: string }> {
  if (host !== undefined) return { grpc: `${host.address}:7700`, http: `${host.address}:7701` };
  return { grpc: `127.0.0.1:${await freePort()}`, http: `127.0.0.1:${await freePort()}` };
}

function agentConfig(of: {
  host: Host;
  dir: string;
  redis: RedisServer;
  nats: NatsServer;
  registry: RegistryServer;
  plainHttpPorts: readonly number[];
  labels: Readonly<Record<string, string>>;
}): Record<string, unknown> {
  const { name, containerSubnet } = of.host;
  return {
    node: name,
    labels: of.labels,
    root: join(of.dir, name, "data"),
    state: join(of.dir, name, "run"),
    redisUrl: of.redis.nodeUrl(name),
    natsUrl: of.nats.nodeUrl(name),
    metricsListen: "0.0.0.0:1338",
    registries: {
      [of.registry.address]: { plainHttp: true, ...of.registry.credentials },
      ...Object.fromEntries(of.plainHttpPorts.map((port) => [`${of.registry.host}:${port}`, { plainHttp: true }])),
    },
    cni: { binDir: "/usr/lib/cni", bridge: "berth0", subnet: containerSubnet },
    cgroupParent: `/berth-${of.dir.slice(-6)}-${name}`,
  };
}

/** Goes with the agent, which unmounts all beneath its directory when it is disposed. */
function mountData(path: string, sizeBytes: number): void {
  mkdirSync(path, { recursive: true });
  execFileSync("mount", ["-t", "tmpfs", "-o", `size=${sizeBytes}`, "berth-test", path]);
}

function makeHome(dir: string): string {
  const home = join(dir, "home");
  mkdirSync(home, { recursive: true });
  return home;
}
