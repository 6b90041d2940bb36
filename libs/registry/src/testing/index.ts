export { createTestAuthority, missingOpenssl, type TestAuthority, type TestCertificate } from "./certificates.ts";
export { HTPASSWD, startDockerRegistry, type DockerRegistry, type DockerRegistryOptions } from "./docker-registry.ts";
export { bytesOf, failureOf, FAST, startHostileClient, type HostileClient } from "./hostile-client.ts";
export {
  sendJson,
  startHostileServer,
  type Behaviour,
  type HostileServer,
  type SeenRequest,
} from "./hostile-server.ts";
export { startTokenIssuer, type IssuerOptions, type TokenIssuer } from "./token-issuer.ts";
