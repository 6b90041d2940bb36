/**
 * Which credentials an endpoint gets: those of its own host only, from the first of these that has any: the provider (of
 * the namespace), the agent's configuration, a `docker login` file with its helpers.
 *
 * What was found, and that nothing was, is kept for a minute and dropped as soon as it is refused, so that a `docker login`
 * takes effect without a restart.
 */
import { KeyedLock, type Clock } from "@berth/base";
import type { RegistryCredentials, RegistryHost } from "../registry.ts";
import { credentialHosts, type Endpoint } from "../routes/endpoint.ts";
import type { DockerConfig } from "./docker-config.ts";

export interface CredentialQuery {
  readonly namespace: string;
  /** `host[:port]` of the registry or mirror. */
  readonly host: string;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Credentials by namespace and host; undefined leaves the question to the agent's own. A worker thread has no provider: what
 * one gives only after a wait reaches workers if it was asked for before, by the request for the manifest.
 */
export type CredentialProvider = (
  query: CredentialQuery,
) => RegistryCredentials | undefined | Promise<RegistryCredentials | undefined>;

export interface CredentialStoreDeps {
  readonly namespace: string;
  readonly provider: CredentialProvider | undefined;
  readonly hosts: readonly RegistryHost[];
  readonly docker: DockerConfig | undefined;
  readonly clock: Clock;
}

const KEEP_MS = 60_000;

interface Found {
  readonly credentials: RegistryCredentials | undefined;
  readonly untilMs: number;
}

export class CredentialStore {
  readonly #deps: CredentialStoreDeps;
  readonly #found = new Map<string, Found>();
  readonly #lock = new KeyedLock();

  constructor(deps: CredentialStoreDeps) {
    this.#deps = deps;
  }

  /** @throws what the provider, the file or a helper says */
  async find(endpoint: Endpoint, signal: AbortSignal | undefined): Promise<RegistryCredentials | undefined> {
    return await this.#lock.run(
      endpoint.host,
      async () => {
        const found = this.#found.get(endpoint.host);
        if (found !== undefined && found.untilMs > this.#deps.clock.monotonicMs()) return found.credentials;
        const credentials = await this.#search(endpoint, signal);
        this.#found.set(endpoint.host, { credentials, untilMs: this.#deps.clock.monotonicMs() + KEEP_MS });
        return credentials;
      },
      signal,
    );
  }

  /** Looks again next time: these were refused. */
  forget(endpoint: Endpoint): void {
    this.#found.delete(endpoint.host);
  }

  /** What is known without waiting: for errors and for sessions. */
  known(endpoint: Endpoint): RegistryCredentials | undefined {
    const found = this.#found.get(endpoint.host);
    if (found !== undefined) return found.credentials;
    const { namespace, provider } = this.#deps;
    for (const host of credentialHosts(endpoint)) {
      const given = provider?.({ namespace, host });
      if (given instanceof Promise) given.catch(() => undefined);
      else if (given !== undefined) return given;
    }
    return this.#configured(credentialHosts(endpoint));
  }

  async #search(endpoint: Endpoint, signal: AbortSignal | undefined): Promise<RegistryCredentials | undefined> {
    const { namespace, provider, docker } = this.#deps;
    const hosts = credentialHosts(endpoint);
    for (const host of hosts) {
      const given = await provider?.({ namespace, host, signal });
      if (given !== undefined) return given;
    }
    const configured = this.#configured(hosts);
    if (configured !== undefined || docker === undefined) return configured;
    for (const host of hosts) {
      const given = await docker.credentials(host, signal);
      if (given !== undefined) return given;
    }
    return undefined;
  }

  #configured(names: readonly string[]): RegistryCredentials | undefined {
    return this.#deps.hosts.find(({ host, credentials }) => names.includes(host) && credentials !== undefined)
      ?.credentials;
  }
}
