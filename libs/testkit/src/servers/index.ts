export { Daemon, type DaemonSpec } from "./daemon.ts";
export { startNats, type NatsOptions, type NatsPermissions, type NatsServer } from "./nats.ts";
export { eventually, type PollOptions } from "./poll.ts";
export { forwardPort } from "./forward.ts";
export { freePort } from "./ports.ts";
export {
  postgresPrograms,
  startPostgres,
  startStandby,
  type PostgresServer,
  type PostgresStandby,
} from "./postgres.ts";
export {
  childrenOf,
  endProcess,
  identify,
  isAlive,
  signalProcess,
  waitForExit,
  type ProcessIdentity,
} from "./process.ts";
export { startRedis, type RedisOptions, type RedisServer } from "./redis.ts";
export { startRegistry, type RegistryOptions, type RegistryServer } from "./registry.ts";
export { scratchDir, type Scratch } from "./scratch.ts";
export type { Server, ServerOptions } from "./server.ts";
