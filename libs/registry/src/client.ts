/** Registry clients for an agent's namespaces, or for one. */
import type { Clock, Logger } from "@berth/base";
import { Bandwidth } from "./bandwidth.ts";
import type { RegistryClientConfig } from "./config.ts";
import type { DockerConfigSource } from "./credentials/docker-config.ts";
import type { CredentialProvider } from "./credentials/store.ts";
import { HealthMemory } from "./health.ts";
import { HttpRegistryClient, owning, runtimeParts, type CommonParts } from "./http-client.ts";
import type { RegistryClient, RegistryHost } from "./registry.ts";
import { CertsDir } from "./routes/certs-dir.ts";
import { Router, type RouteProvider } from "./routes/router.ts";

export interface RegistryClientDeps {
  /** How hosts are reached; one that is not named here is reached anonymously over HTTPS. */
  readonly hosts: readonly RegistryHost[];
  /** The operator's folder in containerd's `certs.d` layout; it may be missing. Wins over `routes`. */
  readonly certsDir?: string;
  /** Routes from elsewhere, asked at each use. */
  readonly routes?: RouteProvider;
  /** Credentials of namespaces; win over those of `hosts` and of `dockerConfig`. */
  readonly credentials?: CredentialProvider;
  readonly dockerConfig?: DockerConfigSource;
  /** Give all clients of a process the same ones. */
  readonly health?: HealthMemory;
  readonly bandwidth?: Bandwidth;
  readonly logger?: Logger;
  /** Its monotonic time must be that of all threads. */
  readonly clock?: Clock;
}

/** Clients of one process: connections, health and bandwidth are common to them, credentials and tokens are not. */
export interface RegistryClients extends AsyncDisposable {
  /** The same one for the same namespace; it ends with these clients. */
  namespace(namespace: string): RegistryClient;
}

export function createRegistryClients(deps: RegistryClientDeps, config: RegistryClientConfig = {}): RegistryClients {
  const common = commonParts(deps, config);
  const clients = new Map<string, HttpRegistryClient>();
  return {
    namespace(namespace) {
      let client = clients.get(namespace);
      if (client === undefined)
        clients.set(namespace, (client = new HttpRegistryClient(common, namespace, deps.hosts)));
      return client;
    },
    // What the namespaces' clients have of their own needs no end.
    [Symbol.asyncDispose]: () => common.pools[Symbol.asyncDispose](),
  };
}

/** A client by itself. @param namespace for whom credentials are looked up */
export function createRegistryClient(
  deps: RegistryClientDeps,
  config: RegistryClientConfig = {},
  namespace = "",
): RegistryClient {
  return owning(commonParts(deps, config), namespace, deps.hosts);
}

function commonParts(deps: RegistryClientDeps, config: RegistryClientConfig): CommonParts {
  const { hosts, certsDir, routes, bandwidth = new Bandwidth(), health = new HealthMemory() } = deps;
  const router = new Router({ hosts, certs: certsDir === undefined ? undefined : new CertsDir(certsDir), routes });
  return {
    ...runtimeParts(deps, config),
    endpoints: (registry) => router.endpoints(registry),
    bandwidth: (registry) => bandwidth.state(registry),
    health,
    provider: deps.credentials,
    dockerConfig: deps.dockerConfig,
  };
}
