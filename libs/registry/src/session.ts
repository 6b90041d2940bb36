/**
 * A registry client taken along into a worker thread.
 *
 * Bulk bytes never pass the main event loop (A4), so workers open blobs themselves. The main thread has authenticated
 * already by then (it fetched the manifest): a session carries the registry's endpoints, the authorisations in force and
 * the credentials behind them, and `openSession` makes a client of it that goes on without asking for a token again. When a
 * token runs out meanwhile, the worker's client fetches its own. What is known of mirrors' health and the bandwidth that is
 * left lie in shared memory, the same for all. A session is secret: it holds credentials; never log it.
 */
import type { BandwidthState } from "./bandwidth.ts";
import type { RegistryClientConfig } from "./config.ts";
import type { DockerConfigSource } from "./credentials/docker-config.ts";
import type { RegistryHost } from "./registry.ts";
import type { Endpoint } from "./routes/endpoint.ts";

/** A token or a basic credential that an endpoint accepted for a scope. */
export interface Authorisation {
  /** Of the endpoint. */
  readonly origin: string;
  readonly scope: string;
  readonly header: string;
  /** Wall clock. */
  readonly expiresAtMs: number;
}

export interface RegistrySession {
  readonly registry: string;
  readonly endpoints: readonly Endpoint[];
  /** Credentials by the endpoints' hosts, as far as they are known. */
  readonly hosts: readonly RegistryHost[];
  /** Where else credentials may be found. */
  readonly dockerConfig?: DockerConfigSource;
  readonly config: RegistryClientConfig;
  readonly authorisations: readonly Authorisation[];
  readonly health: SharedArrayBuffer;
  readonly bandwidth: BandwidthState;
}
