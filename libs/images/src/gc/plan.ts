/** From a graph to what goes and what stays, with the reasons. Changes nothing. */
import type { Lease, LeaseResource } from "../leases/leases.ts";
import type { GcConfig, GcItem } from "./gc.ts";
import { DEEP, FLAT, leasedKey, type GcNode, type Graph } from "./graph.ts";
import { expiryOf } from "./labels.ts";
import { starts, walk, type Visits, type WalkDeps } from "./mark.ts";
import { relieve, type DiskSpace } from "./pressure.ts";
import type { ImageRoot } from "./rows.ts";

export interface PlanDeps {
  readonly walk: WalkDeps;
  readonly sizeOf: (key: string) => Promise<number>;
  readonly isBusy: (imageKey: string) => boolean;
  /** Needed by a running pull. */
  readonly isPinned: (key: string) => boolean;
  readonly disk: DiskSpace | undefined;
  readonly nowMs: number;
}

export interface PlannedImage {
  readonly image: ImageRoot;
  readonly key: string;
  readonly reason: string;
  /** By pressure, rather than by its own expiry. */
  readonly isEvicted: boolean;
}

export interface Plan {
  readonly leases: readonly {
    readonly lease: Lease;
    readonly resources: readonly LeaseResource[];
    readonly reason: string;
  }[];
  readonly images: readonly PlannedImage[];
  /** What is built on others comes first. */
  readonly snapshots: readonly GcNode[];
  readonly contents: readonly GcNode[];
  /** What must not go; a sweep adds to it. */
  readonly visits: Visits;
  readonly shortfall: string | undefined;
  readonly removed: readonly GcItem[];
  readonly kept: readonly GcItem[];
}

export interface PlanOptions {
  readonly config: GcConfig;
  /** Do images go, for want of space or because they expired? Not where only the leavings of one pull are to go. */
  readonly withImages: boolean;
  /** Fills `removed` and `kept`. */
  readonly details: boolean;
}

export async function makePlan(deps: PlanDeps, options: PlanOptions): Promise<Plan> {
  const { graph } = deps.walk;
  const leases = graph.expiredLeases.map((each) => ({ ...each, reason: expiredLease(each.lease, deps.nowMs) }));
  const expired = options.withImages ? expiredImages(graph, deps) : [];
  const without = new Set(expired.map(({ key }) => key));
  const visits: Visits = new Map();
  await walk(deps.walk, visits, graph.roots.values());
  const pressure = options.withImages
    ? await relieve(deps, options.config, without, visits)
    : { evictions: [], kept: [], shortfall: undefined };
  for (const { key } of pressure.evictions) without.add(key);
  await walk(deps.walk, visits, starts(graph, without));
  const evicted = pressure.evictions.map(({ image, key, reason }) => ({ image, key, reason, isEvicted: true }));
  const images = [...expired, ...evicted].filter(({ key }) => !visits.has(key));
  const gone = await unvisited(deps, visits);
  const plan = { leases, images, ...gone, visits, shortfall: pressure.shortfall };
  if (!options.details) return { ...plan, removed: [], kept: [] };
  const reasons = await attribute(deps, plan);
  const kept = new Map(pressure.kept.map((item) => [`${item.namespace} ${item.key}`, item]));
  return { ...plan, removed: removedItems(graph, plan, reasons), kept: keptItems(graph, without, kept) };
}

function expiredImages(graph: Graph, { nowMs, isBusy }: PlanDeps): PlannedImage[] {
  const expired: PlannedImage[] = [];
  for (const [key, image] of graph.images) {
    const expiry = expiryOf(image.labels);
    if (expiry === undefined || expiry > nowMs || graph.imageHolds.has(key) || isBusy(key)) continue;
    expired.push({ image, key, reason: `image expired ${ago(nowMs - expiry)}`, isEvicted: false });
  }
  return expired;
}

async function unvisited(
  deps: PlanDeps,
  visits: Visits,
): Promise<{ readonly snapshots: readonly GcNode[]; readonly contents: readonly GcNode[] }> {
  const { graph, slices } = deps.walk;
  const snapshots: GcNode[] = [];
  const contents: GcNode[] = [];
  for (const node of graph.nodes.values()) {
    if (slices.due) await slices.pause();
    if (visits.has(node.key) || deps.isPinned(node.key)) continue;
    (node.kind === "snapshot" ? snapshots : contents).push(node);
  }
  const depths = new Map(snapshots.map((node) => [node, depthOf(graph, node)]));
  return { snapshots: snapshots.sort((a, b) => depths.get(b)! - depths.get(a)!), contents };
}

