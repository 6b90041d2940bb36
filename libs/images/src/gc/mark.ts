/**
 * What is reachable in a {@link Graph}. A walk keeps what it has visited and how far it reached there; further walks on the
 * same visits only add, so that a mark can be brought up to date while a sweep goes on.
 */
import type { Digest } from "@berth/base";
import type { Documents } from "./documents.ts";
import { DEEP, FLAT, LABELLED, type Graph, type Reach } from "./graph.ts";
import { contentKey, imageKey, snapshotKey } from "./keys.ts";
import type { BlobEdges } from "./rows.ts";
import type { Slices } from "./slices.ts";

export type Visits = Map<string, Reach>;

export interface Start {
  readonly key: string;
  readonly reach: Reach;
}

export interface WalkDeps {
  readonly graph: Graph;
  readonly documents: Documents;
  readonly snapshotters: readonly string[];
  readonly slices: Slices;
}

export interface WalkOptions {
  /** Visited by an earlier walk: not entered, and not among the visits of this one. */
  readonly except?: ReadonlyMap<string, Reach>;
  /** The graph was read again: follows also its changed edges, and looks into blobs that came since. */
  readonly isLater?: boolean;
}

export async function walk(
  deps: WalkDeps,
  visits: Visits,
  starts: Iterable<Start>,
  options: WalkOptions = {},
): Promise<void> {
  const { slices, graph } = deps;
  const stack = [...starts];
  const changed = options.isLater === true ? takeChanged(graph, visits) : undefined;
  if (changed !== undefined) stack.push(...changed.values());
  for (let next = stack.pop(); next !== undefined; next = stack.pop()) {
    const { key, reach } = next;
    const visited = Math.max(visits.get(key) ?? 0, options.except?.get(key) ?? 0);
    if (visited > reach || (visited === reach && changed?.delete(key) !== true)) continue;
    visits.set(key, reach);
    if (slices.due) await slices.pause();
    for (const start of edges(graph, key, reach)) stack.push(start);
    if (reach !== DEEP || !key.startsWith("blob ")) continue;
    const found = documentEdges(deps, key, options.isLater ?? false);
    if (!(found instanceof Promise)) stack.push(...found);
    else {
      slices.rest();
      stack.push(...(await found));
      slices.begin();
    }
  }
}

/** What was visited and is to be visited once more, as far as it was. */
function takeChanged(graph: Graph, visits: Visits): Map<string, Start> {
  const changed = new Map<string, Start>();
  for (const key of graph.changed) {
    const reach = visits.get(key);
    if (reach !== undefined) changed.set(key, { key, reach });
  }
  graph.changed.clear();
  return changed;
}

/** Edges that the graph knows: parents, targets and labels. */
function* edges(graph: Graph, key: string, reach: Reach): Iterable<Start> {
  const parent = graph.nodes.get(key)?.parent ?? "";
  if (parent !== "") yield { key: parent, reach };
  const target = graph.targets.get(key);
  if (target !== undefined) yield { key: target, reach: reach === FLAT ? FLAT : DEEP };
  if (reach === FLAT) return;
  for (const ref of graph.refs.get(key) ?? []) yield { key: ref, reach: LABELLED };
  for (const child of graph.backRefs.get(key) ?? []) yield { key: child, reach: LABELLED };
}

const NOTHING: readonly Start[] = [];

/** What the bytes of a document refer to; no promise where a row says it. */
function documentEdges(deps: WalkDeps, key: string, isLater: boolean): readonly Start[] | Promise<readonly Start[]> {
  const { graph, documents } = deps;
  const [, namespace, digest] = key.split(" ") as [string, string, Digest];
  const node = graph.nodes.get(key);
  // Never fetched, as the other platforms of an index.
  if (node === undefined && !isLater) return NOTHING;
  const known = documents.known(digest);
  if (known !== undefined) return children(deps, key, namespace, known);
  return documents.read(namespace, digest, node?.bytes).then((read) => children(deps, key, namespace, read));
}

/**
 * A document whose labels name content is judged by them, as in containerd: a client that leaves a layer's label out means the
 * layer to go. Without such labels its bytes say what it refers to.
 */
function children(deps: WalkDeps, key: string, namespace: string, { kind, targets }: BlobEdges): readonly Start[] {
  const labelled = deps.graph.refs.get(key);
  if (kind === "config") {
    if (labelled !== undefined) return NOTHING;
    return targets.flatMap((chainId) =>
      deps.snapshotters.map((name) => ({ key: snapshotKey(namespace, name, chainId), reach: LABELLED })),
    );
  }
  const config = kind === "manifest" ? targets[0] : undefined;
  const all = labelled?.filter((ref) => ref.startsWith("blob ")) ?? targets.map((to) => contentKey(namespace, to));
  return all.map((to) => {
    const isDocument = kind === "index" || (config !== undefined && to === contentKey(namespace, config));
    return { key: to, reach: isDocument ? DEEP : LABELLED };
  });
}

/** Where a mark begins: the roots, and every image but those that are to go. */
export function* starts(graph: Graph, without: ReadonlySet<string>): Iterable<Start> {
  yield* graph.roots.values();
  for (const { namespace, name } of graph.images.values()) {
    const key = imageKey(namespace, name);
    if (!without.has(key)) yield { key, reach: DEEP };
  }
}
