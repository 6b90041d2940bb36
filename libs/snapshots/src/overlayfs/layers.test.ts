/** Long chains, volatile and idmapped overlays, and layers that get their parents at commit. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, lstatSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { mounts as mountTable, unmountAll } from "@berth/linux";
import { mountAll, unmountTarget, withTempMount, writableDirectory } from "../mounts.ts";
import { LABELS } from "../options.ts";
import { directoryHost, type DirectoryHost } from "../testing/host.ts";
import { collected, committedTree, layer, treeOf, within } from "../testing/layers.ts";
import { openOverlayfs } from "./snapshotter.ts";

const skip = process.getuid?.() === 0 ? false : "needs root";

const host = (t: TestContext): Promise<DirectoryHost> =>
  directoryHost(t, { on: "tmpfs", open: (metadata, root) => openOverlayfs({ metadata }, { root }) });

/** `volatile`, or `fsync=volatile` as newer kernels say. */
const VOLATILE = /\bvolatile\b/;

/** Layers as a pull makes them: written apart from each other, then put on one another. */
async function rebased(at: DirectoryHost, count: number): Promise<string> {
  const keys = Array.from({ length: count }, (_, i) => `apart-${i}`);
  await Promise.all(
    keys.map(async (key, i) => {
      const upper = writableDirectory(await at.snapshotter.prepare(key, ""))!;
      writeFileSync(join(upper, "same"), String(i));
      writeFileSync(join(upper, `only-${i}`), "");
    }),
  );
  let parent = "";
  for (const [i, key] of keys.entries()) {
    await at.snapshotter.commit(`layer-${i}`, key, { parent, usage: { sizeBytes: 4096, inodes: 3 } });
    parent = `layer-${i}`;
  }
  return parent;
}

for (const count of [128, 400]) {
  test(`${count} layers, rebased, mount writable and as a view`, { skip }, async (t) => {
    const at = await host(t);
    const top = await rebased(at, count);
    await within(at, await at.snapshotter.prepare("k", top), (root) => {
      assert.equal(readdirSync(root).length, count + 1);
      assert.equal(readFileSync(join(root, "same"), "utf8"), String(count - 1));
      writeFileSync(join(root, "only-0"), "changed");
    });
    const view = await at.snapshotter.view("v", top);
    await within(at, view, (root) => assert.equal(readFileSync(join(root, "only-0"), "utf8"), ""));
    const target = join(at.mountDir, "volatile");
    mkdirSync(target);
    mountAll(await at.snapshotter.prepare("task", top, { volatile: true }), target);
    assert.match(String(mountTable().find((mount) => mount.target === target)?.superOptions), VOLATILE);
    unmountTarget(target);
    assert.equal((await at.snapshotter.stat(top)).parent, `layer-${count - 2}`);
    assert.deepEqual(await at.snapshotter.usage(top), { sizeBytes: 4096, inodes: 3 });
  });
}

test(
  "mounts of 400 layers fit into mount(2) as others make them: relative to the common directory",
  { skip },
  async (t) => {
    const at = await host(t);
    const top = await rebased(at, 400);
    const [overlay] = await at.snapshotter.prepare("k", top);
    const shared = join(at.root, "snapshots");
    const options = overlay!.options.map((text) => text.replaceAll(`${shared}/`, ""));
    assert.ok(Buffer.byteLength(overlay!.options.join(",")) > 4096, "needs the trick");
    assert.ok(Buffer.byteLength(options.join(",")) < 4096);
    // mount(8) without the new mount API, as containerd's mount package does it.
    const target = join(at.mountDir, "theirs");
    mkdirSync(target);
    execFileSync("mount", ["-t", "overlay", "-o", options.join(","), "overlay", target], { cwd: shared });
    t.after(() => unmountAll(target, { detach: true }));
    assert.equal(readFileSync(join(target, "same"), "utf8"), "399");
  },
);

