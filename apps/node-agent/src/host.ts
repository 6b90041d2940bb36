/**
 * Opens what this host offers: the data root's stores, the snapshotters and runtimes that prove usable, the network. What is
 * not usable is left out and said so; only a host without any runtime or snapshotter is refused.
 */
import { createHash } from "node:crypto";
import { accessSync, constants, readFileSync, statSync } from "node:fs";
import { mkdir, readFile } from "node:fs/promises";
import { delimiter, isAbsolute, join } from "node:path";
import { StatusError, type Lifetime, type Logger } from "@berth/base";
import type { AgentConfig } from "@berth/config";
import { contentMigrations, openContentStore, type ContentStoreConfig, type FileContentStore } from "@berth/content";
import {
  imageMigrations,
  createVerifier,
  openImages,
  verify,
  watchChanges,
  type GcConfig,
  type ImageReferences,
  type Images,
  type VerifyOptions,
  type VerifyReport,
  type WatchedMetadata,
} from "@berth/images";
import { journalMigrations, openJournal, type Journal } from "@berth/journal";
import { diskInfo } from "@berth/linux";
import { openMetadata } from "@berth/metadata";
import { createNetwork, networkMigrations, type Network } from "@berth/network";
import {
  Bandwidth,
  createRegistryClients,
  type RegistryClient,
  type RegistryClients,
  type RegistryHost,
} from "@berth/registry";
import { createOciRuntime, type Runtime } from "@berth/runtime";
import { snapshotMigrations, type NamespacedSnapshots } from "@berth/snapshots";
import { engineMigrations } from "./engine/migrations.ts";
import { RegistryRoutes } from "./registry-routes.ts";
import { readImagePolicies } from "./image-policies.ts";
import { openSnapshotters, type UnusableSnapshotter } from "./snapshotters.ts";

/** Enough for undoing many pulls and recording thousands of changes while the disk is full. */
const METADATA_HEADROOM_BYTES = 4 * 1024 * 1024;

/** Of everything that keeps rows on a node. New ones only add, so that an upgrade can be taken back. */
export const AGENT_MIGRATIONS = [
  ...contentMigrations,
  ...engineMigrations,
  ...imageMigrations,
  ...journalMigrations,
  ...networkMigrations,
  ...snapshotMigrations,
];

export interface Host extends Stores {
  readonly journal: Journal;
  readonly images: Images;
  readonly network: Network;
  /** By name; the default one first. */
  readonly runtimes: ReadonlyMap<string, Runtime>;
}

export interface HostDeps {
  readonly logger: Logger;
  /** Directories of programs, as in PATH. */
  readonly path: string;
  /** Layers that containers stand on, for collection. */
  readonly references: () => Promise<ImageReferences>;
}

/** What a data root holds, without what runs on it. */
export interface Stores {
  readonly metadata: WatchedMetadata;
  readonly content: FileContentStore;
  /** The default one first. */
  readonly snapshots: readonly NamespacedSnapshots[];
  readonly unusableSnapshotters: readonly UnusableSnapshotter[];
  /** The controller's word on how registries are reached. */
  readonly registryRoutes: RegistryRoutes;
  readonly registry: (namespace: string) => RegistryClient;
  /** Reads all of it again; see `verify` of `@berth/images`. */
  readonly verify: (options: VerifyOptions) => Promise<VerifyReport>;
}

/** Opens the stores of a data root, whose lock the caller has. */
export async function openStores(
  config: AgentConfig,
  lifetime: Lifetime,
  deps: Pick<HostDeps, "logger" | "path">,
): Promise<Stores> {
  const { logger } = deps;
  for (const directory of [config.root, config.state]) await mkdir(directory, { recursive: true, mode: 0o711 });
  const opened = lifetime.own(
    await openMetadata({
      path: join(config.root, "metadata.db"),
      migrations: AGENT_MIGRATIONS,
      headroomBytes: METADATA_HEADROOM_BYTES,
    }),
  );
  // Every library writes through it: collection has to know what is referred to while it runs.
  const metadata = watchChanges(opened);
  const content = lifetime.own(
    await openContentStore({ root: join(config.root, "content"), metadata, logger }, contentConfigOf(config)),
  );
  const { snapshots, unusable } = await openSnapshotters(config, { metadata, lifetime, logger });
  const registryRoutes = new RegistryRoutes(metadata, logger);
  const registries = lifetime.own(await openRegistries(config, registryRoutes, deps));
  const registry = (namespace: string): RegistryClient => registries.namespace(namespace);
  const scratch = join(config.state, "verify");
  const verifyAll = async (options: VerifyOptions): Promise<VerifyReport> => {
    await mkdir(scratch, { recursive: true, mode: 0o700 });
    return await verify({ metadata, content, snapshotters: snapshots, registry, scratch, logger }, options);
  };
  return {
    metadata,
    content,
    snapshots,
    unusableSnapshotters: unusable,
    registryRoutes,
    registry,
    verify: verifyAll,
  };
}