function depthOf(graph: Graph, node: GcNode): number {
  let depth = 0;
  for (let next = graph.nodes.get(node.parent); next !== undefined; next = graph.nodes.get(next.parent)) depth += 1;
  return depth;
}

/** Which end of a lease or an image let a thing go; what none explains was never referred to. */
async function attribute(
  deps: PlanDeps,
  plan: Pick<Plan, "leases" | "images" | "visits">,
): Promise<ReadonlyMap<string, string>> {
  const { graph } = deps.walk;
  const reasons = new Map<string, string>();
  const explain = async (keys: readonly string[], reason: string): Promise<void> => {
    const found: Visits = new Map();
    await walk(
      deps.walk,
      found,
      keys.map((key) => ({ key, reach: DEEP })),
      { except: plan.visits },
    );
    for (const key of found.keys()) if (!reasons.has(key)) reasons.set(key, reason);
  };
  for (const { key, reason } of plan.images) await explain([key], reason);
  for (const { lease, resources } of graph.expiredLeases) {
    const keys = resources.map((resource) => leasedKey(lease.namespace, resource));
    await explain(keys, expiredLease(lease, deps.nowMs));
  }
  return reasons;
}

function removedItems(
  graph: Graph,
  plan: Pick<Plan, "leases" | "images" | "snapshots" | "contents" | "visits">,
  reasons: ReadonlyMap<string, string>,
): GcItem[] {
  const live = new Set<string>();
  const going = new Set([...plan.snapshots, ...plan.contents]);
  for (const node of graph.nodes.values()) if (!going.has(node)) live.add(node.physical);
  const bytesOf = ({ physical, bytes = 0 }: GcNode): number => {
    if (live.has(physical)) return 0;
    live.add(physical);
    return bytes;
  };
  return [
    ...plan.leases.map(({ lease, reason }): GcItem => {
      return { kind: "lease", namespace: lease.namespace, key: lease.id, bytes: 0, reason };
    }),
    ...plan.images.map(({ image, reason }): GcItem => {
      return { kind: "image", namespace: image.namespace, key: image.name, bytes: 0, reason };
    }),
    ...[...plan.snapshots, ...plan.contents].map((node): GcItem => {
      const key = node.kind === "snapshot" ? `${node.snapshotter}/${node.id}` : node.id;
      const reason = reasons.get(node.key) ?? "no reference";
      return { kind: node.kind, namespace: node.namespace, key, bytes: bytesOf(node), reason };
    }),
  ];
}

/** Roots with what holds them: images first, then what is a root by itself. */
function keptItems(graph: Graph, without: ReadonlySet<string>, weighed: ReadonlyMap<string, GcItem>): GcItem[] {
  const items: GcItem[] = [];
  for (const [key, image] of graph.images) {
    if (without.has(key)) continue;
    const { namespace, name } = image;
    const used = new Date(image.usedAtMs).toISOString();
    const reason = graph.imageHolds.get(key) ?? `has its name, last used ${used}`;
    items.push(weighed.get(`${namespace} ${name}`) ?? { kind: "image", namespace, key: name, bytes: 0, reason });
  }
  for (const { key, reach, reason } of graph.roots.values()) {
    const node = graph.nodes.get(key);
    if (node === undefined) continue;
    const only = reach === FLAT ? ", without what it refers to" : "";
    const name = node.kind === "snapshot" ? `${node.snapshotter}/${node.id}` : node.id;
    items.push({
      kind: node.kind,
      namespace: node.namespace,
      key: name,
      bytes: node.bytes ?? 0,
      reason: reason + only,
    });
  }
  return items;
}

function expiredLease({ id, expiresAtMs = 0 }: Lease, nowMs: number): string {
  return `lease "${id}" expired ${ago(nowMs - expiresAtMs)}`;
}

export function ago(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1_000));
  if (seconds < 120) return `${seconds} s ago`;
  if (seconds < 7_200) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3_600)} h ago`;
  return `${Math.floor(seconds / 86_400)} d ago`;
}
