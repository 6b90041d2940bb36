/** What a node agent is told at start: who it is, where it keeps things, and what its host offers. */
import { hostname } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { absolutePath, hostPort, logLevel, url } from "./fields.ts";
import { imagePolicies } from "./image-policies.ts";
import { resolveConfig, type ConfigSource, type EnvBinding, type Frozen } from "./resolve.ts";

const NODE_NAME = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
const SUBNET = /^(\d{1,3}\.){3}\d{1,3}\/\d{1,2}$/;
const count = z.int({ error: "is not a whole number" }).min(1, { error: "is less than 1" });

const registry = z
  .strictObject({
    /** Speak HTTP without TLS: for registries on a trusted link only. */
    plainHttp: z.boolean().default(false),
    username: z.string().min(1).optional(),
    password: z.string().min(1).optional(),
    /** PEM certificates to trust for this registry, beside the system's. */
    caFile: absolutePath().optional(),
    /** Of all transfers from this registry and its mirrors together. */
    maxBytesPerSecond: count.optional(),
  })
  .refine((r) => (r.username === undefined) === (r.password === undefined), {
    error: "has only one of username and password; give both or neither",
  });

const bytes = z.int({ error: "is not a whole number of bytes" }).min(0, { error: "is less than 0" });
const ms = z.int({ error: "is not a whole number of milliseconds" }).min(0, { error: "is less than 0" });
const changes = z.int({ error: "is not a whole number" }).min(0, { error: "is less than 0" });
const diskBytes = z
  .int({ error: "is not a whole number of bytes" })
  .min(1 << 20, { error: "is less than 1048576, the least that a writable layer can have" });
const percent = z.number().gt(0, { error: "is not above 0" }).max(100, { error: "is above 100" });

/** When what nobody uses is collected, and when images go for want of space. */
const gc = z
  .strictObject({
    /** After the agent's start. */
    startupDelayMs: ms.default(10_000),
    /** Between what calls for a collection and the collection, so that a burst is one. */
    scheduleDelayMs: ms.default(2_000),
    /** Collect after so many changes of images, contents, snapshots and leases; 0: not by their number. */
    mutationThreshold: changes.default(100),
    /** Collect after so many deletions; 0: not by their number. */
    deletionThreshold: changes.default(0),
    /** Collect this often in any case, for leases, pins and ingests expire by themselves; 0: never. */
    intervalMs: ms.default(600_000),
    /** The share of time that collections may take on the event loop. */
    pauseThreshold: z.number().gt(0, { error: "is not above 0" }).max(0.5, { error: "is above 0.5" }).default(0.02),
    /** How often the disk is looked at. */
    checkDiskMs: ms.min(1, { error: "is less than 1" }).default(60_000),
    /** Of the file system that the data root is on: above high, images go, least recently used first, until below low. */
    watermarks: z
      .strictObject({ highPercent: percent.default(85), lowPercent: percent.default(80) })
      .refine(({ highPercent, lowPercent }) => lowPercent < highPercent, {
        error: "has a lowPercent that is not below highPercent",
      })
      .nullable()
      .prefault({}),
    /** What the images of each namespace may take; 0: no bound. */
    cacheQuotaBytes: bytes.default(0),
    /** In its place for these namespaces. */
    cacheQuotas: z.record(z.string(), bytes).default({}),
  })
  .prefault({});

/** Not one of ours: overlayfs, native, btrfs, zfs. */
const SNAPSHOTTER = /^(?!(?:overlayfs|native|btrfs|zfs)$)[a-z0-9][a-z0-9._-]{0,62}$/;
const NOT_A_SNAPSHOTTER = { error: 'is not a free name such as stargz (lower-case letters, digits, ".", "_", "-")' };
const UNIX_SOCKET = /^(unix:(\/\/)?)?\/[^\0]+$/;

const proxySnapshotter = z.strictObject({
  address: z.string().regex(UNIX_SOCKET, { error: "is not a unix socket such as /run/stargz.sock" }),
  /** What the other side calls it, where that differs. */
  snapshotter: z.string().min(1).optional(),
  /** What it can do beyond the ordinary, in containerd's words: its protocol does not tell. */
  capabilities: z.array(z.enum(["rebase", "quota", "remap-ids"])).default([]),
});

