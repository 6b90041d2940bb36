export { createRegistryClient, openSession, type RegistryClientDeps } from "./client.ts";
export type { RegistryClientConfig } from "./config.ts";
export type {
  BlobOptions,
  BlobStream,
  FetchedManifest,
  RegistryClient,
  RegistryCredentials,
  RegistryHost,
} from "./registry.ts";
export type { Authorisation, RegistrySession } from "./session.ts";
