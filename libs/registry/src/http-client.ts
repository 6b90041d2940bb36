/** The client itself: its parts put together, for whoever knows where its endpoints come from. */
import { silentLogger, type Clock, type Digest, type Logger } from "@berth/base";
import type { Descriptor, ImageReference } from "@berth/model";
import { Authoriser } from "./auth.ts";
import type { BandwidthState } from "./bandwidth.ts";
import { resolveConfig, type RegistryClientConfig } from "./config.ts";
import { DockerConfig, type DockerConfigSource } from "./credentials/docker-config.ts";
import { CredentialStore, type CredentialProvider } from "./credentials/store.ts";
import { Exchange } from "./exchange.ts";
import { Failover } from "./failover.ts";
import type { HealthMemory } from "./health.ts";
import { Pools } from "./pools.ts";
import { processClock } from "./process-clock.ts";
import { Puller, pullScope } from "./pull.ts";
import { Pusher, type BlobSource, type PushedManifest, type PushOptions, type PushOutcome } from "./push.ts";
import { findReferrers, type Referrer, type ReferrersOptions } from "./referrers.ts";
import type {
  BlobOptions,
  BlobStream,
  CallOptions,
  FetchedManifest,
  RegistryClient,
  RegistryHost,
} from "./registry.ts";
import { credentialHosts, type Endpoint } from "./routes/endpoint.ts";
import type { Authorisation, RegistrySession } from "./session.ts";
import { Transport } from "./transport.ts";

export interface RuntimeDeps {
  readonly logger?: Logger | undefined;
  /** Its monotonic time must be that of all threads. */
  readonly clock?: Clock | undefined;
}

/** What clients of one process have in common. */
export interface CommonParts {
  readonly config: RegistryClientConfig;
  readonly pools: Pools;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly endpoints: (registry: string) => readonly Endpoint[];
  readonly bandwidth: (registry: string) => BandwidthState;
  readonly health: HealthMemory;
  readonly provider: CredentialProvider | undefined;
  readonly dockerConfig: DockerConfigSource | undefined;
}

export function runtimeParts(
  { logger = silentLogger, clock = processClock }: RuntimeDeps,
  config: RegistryClientConfig,
) {
  return { config, clock, logger, pools: new Pools(resolveConfig(config)) };
}

export class HttpRegistryClient implements RegistryClient {
  readonly #parts: CommonParts;
  readonly #ownsPools: boolean;
  readonly #credentials: CredentialStore;
  readonly #auth: Authoriser;
  readonly #exchange: Exchange;
  readonly #failover: Failover;
  readonly #puller: Puller;
  readonly #pusher: Pusher;

  constructor(
    parts: CommonParts,
    namespace: string,
    hosts: readonly RegistryHost[],
    known: readonly Authorisation[] = [],
    ownsPools = false,
  ) {
    this.#ownsPools = ownsPools;
    const { clock, logger, pools, health, endpoints, bandwidth, provider, dockerConfig } = parts;
    this.#parts = parts;
    const docker = dockerConfig === undefined ? undefined : new DockerConfig(dockerConfig);
    const credentials = new CredentialStore({ namespace, provider, hosts, docker, clock });
    this.#credentials = credentials;
    const transport = new Transport({ pools, clock });
    this.#auth = new Authoriser({ transport, clock, credentials, known });
    this.#exchange = new Exchange(transport, this.#auth);
    const config = resolveConfig(parts.config);
    this.#failover = new Failover({ endpoints, health, credentials, config, clock, logger });
    const deps = { failover: this.#failover, exchange: this.#exchange, bandwidth, clock };
    this.#puller = new Puller(deps);
    this.#pusher = new Pusher(deps);
  }

  manifest(ref: ImageReference, options: CallOptions = {}): Promise<FetchedManifest> {
    return this.#puller.manifest(ref, options);
  }

  resolve(ref: ImageReference, options: CallOptions = {}): Promise<Digest | undefined> {
    return this.#puller.resolve(ref, options);
  }

  hasBlob(ref: ImageReference, digest: Digest, options: CallOptions = {}): Promise<boolean> {
    return this.#puller.hasBlob(ref, digest, options);
  }

  blob(ref: ImageReference, digest: Digest, options: BlobOptions = {}): Promise<BlobStream> {
    return this.#puller.blob(ref, digest, options);
  }

  referrers(ref: ImageReference, subject: Digest, options: ReferrersOptions = {}): Promise<readonly Referrer[]> {
    return findReferrers({ failover: this.#failover, exchange: this.#exchange }, ref, subject, options);
  }

  pushBlob(
    ref: ImageReference,
    blob: Pick<Descriptor, "digest" | "size">,
    source: BlobSource,
    options: PushOptions = {},
  ): Promise<PushOutcome> {
    return this.#pusher.blob(ref, blob, source, options);
  }

  pushManifest(ref: ImageReference, manifest: PushedManifest, options: CallOptions = {}): Promise<Digest> {
    return this.#pusher.manifest(ref, manifest, options);
  }

  session(ref: ImageReference): RegistrySession {
    const { config, health, dockerConfig, endpoints, bandwidth } = this.#parts;
    const all = endpoints(ref.registry);
    const scope = pullScope(ref.repository);
    return {
      registry: ref.registry,
      endpoints: all,
      hosts: all.flatMap((endpoint) => {
        const credentials = this.#credentials.known(endpoint);
        return credentials === undefined ? [] : credentialHosts(endpoint).map((host) => ({ host, credentials }));
      }),
      ...(dockerConfig === undefined ? {} : { dockerConfig }),
      config,
      authorisations: all.flatMap(({ origin }) => this.#auth.authorisations(origin, scope)),
      health: health.buffer,
      bandwidth: bandwidth(ref.registry),
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#ownsPools) await this.#parts.pools[Symbol.asyncDispose]();
  }
}

/** A client with connections of its own. */
export function owning(
  parts: CommonParts,
  namespace: string,
  hosts: readonly RegistryHost[],
  known: readonly Authorisation[] = [],
): RegistryClient {
  return new HttpRegistryClient(parts, namespace, hosts, known, true);
}