/** Opened resources belong to the lifetime, in the order in which they need each other. */
export async function openHost(config: AgentConfig, lifetime: Lifetime, deps: HostDeps): Promise<Host> {
  const { logger } = deps;
  const stores = await openStores(config, lifetime, deps);
  const { metadata, content, snapshots, registry } = stores;
  // A blob that is lost is dropped here, to be pulled again; `berthd verify --repair` on a stopped agent still finds and mends it.
  await content.recover();
  const markerPath = join(config.root, "journal.epoch");
  const journal = lifetime.own(
    await openJournal({ metadata, markerPath, logger }, { node: config.node, identity: rootIdentity(config.root) }),
  );
  const verifier = createVerifier({ metadata, policies: await readImagePolicies(config) });
  await verifier.sweep();
  const images = lifetime.own(
    await openImages(
      {
        metadata,
        content,
        snapshotters: snapshots,
        registry,
        scratch: join(config.state, "images"),
        references: deps.references,
        disk: () => diskInfo(config.root),
        verifier,
        logger,
      },
      { gc: gcConfigOf(config) },
    ),
  );
  const network = lifetime.own(
    await createNetwork({ metadata, logger }, { ...config.cni, stateDir: join(config.state, "network") }),
  );
  const runtimes = await openRuntimes(config, lifetime, deps);
  return { ...stores, journal, images, network, runtimes };
}

function contentConfigOf({ contentSharing, ingestTtlMs, maxBlobBytes }: AgentConfig): ContentStoreConfig {
  const limit = maxBlobBytes === undefined ? {} : { maxIngestBytes: maxBlobBytes };
  return { sharing: contentSharing, ingestTtlMs, ...limit };
}

function gcConfigOf({ gc: { watermarks, cacheQuotaBytes, cacheQuotas } }: AgentConfig): GcConfig {
  return { cacheQuotaBytes, cacheQuotas, ...(watermarks === null ? {} : { watermarks }) };
}

async function openRuntimes(
  config: AgentConfig,
  lifetime: Lifetime,
  { logger, path }: HostDeps,
): Promise<ReadonlyMap<string, Runtime>> {
  const runtimes = new Map<string, Runtime>();
  const conmonPath = findProgram("conmon", path);
  for (const [name, { binary }] of Object.entries(config.runtimeHandlers)) {
    try {
      const runtime = await createOciRuntime(
        { logger },
        {
          name,
          binary: findProgram(binary, path),
          conmonPath,
          stateDir: join(config.state, "runtime"),
          supervisorCgroup: `${cgroupParentOf(config)}/_supervisors`,
        },
      );
      runtimes.set(name, lifetime.own(runtime));
    } catch (error) {
      const status = StatusError.from(error);
      logger.warn(
        { handler: name, reason: status.reason },
        `runtime handler ${name} cannot be used: ${status.message}`,
      );
    }
  }
  if (runtimes.size > 0) return runtimes;
  throw new StatusError("FAILED_PRECONDITION", "no runtime handler of the configuration can be used on this host", {
    reason: "RUNTIME_UNUSABLE",
  });
}

/** With a leading slash, as the runtime and the cgroup functions want it. */
export function cgroupParentOf(config: Pick<AgentConfig, "cgroupParent">): string {
  return config.cgroupParent.startsWith("/") ? config.cgroupParent : `/${config.cgroupParent}`;
}

async function openRegistries(
  config: AgentConfig,
  routes: RegistryRoutes,
  { logger, path }: Pick<HostDeps, "logger" | "path">,
): Promise<RegistryClients> {
  const { certsDir, dockerConfig, maxBytesPerSecond } = config;
  const limits = Object.entries(config.registries).flatMap(([host, { maxBytesPerSecond: rate }]) =>
    rate === undefined ? [] : [[host, rate] as const],
  );
  const all = maxBytesPerSecond === undefined ? {} : { maxBytesPerSecond };
  return createRegistryClients({
    hosts: await registryHosts(config),
    certsDir,
    routes: routes.route,
    bandwidth: new Bandwidth({ ...all, registries: Object.fromEntries(limits), rateOf: routes.rate }),
    logger,
    ...(dockerConfig === undefined ? {} : { dockerConfig: { path: dockerConfig, helperPath: path } }),
  });
}

async function registryHosts(config: AgentConfig): Promise<readonly RegistryHost[]> {
  const hosts = Object.entries(config.registries).map(async ([host, { plainHttp, username, password, caFile }]) => {
    const ca = caFile === undefined ? {} : { ca: await readFile(caFile, "utf8") };
    const credentials = username === undefined || password === undefined ? {} : { credentials: { username, password } };
    return { host, plainHttp, ...ca, ...credentials };
  });
  return await Promise.all(hosts);
}

/** The data root itself: a copy of it on another disk or machine is another one. */
function rootIdentity(root: string): string {
  const { dev, ino } = statSync(root);
  return `${machineId()} ${dev} ${ino}`;
}

/** For others: /etc/machine-id itself is not to be told over a network (machine-id(5)). */
export function machineIdOf(file: string): string {
  try {
    return createHash("sha256")
      .update(`berth ${readFileSync(file, "utf8").trim()}`)
      .digest("hex")
      .slice(0, 32);
  } catch {
    return "";
  }
}

function machineId(): string {
  try {
    return readFileSync("/etc/machine-id", "utf8").trim();
  } catch {
    return "";
  }
}

/** @throws FAILED_PRECONDITION `PROGRAM_MISSING`. */
function findProgram(name: string, path: string): string {
  const candidates = isAbsolute(name) ? [name] : path.split(delimiter).map((directory) => join(directory, name));
  const found = candidates.find((candidate) => {
    try {
      accessSync(candidate, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
  if (found !== undefined) return found;
  throw new StatusError("FAILED_PRECONDITION", `program ${name} is not installed (on Debian: apt install ${name})`, {
    reason: "PROGRAM_MISSING",
  });
}
