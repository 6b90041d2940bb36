/**
 * Postgres, Redis, NATS and the registry of the development fleet: private ones, or those that the environment names.
 *
 * Brokers and registry listen on the bridge's address, which is what the hosts reach; Postgres, which only the controller
 * needs, on loopback. A server named by the environment is reached by the hosts through a relay on the bridge's address.
 */
import { hasCode } from "@berth/base";
import { agentPermissions } from "@berth/bus";
import type { Hosts } from "@berth/testkit/hosts";
import {
  startNats,
  startPostgres,
  startRedis,
  startRegistry,
  type RegistryServer,
  type Server,
  type ServerOptions,
} from "@berth/testkit/servers";
import { NODES, type Layout } from "./layout.ts";
import { startRelay } from "./relay.ts";
import { forgetPort, portOf, remember, remembered } from "./state.ts";
import type { Steps } from "./steps.ts";

export interface Servers {
  readonly databaseUrl: string;
  readonly redis: Broker;
  readonly nats: Broker;
  readonly registry: RegistryServer;
}

/** A broker as the controller reaches it, and as a node does. */
interface Broker {
  readonly url: string;
  nodeUrl(node: string): string;
}

export interface External {
  readonly databaseUrl: string | undefined;
  readonly redisUrl: string | undefined;
  readonly natsUrl: string | undefined;
}

export async function startServers(layout: Layout, hosts: Hosts, external: External, steps: Steps): Promise<Servers> {
  const nodes = [...NODES];
  const loopback = "127.0.0.1";
  const databaseUrl =
    external.databaseUrl ??
    (await show(steps, "postgres", () => privateServer(layout, "postgres", loopback, startPostgres))).url;
  if (external.databaseUrl !== undefined) note(steps, "postgres", external.databaseUrl);
  const redis =
    external.redisUrl === undefined
      ? await show(steps, "redis", () =>
          privateServer(layout, "redis", hosts.address, (options) => startRedis({ ...options, nodes })),
        )
      : await relayed(layout, hosts, steps, "redis", external.redisUrl);
  const nats =
    external.natsUrl === undefined
      ? await show(steps, "nats", () =>
          privateServer(layout, "nats", hosts.address, (options) =>
            startNats({ ...options, nodes, permissions: agentPermissions }),
          ),
        )
      : await relayed(layout, hosts, steps, "nats", external.natsUrl);
  const registry = await show(steps, "registry", () =>
    privateServer(layout, "registry", hosts.address, (options) => startRegistry({ ...options, username: "berth" })),
  );
  return { databaseUrl, redis, nats, registry };
}

function show<T extends Server>(steps: Steps, name: string, start: () => Promise<Started<T>>): Promise<T> {
  return steps
    .step(name, start, ({ server, before }) => `${server.host}:${server.port}${before ? ", was running" : ""}`)
    .then(({ server }) => server);
}

function note(steps: Steps, name: string, url: string): void {
  steps.text(`  ${steps.paint("green", "✓")} ${name.padEnd(12)} ${new URL(url).host}, from the environment`);
}

interface Started<T> {
  readonly server: T;
  /** It ran before. */
  readonly before: boolean;
}

/** Starts a private server on its remembered port, or takes over the one that runs. */
async function privateServer<T extends Server>(
  layout: Layout,
  name: string,
  host: string,
  start: (options: ServerOptions) => Promise<T>,
): Promise<Started<T>> {
  const adopt = remembered(layout, name);
  for (let attempt = 1; ; attempt += 1) {
    const port = await portOf(layout, name, host);
    try {
      const server = await start({ dir: layout.server(name), host, port, adopt, detached: true });
      if (server.identity !== undefined) remember(layout, name, server.identity);
      return { server, before: adopt !== undefined };
    } catch (error) {
      const taken = hasCode(error, "UNAVAILABLE") && error.reason === "ADDRESS_IN_USE";
      if (!taken || attempt >= 3) throw error;
      forgetPort(layout, name);
    }
  }
}

async function relayed(layout: Layout, hosts: Hosts, steps: Steps, name: string, url: string): Promise<Broker> {
  const relay = await startRelay(layout, name, hosts.address, url);
  note(steps, name, url);
  return { url, nodeUrl: () => relay };
}
