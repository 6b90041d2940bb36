/** Layers that snapshots of containers stand on: collection leaves them, also when their image has lost its name. */
import type { ImageReferences } from "@berth/images";
import type { NamespacedSnapshots } from "@berth/snapshots";

export async function imageReferences(snapshots: readonly NamespacedSnapshots[]): Promise<ImageReferences> {
  const used: { readonly namespace: string; readonly snapshotter: string; readonly chainId: string }[] = [];
  for (const { snapshotter } of snapshots) {
    for await (const { key, kind, parent } of snapshotter.walk()) {
      const slash = key.indexOf("/");
      if (kind === "committed" || parent === "" || slash < 0) continue;
      used.push({ namespace: key.slice(0, slash), snapshotter: snapshotter.name, chainId: chainIdOf(parent) });
    }
  }
  return { snapshots: used };
}

/** A private parent carries its namespace. */
function chainIdOf(parent: string): string {
  return parent.slice(parent.indexOf("/") + 1);
}
