/** A place for a snapshotter under test: a scratch directory, metadata of its own, and everything taken away afterwards. */
import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { mount, unmountUnder } from "@berth/linux";
import { openMetadata, type Metadata } from "@berth/metadata";
import { snapshotMigrations } from "../rows.ts";
import type { Snapshotter } from "../snapshotter.ts";
import type { ConformanceHost } from "./layers.ts";

export interface DirectoryHostOptions {
  /** `tmpfs` mounts one on the scratch directory; `at` is a directory on a file system that the caller made. */
  readonly on: "disk" | "tmpfs" | { readonly at: string };
  /** The snapshotter's root, where the caller has made one. */
  readonly root?: string;
  readonly open: (metadata: Metadata, root: string) => Promise<Snapshotter>;
}

export interface DirectoryHost extends ConformanceHost {
  readonly metadata: Metadata;
  readonly root: string;
}

export async function directoryHost(t: TestContext, options: DirectoryHostOptions): Promise<DirectoryHost> {
  const base = typeof options.on === "string" ? tmpdir() : options.on.at;
  const scratch = realpathSync(mkdtempSync(join(base, "berth-snapshots-")));
  if (options.on === "tmpfs") mount({ type: "tmpfs", source: "tmpfs", target: scratch, options: ["mode=755"] });
  const [root, mountDir] = [options.root ?? join(scratch, "root"), join(scratch, "mounts")];
  mkdirSync(mountDir);
  const metadata = await openMetadata({ path: join(scratch, "meta.db"), migrations: snapshotMigrations });
  let snapshotter = await options.open(metadata, root);
  t.after(async () => {
    await snapshotter[Symbol.asyncDispose]();
    await metadata[Symbol.asyncDispose]();
    // The file system goes as a whole, with what only its own tools delete.
    if (typeof options.on !== "string") return;
    unmountUnder(scratch, { detach: true });
    rmSync(scratch, { recursive: true, force: true });
  });
  return {
    metadata,
    root,
    mountDir,
    get snapshotter() {
      return snapshotter;
    },
    async reopen() {
      await snapshotter[Symbol.asyncDispose]();
      snapshotter = await options.open(metadata, root);
      return snapshotter;
    },
    async plantOrphan() {
      const orphan = join(root, "snapshots", "777777", "fs");
      mkdirSync(orphan, { recursive: true });
      writeFileSync(join(orphan, "leftover"), "x");
    },
  };
}
