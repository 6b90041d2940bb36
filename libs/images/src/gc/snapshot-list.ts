/** All snapshots of one snapshotter as its namespaces see them: a shared layer once for each namespace that has it. */
import type { ListedSnapshot, NamespacedSnapshots, SnapshotInfo } from "@berth/snapshots";
import type { Slices } from "./slices.ts";

export interface NamespaceSnapshot {
  readonly namespace: string;
  readonly id: string;
  readonly parent: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly bytes: number | undefined;
  readonly physical: string;
  /** Not a layer that namespaces share. */
  readonly isPrivate: boolean;
}

interface Layer {
  readonly parent: string;
  readonly bytes: number | undefined;
}

const PAGE = 200;

export async function* listSnapshots(all: NamespacedSnapshots, slices: Slices): AsyncIterable<NamespaceSnapshot> {
  const { name } = all.snapshotter;
  const layers = new Map<string, Layer>();
  for await (const { key, parent, labels, usage } of listed(all)) {
    if (slices.due) await slices.pause();
    const bytes = usage?.sizeBytes;
    const slash = key.indexOf("/");
    if (all.isShared(key)) layers.set(key, { parent, bytes });
    else if (slash > 0) {
      const namespace = key.slice(0, slash);
      const below = parent.startsWith(`${namespace}/`) ? parent.slice(slash + 1) : parent;
      const physical = `${name} ${key}`;
      yield { namespace, id: key.slice(slash + 1), parent: below, labels, bytes, physical, isPrivate: true };
    }
  }
  for (let after: { readonly name: string; readonly namespace: string } | undefined; ;) {
    const page = all.refs.page(after, PAGE);
    for (const { namespace, name: id, labels } of page) {
      const layer = layers.get(id);
      if (layer === undefined) continue;
      yield {
        namespace,
        id,
        parent: layer.parent,
        labels,
        bytes: layer.bytes,
        physical: `${name} ${id}`,
        isPrivate: false,
      };
    }
    after = page.at(-1);
    if (page.length < PAGE) return;
  }
}

type Listed = SnapshotInfo & Partial<Pick<ListedSnapshot, "usage">>;

async function* listed({ snapshotter }: NamespacedSnapshots): AsyncIterable<Listed> {
  if (snapshotter.page === undefined) {
    yield* snapshotter.walk();
    return;
  }
  for (let after = ""; ;) {
    const page = snapshotter.page(after, PAGE);
    yield* page;
    const last = page.at(-1);
    if (last === undefined || page.length < PAGE) return;
    after = last.key;
  }
}