const schema = z
  .strictObject({
    node: z
      .string()
      .regex(NODE_NAME, { error: 'is not lower-case letters, digits and "-" (at most 63, no dots), such as node-a' })
      .default(() => hostname().toLowerCase().split(".", 1)[0]!),
    labels: z.record(z.string(), z.string()).default({}),
    /** Durable data: blobs, snapshots, metadata. */
    root: absolutePath().default("/var/lib/berth"),
    /** What a reboot may take: bundles, sockets, network namespaces. */
    state: absolutePath().default("/run/berth"),
    /** Where this host's own commands (`berthd images ls`) reach the agent. Default: `berthd.sock` in the state folder. */
    hostSocket: absolutePath().optional(),
    redisUrl: url("redis", "rediss"),
    natsUrl: url("nats", "tls"),
    metricsListen: hostPort().default("0.0.0.0:1338"),
    logLevel: logLevel.default("info"),
    /** By host[:port], as in an image's name. */
    registries: z.record(z.string(), registry).default({}),
    /** Mirrors and TLS per registry, in containerd's layout; read when asked, and need not exist. */
    certsDir: absolutePath().default("/etc/berth/certs.d"),
    /** What `docker login` wrote: credentials and their helpers, after those of `registries`. */
    dockerConfig: absolutePath().optional(),
    /** Of all pulls together. */
    maxBytesPerSecond: count.optional(),
    /**
     * `isolated`: a namespace uses content of another only after its own credentials reached it. `shared`: naming the digest
     * is enough, as with containerd's default; for hosts of one tenant.
     */
    contentSharing: z.enum(["isolated", "shared"], { error: "is neither isolated nor shared" }).default("isolated"),
    /** The largest blob that may come in; without it, the disk's size bounds them. */
    maxBlobBytes: count.optional(),
    /** How long what was half-fetched is kept for a resume when no lease holds it. */
    ingestTtlMs: ms.min(1, { error: "is less than 1" }).default(86_400_000),
    /** Which images may be used, by namespace. */
    imagePolicies,
    cni: z
      .strictObject({
        binDir: absolutePath().default("/usr/lib/cni"),
        subnet: z
          .string()
          .regex(SUBNET, { error: "is not an IPv4 subnet such as 10.88.0.0/16" })
          .default("10.88.0.0/16"),
        bridge: z
          .string()
          .regex(/^[a-zA-Z0-9_.-]{1,15}$/, { error: "is not a network interface's name (at most 15 characters)" })
          .default("berth0"),
      })
      .prefault({}),
    /** The cgroup under which all containers run, relative to the root of each hierarchy. */
    cgroupParent: z
      .string()
      .regex(/^\/?[A-Za-z0-9_.-]+(\/[A-Za-z0-9_.-]+)*$/, { error: "is not a cgroup's path such as berth" })
      .default("berth"),
    /** For images and containers that do not name one. */
    snapshotter: z.string().min(1).default("overlayfs"),
    /** Snapshotters of other processes (containerd's proxy plugins, or containerd itself), by the name to use them under. */
    proxySnapshotters: z.record(z.string().regex(SNAPSHOTTER, NOT_A_SNAPSHOTTER), proxySnapshotter).default({}),
    /** What becomes of a writable layer that is to be bounded where its snapshotter cannot: an error, or a warning. */
    missingSnapshotQuota: z.enum(["refuse", "warn"]).default("refuse"),
    /** The most that a container may write into its own layer where its workload does not say (`resources.disk`). */
    defaultDiskBytes: diskBytes.optional(),
    /** By the name that a workload's runtimeHandler gives; the first is the default. */
    runtimeHandlers: z
      .record(z.string(), z.strictObject({ binary: z.string().min(1) }))
      .refine((handlers) => Object.keys(handlers).length > 0, { error: "is empty; name at least runc" })
      .default({ runc: { binary: "runc" } }),
    /** In place of what the host has. */
    capacity: z
      .strictObject({
        cpuMillis: count.optional(),
        memoryBytes: count.optional(),
        tasks: count.optional(),
        diskBytes: count.optional(),
      })
      .prefault({}),
    gc,
    /** For tests: the failpoint at which the process kills itself. */
    crashAt: z.string().min(1).optional(),
  })
  .readonly();

export type AgentConfig = Frozen<z.output<typeof schema>>;

const bindings: readonly EnvBinding[] = [
  { variable: "BERTH_NODE", path: ["node"] },
  { variable: "REDIS_URL", path: ["redisUrl"] },
  { variable: "NATS_URL", path: ["natsUrl"] },
  { variable: "BERTH_ROOT", path: ["root"] },
  { variable: "BERTH_STATE", path: ["state"] },
  { variable: "BERTH_CERTS_DIR", path: ["certsDir"] },
  { variable: "BERTH_HOST_SOCKET", path: ["hostSocket"] },
  { variable: "BERTH_METRICS_LISTEN", path: ["metricsListen"] },
  { variable: "BERTH_LOG_LEVEL", path: ["logLevel"] },
  { variable: "BERTH_CRASH_AT", path: ["crashAt"] },
];

/** Where the agent listens for this host's own commands. */
export function hostSocketOf({ hostSocket, state }: Pick<AgentConfig, "hostSocket" | "state">): string {
  return hostSocket ?? join(state, "berthd.sock");
}

/** @throws INVALID_ARGUMENT `CONFIG_INVALID`, naming file, line and field. */
export function loadAgentConfig(source: ConfigSource): Promise<AgentConfig> {
  return resolveConfig(schema, bindings, source);
}
