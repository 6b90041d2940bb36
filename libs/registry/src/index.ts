export { Bandwidth, type BandwidthLimits } from "./bandwidth.ts";
export {
  createRegistryClient,
  createRegistryClients,
  type RegistryClientDeps,
  type RegistryClients,
} from "./client.ts";
export { openSession } from "./open-session.ts";
export type { RegistryClientConfig } from "./config.ts";
export type { DockerConfigSource } from "./credentials/docker-config.ts";
export type { CredentialProvider, CredentialQuery } from "./credentials/store.ts";
export { HealthMemory } from "./health.ts";
export type { BlobSource, PushedManifest, PushOptions, PushOutcome } from "./push.ts";
export type { Referrer, ReferrersOptions } from "./referrers.ts";
export {
  IDENTITY_USER,
  type BlobOptions,
  type BlobStream,
  type CallOptions,
  type FetchedManifest,
  type RegistryClient,
  type RegistryCredentials,
  type RegistryHost,
} from "./registry.ts";
export {
  ENDPOINT_CAPABILITIES,
  type ClientCertificate,
  type EndpointCapability,
  type RegistryEndpoint,
  type RegistryRoute,
  type RouteBudgets,
  type RouteOrigin,
} from "./routes/route.ts";
export { mirrorProblems, routeOfMirror, type ReadClient } from "./routes/from-mirror.ts";
export type { RouteProvider } from "./routes/router.ts";
export { validateRoute } from "./routes/validate.ts";
export type { Authorisation, RegistrySession } from "./session.ts";
