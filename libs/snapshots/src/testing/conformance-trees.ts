/** What must be seen through the mounts of a snapshotter: layers on layers, as containerd's testsuite/issues.go has them. */
import assert from "node:assert/strict";
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { getXattr, setXattr } from "@berth/linux";
import { chain, committedTree, layer, treeOf, within, type Change, type ConformanceHost } from "./layers.ts";

type OpenHost = (t: TestContext) => Promise<ConformanceHost>;

const CAPABILITY = Buffer.from("0100000200200000000000000000000000000000", "hex");

const write = (root: string, files: Readonly<Record<string, string>>): void => {
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(join(root, name, ".."), { recursive: true });
    writeFileSync(join(root, name), text);
  }
};

/** Overlayfs refuses to rename a lower directory (EXDEV); programs then copy, as mv does. */
function move(from: string, to: string): void {
  try {
    renameSync(from, to);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EXDEV") throw error;
    cpSync(from, to, { recursive: true, verbatimSymlinks: true });
    rmSync(from, { recursive: true });
  }
}

export interface TreeOptions {
  readonly longChain?: number;
  readonly keepsRootMode?: boolean;
}

export function treeConformance(open: OpenHost, { longChain = 12, keepsRootMode = true }: TreeOptions): void {
  test("an active snapshot is written, a view of it and its parents stay as they were", async (t) => {
    const host = await open(t);
    const base = await chain(host, "l", [(root) => write(root, { "etc/a": "1", "etc/b": "1" })]);
    const before = await committedTree(host, base);
    await host.snapshotter.view("view", base);
    await within(host, await host.snapshotter.prepare("k", base), (root) => {
      write(root, { "etc/a": "2", "etc/c": "2" });
      rmSync(join(root, "etc/b"));
    });
    assert.deepEqual(await treeOf(host, "k"), {
      etc: "dir 755 0:0",
      "etc/a": "file 644 0:0 2",
      "etc/c": "file 644 0:0 2",
    });
    assert.deepEqual(await treeOf(host, "view"), before);
    await within(host, await host.snapshotter.mounts("view"), (root) =>
      assert.throws(() => write(root, { "etc/a": "3" }), { code: "EROFS" }),
    );
  });

  test("views are read-only over no parent, one and several", async (t) => {
    const host = await open(t);
    const top = await chain(host, "l", [(root) => write(root, { a: "1" }), (root) => write(root, { b: "1" })]);
    for (const [key, parent, names] of [
      ["v0", "", []],
      ["v1", "l-0", ["a"]],
      ["v2", top, ["a", "b"]],
    ] as const) {
      await within(host, await host.snapshotter.view(key, parent), (root) => {
        assert.deepEqual(readdirSync(root), names);
        assert.throws(() => writeFileSync(join(root, "x"), ""), { code: "EROFS" });
      });
    }
  });

  test("deleted files and directories stay deleted above, and can come back", async (t) => {
    const host = await open(t);
    const top = await chain(host, "l", [
      (root) => write(root, { "d/x": "1", "d/y": "1", "e/f/g": "1", keep: "1" }),
      (root) => {
        rmSync(join(root, "d/x"));
        rmSync(join(root, "e"), { recursive: true });
      },
      (root) => write(root, { "e/new": "3" }),
      (root) => write(root, { "d/x": "4" }),
    ]);
    const paths = async (name: string): Promise<string[]> => Object.keys(await committedTree(host, name)).sort();
    assert.deepEqual(await paths("l-1"), ["d", "d/y", "keep"]);
    assert.deepEqual(await paths("l-2"), ["d", "d/y", "e", "e/new", "keep"], "e is opaque: f does not come back");
    assert.deepEqual(await paths(top), ["d", "d/x", "d/y", "e", "e/new", "keep"]);
  });

  test("a directory replaces a file, a file a directory, a link either", async (t) => {
    const host = await open(t);
    const replace: Change = (root) => {
      for (const name of ["file", "dir", "other"]) rmSync(join(root, name), { recursive: true });
      write(root, { "file/now": "dir", dir: "now a file" });
      symlinkSync("dir", join(root, "other"));
    };
    const top = await chain(host, "l", [(root) => write(root, { file: "1", "dir/x": "1", "other/y": "1" }), replace]);
    assert.deepEqual(await committedTree(host, top), {
      dir: "file 644 0:0 now a file",
      file: "dir 755 0:0",
      "file/now": "file 644 0:0 dir",
      other: "link 0:0 dir",
    });
  });

  test("files and directories are renamed across layers", async (t) => {
    const host = await open(t);
    const top = await chain(host, "l", [
      (root) => write(root, { "dir/a": "1", "dir/sub/b": "1", file: "1", target: "old" }),
      (root) => {
        move(join(root, "dir"), join(root, "moved"));
        move(join(root, "file"), join(root, "target"));
      },
      (root) => move(join(root, "moved/sub"), join(root, "sub")),
    ]);
    assert.deepEqual(Object.keys(await committedTree(host, top)), ["moved", "moved/a", "sub", "sub/b", "target"]);
    assert.equal((await committedTree(host, top))["target"], "file 644 0:0 1");
  });

  test("owners, modes, times, links, hard links and xattrs come through a child", async (t) => {
    const host = await open(t);
    await layer(host, "base", "", (root) => {
      write(root, { file: "x", "dir/in": "y" });
      linkSync(join(root, "file"), join(root, "hard"));
      symlinkSync("/nowhere", join(root, "link"));
      chmodSync(join(root, "dir"), 0o1777);
      chownSync(join(root, "file"), 1000, 2000);
      chmodSync(join(root, "file"), 0o4750);
      if (host.keepsAttributes !== false) {
        setXattr(join(root, "file"), "security.capability", CAPABILITY);
        setXattr(join(root, "dir"), "user.note", Buffer.from([0x80, 0xff, 0]));
      }
      utimesSync(join(root, "file"), 1_000_000_000.25, 1_500_000_000.5);
    });
    await within(host, await host.snapshotter.prepare("k", "base"), (root) => {
      const info = lstatSync(join(root, "file"));
      const mtimeMs = host.keepsAttributes === false ? 1_500_000_000_000 : 1_500_000_000_500;
      assert.deepEqual([info.mode & 0o7777, info.uid, info.gid, info.mtimeMs], [0o4750, 1000, 2000, mtimeMs]);
      assert.equal(info.ino, lstatSync(join(root, "hard")).ino, "one file with two names");
      assert.equal(info.nlink, 2);
      if (host.keepsAttributes !== false) {
        assert.equal(getXattr(join(root, "file"), "security.capability")?.length, CAPABILITY.length);
        assert.deepEqual(getXattr(join(root, "dir"), "user.note"), Buffer.from([0x80, 0xff, 0]));
      }
      assert.equal(lstatSync(join(root, "dir")).mode & 0o7777, 0o1777);
    });
    assert.equal((await treeOf(host, "k"))["link"], "link 0:0 /nowhere");
  });

  test("the root directory keeps the owner and mode that a layer gave it", async (t) => {
    const host = await open(t);
    await layer(host, "base", "", (root) => {
      chownSync(root, 5, 6);
      chmodSync(root, 0o1711);
    });
    await within(host, await host.snapshotter.prepare("k", "base"), (root) => {
      const { uid, gid, mode } = lstatSync(root);
      assert.deepEqual([uid, gid, keepsRootMode ? mode & 0o7777 : 0], [5, 6, keepsRootMode ? 0o1711 : 0]);
    });
  });

  test(`a chain of ${longChain} layers mounts, writable and as a view`, async (t) => {
    const host = await open(t);
    const changes = Array.from({ length: longChain }, (_, i): Change => {
      return (root) => write(root, { [`f${i}`]: String(i), same: String(i) });
    });
    const top = await chain(host, "layer-with-a-rather-long-name", changes);
    await within(host, await host.snapshotter.prepare("k", top), (root) => {
      assert.equal(readdirSync(root).length, longChain + 1);
      assert.equal(readFileSync(join(root, "same"), "utf8"), String(longChain - 1));
      writeFileSync(join(root, "f0"), "changed");
    });
    await within(host, await host.snapshotter.view("v", top), (root) => {
      assert.equal(readFileSync(join(root, "f0"), "utf8"), "0");
    });
  });

  test("commit gives a layer the parent it was prepared without, where the snapshotter can", async (t) => {
    const host = await open(t);
    const { snapshotter } = host;
    await within(host, await snapshotter.prepare("second", ""), (root) => write(root, { b: "2", same: "2" }));
    await layer(host, "first", "", (root) => write(root, { a: "1", same: "1" }));
    if (!snapshotter.capabilities.rebase) {
      await assert.rejects(snapshotter.commit("top", "second", { parent: "first" }), { code: "UNIMPLEMENTED" });
      return;
    }
    await assert.rejects(snapshotter.commit("top", "second", { parent: "none" }), {
      reason: "SNAPSHOT_PARENT_MISSING",
    });
    await snapshotter.commit("top", "second", { parent: "first" });
    assert.equal((await snapshotter.stat("top")).parent, "first");
    assert.deepEqual(await committedTree(host, "top"), {
      a: "file 644 0:0 1",
      b: "file 644 0:0 2",
      same: "file 644 0:0 2",
    });
    await assert.rejects(snapshotter.remove("first"), { reason: "SNAPSHOT_HAS_CHILDREN" });
    await snapshotter.prepare("third", "first");
    await assert.rejects(snapshotter.commit("x", "third", { parent: "top" }), { code: "INVALID_ARGUMENT" });
    await snapshotter.commit("x", "third", { parent: "first" });
  });

  test("names that are not UTF-8 are counted and removed", async (t) => {
    const host = await open(t);
    await within(host, await host.snapshotter.prepare("k", ""), (root) => {
      const odd = Buffer.concat([Buffer.from(`${root}/d`), Buffer.from([0xff, 0xfe])]);
      mkdirSync(odd);
      writeFileSync(Buffer.concat([odd, Buffer.from("/f"), Buffer.from([0xe9])]), "x");
      assert.equal(existsSync(odd), true);
    });
    const { countsInodes } = host.snapshotter.capabilities;
    assert.equal((await host.snapshotter.usage("k")).inodes, countsInodes ? 3 : 0);
    await host.snapshotter.remove("k");
    await host.snapshotter.cleanup();
    assert.equal(await host.snapshotter.cleanup(), 0);
  });
}
