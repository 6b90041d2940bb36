/** A node's worth of libraries in a temporary folder: metadata, content, snapshotters and images, all real. */
import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  contentMigrations,
  openContentStore,
  type ContentStoreConfig,
  type FileContentStore,
  type RecoveryReport,
} from "@berth/content";
import { mountsUnder } from "@berth/linux";
import { openMetadata, type Metadata } from "@berth/metadata";
import {
  createRegistryClient,
  type RegistryClient,
  type RegistryClientConfig,
  type RegistryHost,
  type RouteProvider,
} from "@berth/registry";
import {
  openNamespacedSnapshots,
  openNative,
  openOverlayfs,
  snapshotMigrations,
  withTempMount,
  type NamespacedSnapshots,
} from "@berth/snapshots";
import { imageMigrations, openImages, type Images, type ImagesConfig, type ImagesDeps } from "../index.ts";

export interface TestHost extends AsyncDisposable {
  readonly root: string;
  readonly metadata: Metadata;
  readonly content: FileContentStore;
  /** What the content store found at start. */
  readonly recovered: RecoveryReport;
  readonly registry: (namespace: string) => RegistryClient;
  readonly scratch: string;
  readonly images: Images;
  readonly snapshotters: Readonly<Record<string, NamespacedSnapshots>>;
  /** Looks at an unpacked image through a view of it. */
  look<T>(namespace: string, snapshotter: string, chainId: string, body: (root: string) => Promise<T> | T): Promise<T>;
  /** Mounts and temporary folders that a pull left; empty, it must be. */
  leavings(): Promise<string[]>;
  /** Ends without removing the folder, for a second start on it. */
  stop(): Promise<void>;
}

export interface TestHostOptions {
  readonly hosts: readonly RegistryHost[];
  /** Hosts by namespace, where tenants differ. */
  readonly hostsOf?: (namespace: string) => readonly RegistryHost[];
  /** How registries are reached otherwise than directly. */
  readonly routes?: RouteProvider;
  /** An existing folder, left alone at dispose. */
  readonly root?: string;
  readonly config?: ImagesConfig;
  readonly registry?: RegistryClientConfig;
  readonly references?: ImagesDeps["references"];
  /** The boot in which this host runs, if it shall be another than the machine's. */
  readonly bootId?: string;
  /** Space that the metadata keeps for a full disk; none by default. */
  readonly headroomBytes?: number;
  readonly content?: ContentStoreConfig;
  readonly verifier?: ImagesDeps["verifier"];
}

export async function startTestHost(options: TestHostOptions): Promise<TestHost> {
  const root = options.root ?? (await mkdtemp(join(tmpdir(), "berth-images-")));
  const migrations = [...contentMigrations, ...snapshotMigrations, ...imageMigrations];
  const metadata = await openMetadata({
    path: join(root, "metadata.db"),
    migrations,
    headroomBytes: options.headroomBytes ?? 0,
  });
  const content = await openContentStore({ root: join(root, "content"), metadata }, options.content);
  const recovered = await content.recover();
  const boot = options.bootId === undefined ? {} : { bootId: options.bootId };
  const overlayfs = await openOverlayfs({ metadata, ...boot }, { root: join(root, "overlayfs") });
  const native = await openNative({ metadata, ...boot }, { root: join(root, "native") });
  const snapshotters = {
    overlayfs: await openNamespacedSnapshots({ snapshotter: overlayfs, metadata }),
    native: await openNamespacedSnapshots({ snapshotter: native, metadata }),
  };
  const clients = new Map<string, RegistryClient>();
  const registry = (namespace: string): RegistryClient => {
    const hosts = options.hostsOf?.(namespace) ?? options.hosts;
    let client = clients.get(namespace);
    const routes = options.routes === undefined ? {} : { routes: options.routes };
    client ??= createRegistryClient(
      { hosts, ...routes },
      { backoffInitialMs: 5, backoffMaxMs: 20, ...options.registry },
    );
    clients.set(namespace, client);
    return client;
  };
  const scratch = join(root, "scratch");
  const images = await openImages(
    {
      metadata,
      content,
      snapshotters: Object.values(snapshotters),
      registry,
      scratch,
      ...(options.references === undefined ? {} : { references: options.references }),
      ...(options.verifier === undefined ? {} : { verifier: options.verifier }),
    },
    options.config,
  );
  let stopped: Promise<void> | undefined;
  const stop = async (): Promise<void> => {
    await images[Symbol.asyncDispose]();
    for (const client of clients.values()) await client[Symbol.asyncDispose]();
    await overlayfs[Symbol.asyncDispose]();
    await native[Symbol.asyncDispose]();
    await content[Symbol.asyncDispose]();
    await metadata[Symbol.asyncDispose]();
  };
  return {
    root,
    metadata,
    content,
    recovered,
    registry,
    scratch,
    images,
    snapshotters,
    async look(namespace, snapshotter, chainId, body) {
      const view = snapshotters[snapshotter as keyof typeof snapshotters].namespace(namespace);
      const mounts = await view.view("look", chainId);
      try {
        return await withTempMount(mounts, root, body);
      } finally {
        await view.remove("look");
      }
    },
    async leavings() {
      return [
        ...(await readdir(scratch)),
        ...mountsUnder(root)
          .map(({ target }) => target)
          .filter((target) => target !== root),
      ];
    },
    stop: () => (stopped ??= stop()),
    async [Symbol.asyncDispose]() {
      await (stopped ??= stop());
      if (options.root === undefined) await rm(root, { recursive: true, force: true });
    },
  };
}
