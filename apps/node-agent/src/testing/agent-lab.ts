/** One real agent on a test host of its own, with real Redis, NATS and registry, and the fake controller. */
import { execFile, execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Lifetime } from "@berth/base";
import { agentPermissions } from "@berth/bus";
import {
  busyboxImage,
  cgroupDirs,
  createAgentProcess,
  createHosts,
  mountsBeneath,
  pushImage,
  scratchDir,
  startNats,
  startRedis,
  startRegistry,
  type AgentProcess,
  type NatsServer,
  type RedisServer,
  type RegistryServer,
} from "@berth/testkit";
import { FakeController } from "./fake-controller.ts";

export interface AgentLab extends AsyncDisposable {
  readonly dir: string;
  readonly agent: AgentProcess;
  readonly controller: FakeController;
  readonly redis: RedisServer;
  readonly nats: NatsServer;
  readonly registry: RegistryServer;
  /** A busybox image in the registry. */
  readonly image: string;
  /** A directory of the host that containers may bind. */
  readonly shared: string;
  /** Lines of a file in {@link shared}. */
  lines(name: string): string[];
  touch(name: string): void;
  /** Starts another agent with the same configuration, and waits for its end. */
  startSecond(): Promise<{ readonly code: number; readonly stderr: string }>;
  /** SIGKILL to every conmon of the agent's containers. */
  killSupervisors(): void;
  /** Whatever of tasks is still on the host: mounts, cgroups, network namespaces, bundles, snapshots, logs. */
  leftovers(): string[];
}

export interface AgentLabOptions {
  /** Default true. */
  readonly start?: boolean;
  /** The agent's configuration, beyond what the lab sets and in its place. */
  readonly config?: Readonly<Record<string, unknown>>;
  /** More registries of plain HTTP, by their addresses, once the lab's own is there. */
  readonly registries?: (registry: RegistryServer, lifetime: Lifetime) => Promise<readonly string[]>;
}

export async function startAgentLab(options: AgentLabOptions = {}): Promise<AgentLab> {
  const lifetime = new Lifetime();
  try {
    return await assemble(lifetime, options);
  } catch (error) {
    await lifetime[Symbol.asyncDispose]();
    throw error;
  }
}

async function assemble(
  lifetime: Lifetime,
  { start = true, config = {}, registries = async () => [] }: AgentLabOptions,
): Promise<AgentLab> {
  const { dir } = lifetime.own(scratchDir("berth-agent"));
  const name = "node-1";
  const hosts = lifetime.own(await createHosts({ dir: join(dir, "hosts"), names: [name] }));
  const host = hosts.address;
  const redis = lifetime.own(await startRedis({ dir: join(dir, "redis"), host, nodes: [name] }));
  const nats = lifetime.own(
    await startNats({ dir: join(dir, "nats"), host, nodes: [name], permissions: agentPermissions }),
  );
  const registry = lifetime.own(await startRegistry({ dir: join(dir, "registry"), host }));
  const { name: image } = await pushImage(registry, "test/busybox", "1", busyboxImage());
  const plainHttp = [registry.address, ...(await registries(registry, lifetime))];
  const shared = join(dir, "shared");
  mkdirSync(shared);
  const controller = lifetime.own(new FakeController({ node: name, natsUrl: nats.url, redisUrl: redis.url }));
  const [node] = hosts.nodes;
  const agent = lifetime.own(
    createAgentProcess({
      dir: join(dir, name),
      host: node!,
      config: {
        node: name,
        root: join(dir, name, "data"),
        state: join(dir, name, "run"),
        redisUrl: redis.nodeUrl(name),
        natsUrl: nats.nodeUrl(name),
        metricsListen: "0.0.0.0:1338",
        logLevel: "debug",
        registries: Object.fromEntries(plainHttp.map((address) => [address, { plainHttp: true }])),
        cni: { bridge: "berth0", subnet: node!.containerSubnet },
        cgroupParent: `/berth-${dir.slice(-6)}-${name}`,
        ...config,
      },
    }),
  );
  if (start) await agent.start();
  return {
    dir,
    agent,
    controller,
    redis,
    nats,
    registry,
    image,
    shared,
    lines: (file) => {
      const path = join(shared, file);
      return existsSync(path) ? readFileSync(path, "utf8").split("\n").filter(Boolean) : [];
    },
    startSecond: () => runBerthd(["--config", join(dir, name, "config.json")]),
    touch: (file) => writeFileSync(join(shared, file), ""),
    killSupervisors: () => {
      for (const { pid } of agent.processes()) {
        if (readFileSync(`/proc/${pid}/comm`, "utf8").trim() === "conmon") process.kill(pid, "SIGKILL");
      }
    },
    leftovers: () => leftoversOf(agent),
    [Symbol.asyncDispose]: () => lifetime[Symbol.asyncDispose](),
  };
}

function leftoversOf(agent: AgentProcess): string[] {
  const groups = cgroupDirs(agent.cgroupParent).filter(
    (path) => !path.endsWith(agent.cgroupParent) && !/_(supervisors|stopper)$/.test(path),
  );
  return [
    ...mountsBeneath(agent.root).map((path) => `mount ${path}`),
    ...mountsBeneath(agent.state).map((path) => `mount ${path}`),
    ...groups.map((path) => `cgroup ${path}`),
    ...listed(join(agent.state, "bundles")).map((path) => `bundle ${path}`),
    ...listed(join(agent.state, "network", "netns")).map((path) => `netns ${path}`),
    ...listed(join(agent.root, "logs")).flatMap((namespace) =>
      listed(join(agent.root, "logs", namespace)).map((task) => `log ${namespace}/${task}`),
    ),
    ...rows(agent, "SELECT 'container ' || id AS what FROM containers"),
    ...rows(agent, "SELECT 'snapshot ' || key AS what FROM snapshots WHERE kind <> 'committed'"),
    ...agent.processes().map(({ pid }) => `process ${pid}`),
  ];
}

function listed(path: string): string[] {
  return existsSync(path) ? readdirSync(path) : [];
}

/** Read by a process of its own: the test's must not hold the agent's file open. */
function rows(agent: AgentProcess, sql: string): string[] {
  const script = `
    import { DatabaseSync } from "node:sqlite";
    const db = new DatabaseSync(process.argv[1], { readOnly: true });
    for (const { what } of db.prepare(process.argv[2]).all()) console.log(what);`;
  const argv = ["--disable-warning=ExperimentalWarning", "--input-type=module", "-e", script];
  const output = execFileSync(process.execPath, [...argv, join(agent.root, "metadata.db"), sql], { encoding: "utf8" });
  return output.split("\n").filter(Boolean);
}

function runBerthd(args: readonly string[]): Promise<{ readonly code: number; readonly stderr: string }> {
  const { promise, resolve } = Promise.withResolvers<{ readonly code: number; readonly stderr: string }>();
  const main = new URL("../main.ts", import.meta.url).pathname;
  execFile(
    process.execPath,
    ["--disable-warning=ExperimentalWarning", main, ...args],
    { timeout: 20_000 },
    (error, _stdout, stderr) => {
      resolve({ code: Number(error?.code ?? 0), stderr });
    },
  );
  return promise;
}
