/**
 * A registry client taken along into a worker thread.
 *
 * Bulk bytes never pass the main event loop (A4), so workers open blobs themselves. The main thread has authenticated
 * already by then (it fetched the manifest): a session carries the host's settings and the authorisations in force, and
 * `openSession` makes a client of it that goes on without asking for a token again. When a token runs out meanwhile, the
 * worker's client fetches its own. A session is secret: it holds credentials; never log it.
 */
import type { RegistryClientConfig } from "./config.ts";
import type { RegistryHost } from "./registry.ts";

/** A token or a basic credential that a registry accepted for a scope. */
export interface Authorisation {
  readonly host: string;
  readonly scope: string;
  readonly header: string;
  /** Wall clock. */
  readonly expiresAtMs: number;
}

export interface RegistrySession {
  readonly hosts: readonly RegistryHost[];
  readonly config: RegistryClientConfig;
  readonly authorisations: readonly Authorisation[];
}