test(
  "a layer is whole on its new parent only once the commit says so; a refused one stays as it was",
  { skip },
  async (t) => {
    const at = await host(t);
    await layer(at, "base", "", (root) => writeFileSync(join(root, "a"), "1"));
    const upper = writableDirectory(await at.snapshotter.prepare("k", ""))!;
    writeFileSync(join(upper, "b"), "2");
    await assert.rejects(at.snapshotter.commit("top", "k", { parent: "k" }), { reason: "SNAPSHOT_PARENT_MISSING" });
    await assert.rejects(at.snapshotter.commit("k", "k", { parent: "k" }), { reason: "SNAPSHOT_PARENT_MISSING" });
    assert.deepEqual(Object.keys(await treeOf(at, "k")), ["b"]);
    const [removed, committed] = await Promise.allSettled([
      at.snapshotter.remove("base"),
      at.snapshotter.commit("top", "k", { parent: "base" }),
    ]);
    assert.notEqual(removed.status, committed.status, "the parent went or the child came, never both");
    if (committed.status === "fulfilled") assert.deepEqual(Object.keys(await committedTree(at, "top")), ["a", "b"]);
  },
);

test(
  "volatile overlays skip syncs for as long as they run, and can be mounted again in the same boot",
  { skip },
  async (t) => {
    const at = await host(t);
    await layer(at, "base", "", (root) => writeFileSync(join(root, "a"), "1"));
    const mounts = await at.snapshotter.prepare("k", "base", { volatile: true });
    assert.ok(mounts[0]!.options.includes("volatile"));
    await withTempMount(mounts, at.mountDir, (target) => {
      const found = mountTable().find((mount) => mount.target === target);
      assert.equal(VOLATILE.test(String(found?.superOptions)), false, "a temporary mount lasts");
    });
    const target = join(at.mountDir, "task");
    mkdirSync(target);
    for (const text of ["first", "second"]) {
      mountAll(await at.snapshotter.mounts("k"), target);
      assert.match(String(mountTable().find((mount) => mount.target === target)?.superOptions), VOLATILE);
      writeFileSync(join(target, text), "");
      unmountTarget(target);
      assert.ok(
        existsSync(join(at.root, "snapshots", "2", "work", "work", "incompat", "volatile")),
        "the kernel's mark",
      );
      assert.throws(() => mountAll(mounts, target), { reason: "EINVAL" }, "which it heeds");
    }
    await at.reopen();
    assert.deepEqual(Object.keys(await treeOf(at, "k")), ["a", "first", "second"]);
    assert.equal((await at.snapshotter.stat("k")).labels[LABELS.volatile], "true");
    assert.deepEqual(await at.snapshotter.view("v", "base", { labels: { [LABELS.volatile]: "true" } }), [
      { type: "bind", source: join(at.root, "snapshots", "1", "fs"), options: ["ro", "rbind"] },
    ]);
  },
);

test("a volatile snapshot does not outlive the boot; committed and synced it does (A2)", { skip }, async (t) => {
  let boot = "boot-1";
  const at = await directoryHost(t, {
    on: "tmpfs",
    open: (metadata, root) => openOverlayfs({ metadata, bootId: boot }, { root }),
  });
  await layer(at, "base", "", (root) => writeFileSync(join(root, "a"), "1"));
  for (const key of ["kept", "gone"]) await at.snapshotter.prepare(key, "base", { volatile: true });
  await at.snapshotter.commit("layer", "kept");
  await at.snapshotter.sync();
  await at.reopen();
  assert.equal((await at.snapshotter.stat("gone")).kind, "active", "a restart of the agent loses nothing");
  boot = "boot-2";
  await at.reopen();
  assert.deepEqual((await collected(at.snapshotter.walk())).map(({ key }) => key).sort(), ["base", "layer"]);
  assert.equal(await at.snapshotter.cleanup(), 1);
});

test("idmapped layers stay idmapped when there are hundreds, and leave no mount aside", { skip }, async (t) => {
  const at = await host(t);
  const top = await rebased(at, 130);
  const labels = { [LABELS.uidMapping]: "0:70000:10,10:90000:10", [LABELS.gidMapping]: "0:70000:65536" };
  // Other tests mount at the same time: those of the layers' own file system count, and the overlay.
  const { device } = mountTable().findLast(({ target }) => at.root.startsWith(`${target}/`))!;
  const ours = (root: string): number =>
    mountTable().filter((mount) => mount.device === device || mount.target === root).length;
  const before = ours("");
  await within(at, await at.snapshotter.prepare("k", top, { labels }), (root) => {
    assert.equal(ours(root), before + 1);
    const { uid, gid } = lstatSync(join(root, "only-7"));
    assert.deepEqual([uid, gid], [70_000, 70_000]);
    assert.equal(lstatSync(root).uid, 70_000);
  });
  await within(at, await at.snapshotter.prepare("alone", "", { labels }), (root) =>
    assert.equal(lstatSync(root).uid, 70_000),
  );
});
