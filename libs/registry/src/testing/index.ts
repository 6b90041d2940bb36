export { startDockerRegistry, type DockerRegistry } from "./docker-registry.ts";
export {
  sendJson,
  startHostileServer,
  type Behaviour,
  type HostileServer,
  type SeenRequest,
} from "./hostile-server.ts";
