/** Our side of `pull`: the agent's content store, snapshotter and image service over an empty root. */
import { join } from "node:path";
import { contentMigrations, openContentStore } from "@berth/content";
import { Lifetime } from "@berth/base";
import { imageMigrations, openImages } from "@berth/images";
import { openMetadata } from "@berth/metadata";
import { createRegistryClient } from "@berth/registry";
import { openNamespacedSnapshots, openOverlayfs, snapshotMigrations } from "@berth/snapshots";
import { serveChild, type ChildKind } from "../support/child.ts";

export interface PullSetup {
  readonly root: string;
  /** `host:port`, plain HTTP. */
  readonly registry: string;
}

export interface PullRequest {
  /** `pull`: all at once. `remove`: them and all that nothing else needs. */
  readonly verb: "pull" | "remove";
  readonly images: readonly string[];
}

/** Answers with milliseconds. */
export type PullSide = ChildKind<PullSetup, PullRequest, number>;

serveChild<PullSide>(async ({ root, registry }) => {
  const lifetime = new Lifetime();
  const migrations = [...contentMigrations, ...snapshotMigrations, ...imageMigrations];
  const metadata = lifetime.own(await openMetadata({ path: join(root, "metadata.db"), migrations }));
  const content = lifetime.own(await openContentStore({ root: join(root, "content"), metadata }));
  await content.recover();
  const snapshotter = lifetime.own(await openOverlayfs({ metadata }, { root: join(root, "snapshots") }));
  const snapshotters = [await openNamespacedSnapshots({ snapshotter, metadata })];
  const client = lifetime.own(createRegistryClient({ hosts: [{ host: registry, plainHttp: true }] }));
  const scratch = join(root, "scratch");
  const images = lifetime.own(
    await openImages({ metadata, content, snapshotters, registry: () => client, scratch }, {}),
  );
  return {
    async run({ verb, images: names }) {
      const begun = performance.now();
      if (verb === "pull") {
        await Promise.all(names.map((image) => images.pull({ namespace: "bench", image, snapshotter: "overlayfs" })));
      } else {
        await Promise.all(names.map((image) => images.remove("bench", image)));
        await images.gc.run();
      }
      return performance.now() - begun;
    },
    [Symbol.asyncDispose]: () => lifetime[Symbol.asyncDispose](),
  };
});
