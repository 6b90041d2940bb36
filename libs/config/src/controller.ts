/** What a controller is told at start: where its servers are, where it listens, and its rhythms. */
import { z } from "zod";
import { absolutePath, cidr, durationMs, hostPort, logLevel, url, urls } from "./fields.ts";
import { resolveConfig, type ConfigSource, type EnvBinding, type Frozen } from "./resolve.ts";

const schema = z
  .strictObject({
    databaseUrl: url("postgres", "postgresql"),
    redisUrl: url("redis", "rediss"),
    natsUrl: urls("nats", "tls"),
    /** Connections to Postgres for statements; two more serve advisory locks and LISTEN, one more a migration at start. */
    databaseConnections: z.int().min(2).max(200).default(10),
    listen: z
      .strictObject({
        grpc: hostPort().default("127.0.0.1:7700"),
        http: hostPort().default("127.0.0.1:7701"),
      })
      .prefault({}),
    /** Where the first admin token is written (0600), once, when the store has no token yet. */
    bootstrapTokenFile: absolutePath().optional(),
    logLevel: logLevel.default("info"),
    lease: z
      .strictObject({
        /** How long a node counts as alive after its lease request was answered. */
        ttlMs: durationMs(500, 600_000).default(15_000),
        /** How often the agents are told to renew. */
        renewMs: durationMs(100, 300_000).default(3_000),
        /** How late a node's stopper may be before its tasks (onNodeLoss: stopThenReplace) are taken for ended. */
        fenceSlackMs: durationMs(1_500, 600_000).default(5_000),
        /** Beyond so many a second renewals are made rarer, and leases longer in proportion, as the fleet grows. */
        maxRenewalsPerSecond: z.int().min(1).max(100_000).default(200),
      })
      .refine((lease) => lease.renewMs * 2 <= lease.ttlMs, {
        path: ["renewMs"],
        error: "is more than half of lease.ttlMs: a single lost request would cost a node its lease; make it smaller",
      })
      .prefault({}),
    /** The brakes on replacing what silent nodes run. */
    eviction: z
      .strictObject({
        /** So many nodes a minute at the most; or one in a hundred of the fleet, if that is more. */
        perMinute: z.int().min(1).max(10_000).default(10),
        /** The node label whose values are failure domains: nothing of one is replaced while most of it is silent. */
        domainLabel: z.string().min(1).default("berth.io/zone"),
      })
      .prefault({}),
    placement: z
      .strictObject({
        /**
         * How much of a node may be promised, in percent of what it has, where the node says nothing itself. All controllers of
         * a fleet must be told the same.
         */
        cpuOvercommitPercent: z.int().min(1).max(10_000).default(100),
        memoryOvercommitPercent: z.int().min(1).max(10_000).default(100),
      })
      .prefault({}),
    retention: z
      .strictObject({
        /** How long events are kept. They go by whole partitions, so up to an eighth longer. Default 30 days. */
        eventsMs: durationMs(3_600_000, 315_360_000_000).default(30 * 86_400_000),
        /** How far back `--as-of` can ask, and a watch can resume. Default 7 days. */
        historyMs: durationMs(3_600_000, 315_360_000_000).default(7 * 86_400_000),
      })
      .prefault({}),
    /** What webhooks may reach. All controllers of a fleet must be told the same. */
    webhooks: z
      .strictObject({
        /** Addresses that are not of the public internet: loopback, link-local, private, and the controller's own. */
        allowPrivate: z.boolean().default(false),
        /** These of them: 10.20.0.0/16, fd00:1::/48. */
        allowCidrs: z.array(cidr()).max(256).default([]),
        /** Holds secrets as `<namespace>/<name>`, for webhooks with `secretFile`. */
        secretsDirectory: absolutePath().optional(),
      })
      .prefault({}),
    /**
     * It serves the API and leaves all other work to the fleet's other controllers, of which at least one must do it: what people ask
     * does not wait behind ten thousand tasks that start.
     */
    serveOnly: z.boolean().default(false),
    /** How often everything is compared anew, though no change was heard of. */
    resyncMs: durationMs(100, 3_600_000).default(30_000),
    /** How long a graceful stop waits for requests in flight. */
    drainGraceMs: durationMs(0, 600_000).default(10_000),
    /** For tests: the failpoint at which the process kills itself. */
    crashAt: z.string().min(1).optional(),
  })
  .readonly();

export type ControllerConfig = Frozen<z.output<typeof schema>>;

const bindings: readonly EnvBinding[] = [
  { variable: "DATABASE_URL", path: ["databaseUrl"] },
  { variable: "BERTH_DATABASE_CONNECTIONS", path: ["databaseConnections"] },
  { variable: "REDIS_URL", path: ["redisUrl"] },
  { variable: "NATS_URL", path: ["natsUrl"] },
  { variable: "BERTH_LISTEN_GRPC", path: ["listen", "grpc"] },
  { variable: "BERTH_LISTEN_HTTP", path: ["listen", "http"] },
  { variable: "BERTH_BOOTSTRAP_TOKEN_FILE", path: ["bootstrapTokenFile"] },
  { variable: "BERTH_LOG_LEVEL", path: ["logLevel"] },
  { variable: "BERTH_CRASH_AT", path: ["crashAt"] },
];

/** @throws INVALID_ARGUMENT `CONFIG_INVALID`, naming file, line and field. */
export function loadControllerConfig(source: ConfigSource): Promise<ControllerConfig> {
  return resolveConfig(schema, bindings, source);
}
