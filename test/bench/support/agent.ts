/** What an agent needs around it: Redis, NATS, a configuration file. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { agentPermissions } from "@berth/bus";
import { freePort, startNats, startRedis, type RegistryServer } from "@berth/testkit";
import type { Bench } from "./bench.ts";

const NODE = "bench";

/** @returns the configuration file. Dispose the agent before the benchmark's lifetime. */
export async function prepareAgent(bench: Bench, registry: RegistryServer): Promise<string> {
  const { lifetime } = bench;
  const dir = join(bench.dir, "berth");
  mkdirSync(dir);
  const redis = lifetime.own(await startRedis({ dir: join(bench.dir, "redis"), nodes: [NODE] }));
  const nats = lifetime.own(
    await startNats({ dir: join(bench.dir, "nats"), nodes: [NODE], permissions: agentPermissions }),
  );
  const config = {
    node: NODE,
    root: join(dir, "data"),
    state: join(dir, "run"),
    redisUrl: redis.nodeUrl(NODE),
    natsUrl: nats.nodeUrl(NODE),
    metricsListen: `127.0.0.1:${await freePort()}`,
    registries: { [registry.address]: { plainHttp: true } },
    cgroupParent: bench.name,
  };
  const file = join(dir, "config.json");
  writeFileSync(file, JSON.stringify(config), { mode: 0o600 });
  return file;
}
