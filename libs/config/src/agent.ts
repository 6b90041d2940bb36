/** What a node agent is told at start: who it is, where it keeps things, and what its host offers. */
import { hostname } from "node:os";
import { join } from "node:path";
import { z } from "zod";
import { absolutePath, hostPort, logLevel, url, urls } from "./fields.ts";
import { imagePolicies } from "./image-policies.ts";
import { resolveConfig, type ConfigSource, type EnvBinding, type Frozen } from "./resolve.ts";

const NODE_NAME = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/;
const SUBNET = /^(\d{1,3}\.){3}\d{1,3}\/\d{1,2}$/;
const count = z.int({ error: "is not a whole number" }).min(1, { error: "is less than 1" });

const registry = z
  .strictObject({
    plainHttp: z.boolean().default(false).describe("Speak HTTP without TLS: for registries on a trusted link only."),
    username: z
      .string()
      .min(1)
      .optional()
      .describe("Of this registry or mirror; `<token>` makes the password an identity token."),
    password: z.string().min(1).optional().describe("Give both or neither."),
    caFile: absolutePath().optional().describe("PEM certificates to trust for this registry, beside the public ones."),
    maxBytesPerSecond: count.optional().describe("Of all transfers from and to this registry, its mirrors included."),
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

const gc = z
  .strictObject({
    startupDelayMs: ms.default(10_000).describe("After the agent's start."),
    scheduleDelayMs: ms
      .default(2_000)
      .describe("Between what calls for a collection and the collection, so that a burst is one."),
    mutationThreshold: changes
      .default(100)
      .describe("Collect after so many changes of images, contents, snapshots and leases; 0: not by their number."),
    deletionThreshold: changes.default(0).describe("Collect after so many deletions; 0: not by their number."),
    intervalMs: ms
      .default(600_000)
      .describe("Collect this often in any case, for leases, pins and ingests expire by themselves; 0: never."),
    pauseThreshold: z
      .number()
      .gt(0, { error: "is not above 0" })
      .max(0.5, { error: "is above 0.5" })
      .default(0.02)
      .describe("The share of time that collections may take on the event loop."),
    checkDiskMs: ms.min(1, { error: "is less than 1" }).default(60_000).describe("How often the disk is looked at."),
    watermarks: z
      .strictObject({
        highPercent: percent.default(85).describe("Images go above this share of the disk."),
        lowPercent: percent.default(80).describe("And stop going below this one."),
      })
      .refine(({ highPercent, lowPercent }) => lowPercent < highPercent, {
        error: "has a lowPercent that is not below highPercent",
      })
      .nullable()
      .prefault({})
      .describe(
        "Of the file system that the data root is on: above high, images go, least recently used first, until below low; null: never for want of space.",
      ),
    cacheQuotaBytes: bytes.default(0).describe("What the images of each namespace may take; 0: no bound."),
    cacheQuotas: z
      .record(z.string(), bytes)
      .default({})
      .meta({ description: "In its place for these namespaces.", key: "namespace" }),
  })
  .prefault({});

/** Not one of ours: overlayfs, native, btrfs, zfs. */
const SNAPSHOTTER = /^(?!(?:overlayfs|native|btrfs|zfs)$)[a-z0-9][a-z0-9._-]{0,62}$/;
const NOT_A_SNAPSHOTTER = { error: 'is not a free name such as stargz (lower-case letters, digits, ".", "_", "-")' };
const UNIX_SOCKET = /^(unix:(\/\/)?)?\/[^\0]+$/;

const proxySnapshotter = z.strictObject({
  address: z
    .string()
    .regex(UNIX_SOCKET, { error: "is not a unix socket such as /run/stargz.sock" })
    .describe("Its socket, with or without `unix:`."),
  snapshotter: z.string().min(1).optional().describe("What the other side calls it, where that differs."),
  capabilities: z
    .array(z.enum(["rebase", "quota", "remap-ids"]))
    .default([])
    .describe("What it can do beyond the ordinary, in containerd's words: its protocol does not tell."),
});

/** Every field tells its meaning: `docs/reference/agent-configuration.md` is made of it (see reference.ts). */
export const agentSchema = z
  .strictObject({
    node: z
      .string()
      .regex(NODE_NAME, { error: 'is not lower-case letters, digits and "-" (at most 63, no dots), such as node-a' })
      .default(() => hostname().toLowerCase().split(".", 1)[0]!)
      .meta({ description: "This host's name in the fleet.", otherwise: "the host's name, up to the first dot" }),
    labels: z.record(z.string(), z.string()).default({}).describe("For `nodeSelector` of workloads and campaigns."),
    root: absolutePath().default("/var/lib/berth").describe("Durable data: blobs, snapshots, metadata."),
    state: absolutePath()
      .default("/run/berth")
      .describe("What a reboot may take: bundles, sockets, network namespaces."),
    machineIdFile: absolutePath()
      .default("/etc/machine-id")
      .describe("What tells this machine from others: a node's name belongs to one machine."),
    hostSocket: absolutePath().optional().meta({
      description: "Where this host's own commands (`berthd images ls`) reach the agent.",
      otherwise: "`berthd.sock` in `state`",
    }),
    redisUrl: url("redis", "rediss").describe("Where jobs come from."),
    natsUrl: urls("nats", "tls").describe("The bus to the controller: one server, or those of a cluster."),
    metricsListen: hostPort().default("0.0.0.0:1338").describe("Where `/metrics` is served."),
    logLevel: logLevel.default("info").describe("Of the log on standard output."),
    registries: z.record(z.string(), registry).default({}).meta({
      description: "How registries and mirrors are reached, by host[:port] as in an image's name.",
      key: "host",
    }),
    certsDir: absolutePath()
      .default("/etc/berth/certs.d")
      .describe("Mirrors and TLS per registry, in containerd's layout; read when asked, and need not exist."),
    dockerConfig: absolutePath()
      .optional()
      .describe("What `docker login` wrote: credentials and their helpers, after those of `registries`."),
    maxBytesPerSecond: count.optional().describe("Of all transfers from and to registries together."),
    contentSharing: z
      .enum(["isolated", "shared"], { error: "is neither isolated nor shared" })
      .default("isolated")
      .describe(
        "`isolated`: a namespace uses content of another only after its own credentials reached it. `shared`: naming the digest is enough, as with containerd's default; for hosts of one tenant.",
      ),
    maxBlobBytes: count
      .optional()
      .describe("The largest blob that may come in; without it, the disk's size bounds them."),
    ingestTtlMs: ms
      .min(1, { error: "is less than 1" })
      .default(86_400_000)
      .describe("How long what was half-fetched is kept for a resume when no lease holds it."),
    imagePolicies: imagePolicies.meta({
      description: "Which images may be used, by namespace; `*` is for those that are not named.",
      key: "namespace",
    }),
    cni: z
      .strictObject({
        binDir: absolutePath().default("/usr/lib/cni").describe("The folder of CNI's plugins."),
        subnet: z
          .string()
          .regex(SUBNET, { error: "is not an IPv4 subnet such as 10.88.0.0/16" })
          .default("10.88.0.0/16")
          .describe("Addresses of the containers of this host."),
        bridge: z
          .string()
          .regex(/^[a-zA-Z0-9_.-]{1,15}$/, { error: "is not a network interface's name (at most 15 characters)" })
          .default("berth0")
          .describe("The bridge that they are on."),
      })
      .prefault({})
      .describe("How containers are connected."),
    cgroupParent: z
      .string()
      .regex(/^\/?[A-Za-z0-9_.-]+(\/[A-Za-z0-9_.-]+)*$/, { error: "is not a cgroup's path such as berth" })
      .default("berth")
      .describe("The cgroup under which all containers run, relative to the root of each hierarchy."),
    snapshotter: z.string().min(1).default("overlayfs").describe("For images and containers that do not name one."),
    proxySnapshotters: z
      .record(z.string().regex(SNAPSHOTTER, NOT_A_SNAPSHOTTER), proxySnapshotter)
      .default({})
      .describe(
        "Snapshotters of other processes (containerd's proxy plugins, or containerd itself), by the name to use them under.",
      ),
    missingSnapshotQuota: z
      .enum(["refuse", "warn"])
      .default("refuse")
      .describe(
        "What becomes of a writable layer that is to be bounded where its snapshotter cannot: an error, or a warning.",
      ),
    defaultDiskBytes: diskBytes
      .optional()
      .describe(
        "The most that a container may write into its own layer where its workload does not say (`resources.disk`).",
      ),
    runtimeHandlers: z
      .record(
        z.string(),
        z.strictObject({
          binary: z.string().min(1).describe("The OCI runtime: a path, or a name in PATH."),
        }),
      )
      .refine((handlers) => Object.keys(handlers).length > 0, { error: "is empty; name at least runc" })
      .default({ runc: { binary: "runc" } })
      .describe("By the name that a workload's runtimeHandler gives; the first is the default."),
    capacity: z
      .strictObject({
        cpuMillis: count.optional().describe("Thousandths of a core."),
        memoryBytes: count.optional().describe("Memory for containers."),
        tasks: count.optional().describe("How many tasks at the most."),
        diskBytes: count.optional().describe("Disk for containers."),
      })
      .prefault({})
      .describe("Given in place of what the host has."),
    gc: gc.describe("When what nobody uses is collected, and when images go for want of space."),
    supervised: z
      .boolean()
      .default(false)
      .describe(
        "Whoever started the agent starts it again when it ends: without this promise `berth drill kill` spares it.",
      ),
    crashAt: z.string().min(1).optional().describe("For tests: the failpoint at which the process kills itself."),
  })
  .readonly();

export type AgentConfig = Frozen<z.output<typeof agentSchema>>;

export const agentBindings: readonly EnvBinding[] = [
  { variable: "BERTH_NODE", path: ["node"] },
  { variable: "REDIS_URL", path: ["redisUrl"] },
  { variable: "NATS_URL", path: ["natsUrl"] },
  { variable: "BERTH_ROOT", path: ["root"] },
  { variable: "BERTH_STATE", path: ["state"] },
  { variable: "BERTH_CERTS_DIR", path: ["certsDir"] },
  { variable: "BERTH_HOST_SOCKET", path: ["hostSocket"] },
  { variable: "BERTH_METRICS_LISTEN", path: ["metricsListen"] },
  { variable: "BERTH_LOG_LEVEL", path: ["logLevel"] },
  { variable: "BERTH_SUPERVISED", path: ["supervised"], parse: (text) => ({ true: true, false: false })[text] ?? text },
  { variable: "BERTH_CRASH_AT", path: ["crashAt"] },
];

/** Where the agent listens for this host's own commands. */
export function hostSocketOf({ hostSocket, state }: Pick<AgentConfig, "hostSocket" | "state">): string {
  return hostSocket ?? join(state, "berthd.sock");
}

/** @throws INVALID_ARGUMENT `CONFIG_INVALID`, naming file, line and field. */
export function loadAgentConfig(source: ConfigSource): Promise<AgentConfig> {
  return resolveConfig(agentSchema, agentBindings, source);
}
