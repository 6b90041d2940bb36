/** What a snapshotter must do when it is asked for a bound or for other owners: as it says it can, or an error. */
import assert from "node:assert/strict";
import { closeSync, lstatSync, openSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { errnoName } from "@berth/linux";
import { LABELS } from "../options.ts";
import { layer, within, type ConformanceHost } from "./layers.ts";

type OpenHost = (t: TestContext) => Promise<ConformanceHost>;

const MIB = 1 << 20;

/** Writes until it is told to stop; returns how many bytes went in, and why it ended. */
function fill(path: string, atMostBytes: number): { readonly written: number; readonly ended: string } {
  const fd = openSync(path, "w", 0o644);
  const block = Buffer.alloc(64 * 1024, "berth");
  let written = 0;
  try {
    while (written < atMostBytes) written += writeSync(fd, block);
    return { written, ended: "" };
  } catch (error) {
    // Node has no name for EDQUOT.
    return { written, ended: errnoName(-((error as NodeJS.ErrnoException).errno ?? 0)) };
  } finally {
    // Some file systems tell only now.
    try {
      closeSync(fd);
    } catch {
      written += 0;
    }
  }
}

export function boundConformance(open: OpenHost): void {
  test("maxBytes bounds what is written into a snapshot, not what it shares; or is refused", async (t) => {
    const host = await open(t);
    const { snapshotter } = host;
    await layer(host, "base", "", (root) => writeFileSync(join(root, "big"), Buffer.alloc(6 * MIB, "x")));
    const prepare = snapshotter.prepare("k", "base", { maxBytes: 4 * MIB, labels: { a: "1" } });
    if (!snapshotter.capabilities.quota) {
      await assert.rejects(prepare, { code: "UNIMPLEMENTED", reason: "SNAPSHOT_QUOTA_UNSUPPORTED" });
      await assert.rejects(snapshotter.stat("k"), { reason: "SNAPSHOT_MISSING" });
      const labels = { [LABELS.maxSize]: String(4 * MIB) };
      await assert.rejects(snapshotter.prepare("k", "base", { labels }), { reason: "SNAPSHOT_QUOTA_UNSUPPORTED" });
      return;
    }
    const { written, ended } = await within(host, await prepare, (root) => fill(join(root, "f"), 64 * MIB));
    assert.equal(ended, "EDQUOT");
    assert.ok(written <= 5 * MIB && written >= 2 * MIB, `${written} bytes went in`);
    const counted = await snapshotter.countedBytes?.("k");
    assert.ok(counted === undefined || counted <= 4 * MIB, `${counted} bytes are counted`);
    assert.deepEqual((await snapshotter.stat("k")).labels, { a: "1", [LABELS.maxSize]: String(4 * MIB) });
    await snapshotter.prepare("free", "base");
    assert.equal(
      (await within(host, await snapshotter.mounts("free"), (root) => fill(join(root, "f"), 6 * MIB))).ended,
      "",
    );
    await snapshotter.commit("layer", "k");
    const above = await snapshotter.prepare("above", "layer");
    const rest = await within(host, above, (root) => fill(join(root, "g"), 6 * MIB));
    assert.equal(rest.ended, "", "the bound was of the snapshot alone");
  });

  test("a bound that is no number of bytes is refused by its label's name", async (t) => {
    const { snapshotter } = await open(t);
    for (const bad of ["", "0", "-1", "1.5", "10M", "99999999999999999"]) {
      const labels = { [LABELS.maxSize]: bad };
      await assert.rejects(snapshotter.prepare("k", "", { labels }), (error: { code: string; message: string }) => {
        assert.equal(error.code, "INVALID_ARGUMENT", bad);
        return error.message.includes(LABELS.maxSize);
      });
    }
    await assert.rejects(snapshotter.prepare("k", "", { maxBytes: 0 }), { code: "INVALID_ARGUMENT" });
    await snapshotter.prepare("k", "");
    await assert.rejects(snapshotter.update("k", { [LABELS.maxSize]: "10M" }), { code: "INVALID_ARGUMENT" });
    assert.deepEqual((await snapshotter.stat("k")).labels, {});
  });

  test("mapping labels show files with the owners of a user namespace, or are refused", async (t) => {
    const host = await open(t);
    const { snapshotter } = host;
    const labels = { [LABELS.uidMapping]: "0:100000:65536", [LABELS.gidMapping]: "0:200000:65536" };
    await layer(host, "one", "", (root) => writeFileSync(join(root, "f"), "1"));
    await layer(host, "two", "one", (root) => writeFileSync(join(root, "g"), "2"));
    if (!snapshotter.capabilities.idmap) {
      await assert.rejects(snapshotter.prepare("k", "two", { labels }), { reason: "SNAPSHOT_IDMAP_UNSUPPORTED" });
      return;
    }
    await snapshotter.prepare("k", "two", { labels });
    await snapshotter.view("v", "two", { labels });
    await snapshotter.view("w", "one", { labels });
    for (const [key, name] of [
      ["k", "g"],
      ["v", "f"],
      ["w", "f"],
    ] as const) {
      await within(host, await snapshotter.mounts(key), (root) => {
        for (const path of [root, join(root, name)]) {
          const { uid, gid } = lstatSync(path);
          assert.deepEqual([uid, gid], [100_000, 200_000], `${key} ${path}`);
        }
      });
    }
    await within(host, await snapshotter.mounts("k"), (root) => {
      writeFileSync(join(root, "f"), "changed");
      assert.equal(lstatSync(join(root, "f")).uid, 100_000, "also once it is this snapshot's own");
    });
    const bad = { ...labels, [LABELS.gidMapping]: "0:1" };
    await assert.rejects(snapshotter.prepare("bad", "two", { labels: bad }), { code: "INVALID_ARGUMENT" });
    const half = { [LABELS.uidMapping]: "0:100000:65536" };
    await assert.rejects(snapshotter.prepare("bad", "two", { labels: half }), { code: "INVALID_ARGUMENT" });
  });
}
