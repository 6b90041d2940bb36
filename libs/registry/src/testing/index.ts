export { createTestAuthority, missingOpenssl, type TestAuthority, type TestCertificate } from "./certificates.ts";
export { HTPASSWD, startDockerRegistry, type DockerRegistry, type DockerRegistryOptions } from "./docker-registry.ts";
export {
  sendJson,
  startHostileServer,
  type Behaviour,
  type HostileServer,
  type SeenRequest,
} from "./hostile-server.ts";
export { startTokenIssuer, type IssuerOptions, type TokenIssuer } from "./token-issuer.ts";
