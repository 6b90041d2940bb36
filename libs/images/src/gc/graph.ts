/**
 * Everything that collection looks at, as a graph in memory: contents and snapshots of all namespaces with their sizes, the
 * edges that labels and parents draw, and the roots with the reason of each.
 *
 * Read by pages, in slices. The parts can be read again: a second reading adds what was written since, and takes nothing
 * away. What manifests refer to is not here but asked for on the way (documents.ts).
 */
import type { Clock } from "@berth/base";
import type { ContentStore } from "@berth/content";
import type { NamespacedSnapshots } from "@berth/snapshots";
import { normaliseImage } from "@berth/model";
import type { LeaseRows } from "../leases/rows.ts";
import { FLAT_LABEL, type Lease, type LeaseResource } from "../leases/leases.ts";
import { containerKey, contentKey, imageKey, ingestKey, snapshotKey } from "./keys.ts";
import { expiryOf, labelEdges } from "./labels.ts";
import type { ImageReferences } from "./references.ts";
import type { GcRows, ImageRoot } from "./rows.ts";
import type { Slices } from "./slices.ts";
import { listSnapshots } from "./snapshot-list.ts";

/** How far a root or an edge reaches: the object alone, with what its labels name, or also with what its bytes name. */
export const FLAT = 1;
export const LABELLED = 2;
export const DEEP = 3;
export type Reach = typeof FLAT | typeof LABELLED | typeof DEEP;

export interface GcNode {
  readonly kind: "content" | "snapshot";
  readonly key: string;
  readonly namespace: string;
  /** The digest, or the key within the namespace. */
  readonly id: string;
  readonly snapshotter: string;
  /** Equal for what several namespaces have of one thing on disk. */
  readonly physical: string;
  /** Undefined where it was never counted. */
  readonly bytes: number | undefined;
  /** Key of the snapshot below; empty without one. */
  readonly parent: string;
}

export interface Root {
  readonly key: string;
  readonly reach: Reach;
  readonly reason: string;
}

export interface GraphDeps {
  readonly content: ContentStore;
  readonly snapshotters: readonly NamespacedSnapshots[];
  readonly rows: GcRows;
  readonly leases: LeaseRows;
  readonly references: () => Promise<ImageReferences>;
  readonly clock: Clock;
}

const PAGE = 200;
/** Snapshots of Berth's own owners, which remove them: a container's, and one that is being extracted to. */
const OWNED = /^berth\.(?:io|dev)\//;

export class Graph {
  readonly nodes = new Map<string, GcNode>();
  readonly images = new Map<string, ImageRoot>();
  /** What an object's labels refer to. */
  readonly refs = new Map<string, readonly string[]>();
  /** By the object referred to: who wants to live as long as it does. */
  readonly backRefs = new Map<string, Set<string>>();
  readonly targets = new Map<string, string>();
  /** Roots beside the images. */
  readonly roots = new Map<string, Root>();
  readonly expiredLeases: { readonly lease: Lease; readonly resources: readonly LeaseResource[] }[] = [];
  /** Objects whose edges differ from those of the reading before. */
  readonly changed = new Set<string>();
  /** Why an image must not go, though it could. */
  readonly imageHolds = new Map<string, string>();
  readonly #deps: GraphDeps;
  readonly #slices: Slices;
  readonly #nowMs: number;

  constructor(deps: GraphDeps, slices: Slices) {
    this.#deps = deps;
    this.#slices = slices;
    this.#nowMs = deps.clock.nowMs();
  }

  async read(): Promise<void> {
    await this.readHolds();
    await this.readImages();
    await this.readLeases();
    await this.readContent();
    await this.readSnapshots();
    this.changed.clear();
  }

  /** Reads again what these tables hold. */
  async readAgain(tables: readonly string[]): Promise<void> {
    const touched = (...names: string[]): boolean => names.some((name) => tables.includes(name));
    if (touched("containers")) await this.readHolds();
    if (touched("images", "image_pins")) await this.readImages();
    if (touched("leases", "lease_resources")) await this.readLeases();
    if (touched("blob_refs")) await this.readContent();
    if (touched("snapshots", "snapshot_refs")) await this.readSnapshots();
  }

  async readHolds(): Promise<void> {
    const held = await this.#deps.references();
    for (const { namespace, snapshotter, chainId, reason = "in use" } of held.snapshots) {
      this.#root(snapshotKey(namespace, snapshotter, chainId), LABELLED, reason);
    }
    for (const { namespace, digest } of held.blobs ?? []) this.#root(contentKey(namespace, digest), DEEP, "in use");
    for (const { namespace, name, reason } of held.images ?? []) this.#hold(namespace, name, reason);
    for (const container of held.containers ?? []) {
      const { namespace, id, snapshotter, snapshotKey: key, image } = container;
      const node = containerKey(namespace, id);
      const reason = `container "${id}"`;
      this.#root(node, LABELLED, reason);
      if (key !== "") this.#target(node, snapshotKey(namespace, snapshotter, key));
      if (image !== "") this.#hold(namespace, image, `used by ${reason}`);
      this.#label(node, namespace, container.labels);
    }
    for (const pin of this.#deps.rows.pins(this.#nowMs)) {
      const until = pin.untilMs === undefined ? "" : ` until ${new Date(pin.untilMs).toISOString()}`;
      this.#hold(pin.namespace, pin.name, `pinned by "${pin.holder}"${until}`);
    }
  }

