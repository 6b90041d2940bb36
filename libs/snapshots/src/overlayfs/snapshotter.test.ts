import assert from "node:assert/strict";
import { chmodSync, existsSync, mkdirSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { systemClock } from "@berth/base";
import { mount } from "@berth/linux";
import { lowerDirectories, writableDirectory } from "../mounts.ts";
import { directoryHost, type DirectoryHost } from "../testing/host.ts";
import { snapshotterConformance } from "../testing/conformance.ts";
import { chain, collected, layer } from "../testing/layers.ts";
import { randomOperations } from "../testing/random.ts";
import { probe } from "./probe.ts";
import { openOverlayfs } from "./snapshotter.ts";

const skip = process.getuid?.() === 0 ? false : "needs root";

const host = (t: TestContext, boot?: string, on: "disk" | "tmpfs" = "tmpfs"): Promise<DirectoryHost> =>
  directoryHost(t, {
    on,
    open: (metadata, root) => openOverlayfs({ metadata, ...(boot === undefined ? {} : { bootId: boot }) }, { root }),
  });

snapshotterConformance("overlayfs on tmpfs", (t) => host(t), { skip, longChain: 110 });
snapshotterConformance("overlayfs on disk", (t) => host(t, undefined, "disk"), { skip });

test("openOverlayfs mounts as containerd does", { skip }, async (t) => {
  const { snapshotter, root, ...rest } = await host(t);
  const at = (id: number, name: string): string => join(root, "snapshots", String(id), name);
  assert.deepEqual(await snapshotter.prepare("a", ""), [
    { type: "bind", source: at(1, "fs"), options: ["rw", "rbind"] },
  ]);
  await snapshotter.commit("A", "a");
  assert.deepEqual(await snapshotter.view("v", "A"), [{ type: "bind", source: at(1, "fs"), options: ["ro", "rbind"] }]);
  const active = await snapshotter.prepare("b", "A");
  assert.deepEqual(active, [
    {
      type: "overlay",
      source: "overlay",
      options: ["index=off", `workdir=${at(3, "work")}`, `upperdir=${at(3, "fs")}`, `lowerdir=${at(1, "fs")}`],
    },
  ]);
  assert.equal(writableDirectory(active), at(3, "fs"));
  await snapshotter.commit("B", "b");
  const view = await snapshotter.view("w", "B");
  assert.deepEqual(view[0]!.options, ["index=off", `lowerdir=${at(3, "fs")}:${at(1, "fs")}`]);
  assert.deepEqual(lowerDirectories(view), [at(3, "fs"), at(1, "fs")]);
  assert.equal(writableDirectory(view), undefined);
  assert.ok(rest.metadata);
});

for (const seed of [1, 2, 3]) {
  test(`overlayfs agrees with the model under random operations, seed ${seed}`, { skip }, async (t) => {
    const done = await randomOperations(await host(t), { seed, operations: 150 });
    for (const operation of ["active", "view", "write", "commit", "remove", "look"]) {
      assert.ok((done[operation] ?? 0) > 0, `${operation} happened: ${JSON.stringify(done)}`);
    }
  });
}

test(
  "a layer that no sync put on disk goes with the power, and with it what was built on it (A2)",
  { skip },
  async (t) => {
    let boot = "boot-1";
    const at = await directoryHost(t, {
      on: "tmpfs",
      open: (metadata, root) => openOverlayfs({ metadata, bootId: boot }, { root }),
    });
    await layer(at, "synced", "", (root) => writeFileSync(join(root, "f"), ""));
    await at.snapshotter.sync();
    await layer(at, "torn", "synced", (root) => writeFileSync(join(root, "g"), ""));
    await at.snapshotter.prepare("on-torn", "torn");
    await at.snapshotter.prepare("on-synced", "synced");
    await at.reopen();
    assert.equal((await collected(at.snapshotter.walk())).length, 4, "a restart of the agent loses nothing");
    boot = "boot-2";
    await at.reopen();
    const keys = (await collected(at.snapshotter.walk())).map(({ key }) => key);
    assert.deepEqual(keys.sort(), ["on-synced", "synced"]);
    assert.equal(await at.snapshotter.cleanup(), 2);
    assert.equal(readdirSync(join(at.root, "snapshots")).length, 2);
  },
);

test("a record whose directory is gone is dropped; no directory at all is refused", { skip }, async (t) => {
  const at = await host(t);
  const top = await chain(at, "l", [(root) => writeFileSync(join(root, "f"), ""), () => {}]);
  await at.snapshotter.prepare("k", top);
  rmSync(join(at.root, "snapshots", "2"), { recursive: true });
  await at.reopen();
  assert.deepEqual(
    (await collected(at.snapshotter.walk())).map(({ key }) => key),
    ["l-0"],
  );
  rmSync(join(at.root, "snapshots"), { recursive: true });
  await assert.rejects(at.reopen(), { code: "FAILED_PRECONDITION", reason: "SNAPSHOT_ROOT_MISSING" });
});

test("probe finds tmpfs usable, and says why an overlay, a special path or a file is not", { skip }, async (t) => {
  const { root, mountDir } = await host(t);
  assert.deepEqual(probe(root), { usable: true });
  assert.deepEqual(probe(join(root, "new", "deep")), { usable: true });
  assert.equal(
    readdirSync(root).some((name) => name.startsWith("probe-")),
    false,
  );
  const reason = (path: string): string => {
    const answer = probe(path);
    return answer.usable ? "usable" : answer.reason;
  };
  assert.match(reason(join(root, "a:b")), /":" in it/);
  writeFileSync(join(root, "file"), "");
  assert.match(reason(join(root, "file")), /EEXIST|ENOTDIR/);
  const [lower, upper, work] = ["lower", "upper", "work"].map((name) => {
    mkdirSync(join(root, name));
    return join(root, name);
  });
  const options = [`lowerdir=${lower}`, `upperdir=${upper}`, `workdir=${work}`];
  mount({ type: "overlay", source: "overlay", target: mountDir, options });
  assert.match(reason(mountDir), /cannot hold an overlay/);
});

test("remove takes the files away in the background, also those with odd modes", { skip }, async (t) => {
  const at = await host(t);
  await at.snapshotter.prepare("k", "");
  const fs = join(at.root, "snapshots", "1", "fs");
  mkdirSync(join(fs, "d"), { mode: 0 });
  writeFileSync(join(fs, "d", "f"), "");
  chmodSync(join(fs, "d"), 0);
  await at.snapshotter.remove("k");
  assert.equal(existsSync(join(at.root, "snapshots", "1")), false, "gone from its place at once");
  await at.snapshotter[Symbol.asyncDispose]();
  assert.deepEqual(readdirSync(join(at.root, "trash")), [], "and for good when the snapshotter ends");
});

test("walk gives parents first also when the wall clock was set back", { skip }, async (t) => {
  let now = 1_000_000;
  const clock = { ...systemClock, nowMs: () => (now -= 10) };
  const at = await directoryHost(t, {
    on: "tmpfs",
    open: (metadata, root) => openOverlayfs({ metadata, clock }, { root }),
  });
  await chain(at, "l", [() => {}, () => {}, () => {}]);
  assert.deepEqual(
    (await collected(at.snapshotter.walk())).map(({ key }) => key),
    ["l-0", "l-1", "l-2"],
  );
});