  /** Images whose rows are gone are forgotten: they are no roots any more. */
  async readImages(): Promise<void> {
    this.images.clear();
    for (let after: ImageRoot | undefined; ;) {
      const page = this.#deps.rows.images(after, PAGE);
      for (const image of page) {
        const key = imageKey(image.namespace, image.name);
        this.images.set(key, image);
        this.#target(key, contentKey(image.namespace, image.target));
        this.#label(key, image.namespace, image.labels);
      }
      after = page.at(-1);
      if (page.length < PAGE) return;
      await this.#breathe();
    }
  }

  async readLeases(): Promise<void> {
    for (let after: Lease | undefined; ;) {
      const page = this.#deps.leases.page(after, PAGE);
      for (const lease of page) await this.#readLease(lease);
      after = page.at(-1);
      if (page.length < PAGE) return;
      await this.#breathe();
    }
  }

  async #readLease(lease: Lease): Promise<void> {
    const { namespace, id, labels } = lease;
    const resources: LeaseResource[] = [];
    for (let after: LeaseResource | undefined; ;) {
      const page = this.#deps.leases.resourcePage(namespace, id, after, PAGE);
      resources.push(...page);
      after = page.at(-1);
      if (page.length < PAGE) break;
      await this.#breathe();
    }
    if ((expiryOf(labels) ?? Number.POSITIVE_INFINITY) <= this.#nowMs) {
      this.expiredLeases.push({ lease, resources });
      return;
    }
    const reach = FLAT_LABEL in labels ? FLAT : DEEP;
    const reason = `lease "${id}"`;
    for (const resource of resources) {
      this.#root(leasedKey(namespace, resource), reach, reason);
      if (resource.type === "images") this.#hold(namespace, resource.id, `held by ${reason}`);
    }
  }

  async readContent(): Promise<void> {
    for (const namespace of this.#deps.rows.blobNamespaces()) {
      for await (const { digest, sizeBytes, labels } of this.#deps.content.walk(namespace)) {
        if (this.#slices.due) await this.#slices.pause();
        const key = contentKey(namespace, digest);
        this.nodes.set(key, {
          kind: "content",
          key,
          namespace,
          id: digest,
          snapshotter: "",
          physical: digest,
          bytes: sizeBytes,
          parent: "",
        });
        this.#object(key, namespace, labels);
      }
    }
  }

  async readSnapshots(): Promise<void> {
    for (const all of this.#deps.snapshotters) {
      const snapshotter = all.snapshotter.name;
      for await (const found of listSnapshots(all, this.#slices)) {
        if (this.#slices.due) await this.#slices.pause();
        const { namespace, id, physical, bytes, labels } = found;
        const key = snapshotKey(namespace, snapshotter, id);
        const parent = found.parent === "" ? "" : snapshotKey(namespace, snapshotter, found.parent);
        this.nodes.set(key, { kind: "snapshot", key, namespace, id, snapshotter, physical, bytes, parent });
        this.#object(key, namespace, labels);
        if (found.isPrivate && Object.keys(labels).some((label) => OWNED.test(label))) {
          this.#root(key, LABELLED, "being worked on");
        }
      }
    }
  }

  /** Contents and snapshots may be roots by their own word. */
  #object(key: string, namespace: string, labels: Readonly<Record<string, string>>): void {
    const root = this.#label(key, namespace, labels);
    const expiry = expiryOf(labels);
    if (root) this.#root(key, DEEP, "label containerd.io/gc.root");
    else if (expiry !== undefined && expiry > this.#nowMs) {
      this.#root(key, DEEP, `label containerd.io/gc.expire, ${new Date(expiry).toISOString()}`);
    }
  }

  #label(key: string, namespace: string, labels: Readonly<Record<string, string>>): boolean {
    const { refs, backRefs, root } = labelEdges(namespace, labels);
    if (refs.length > 0) {
      if (this.refs.get(key)?.join() !== refs.join()) this.changed.add(key);
      this.refs.set(key, refs);
    }
    for (const owner of backRefs) {
      const children = this.backRefs.get(owner) ?? new Set();
      if (!children.has(key)) this.changed.add(owner);
      this.backRefs.set(owner, children.add(key));
    }
    return root;
  }

  #target(key: string, target: string): void {
    if (this.targets.get(key) !== target) this.changed.add(key);
    this.targets.set(key, target);
  }

  #root(key: string, reach: Reach, reason: string): void {
    const known = this.roots.get(key);
    if (known === undefined || known.reach < reach) this.roots.set(key, { key, reach, reason });
  }

  #hold(namespace: string, name: string, reason: string): void {
    const key = imageKey(namespace, normalised(name));
    if (!this.imageHolds.has(key)) this.imageHolds.set(key, reason);
  }

  async #breathe(): Promise<void> {
    if (this.#slices.due) await this.#slices.pause();
  }
}

export function leasedKey(namespace: string, { type, id }: LeaseResource): string {
  if (type === "content") return contentKey(namespace, id);
  if (type === "ingests") return ingestKey(namespace, id);
  if (type === "images") return imageKey(namespace, normalised(id));
  return snapshotKey(namespace, type.slice("snapshots/".length), id);
}

/** A name that another client made up is kept as it is. */
function normalised(name: string): string {
  try {
    return normaliseImage(name);
  } catch {
    return name;
  }
}
