import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { mount } from "@berth/linux";
import { directoryHost, type DirectoryHost } from "../testing/host.ts";
import { snapshotterConformance } from "../testing/conformance.ts";
import { layer } from "../testing/layers.ts";
import { randomOperations } from "../testing/random.ts";
import { probe } from "./probe.ts";
import { openNative } from "./snapshotter.ts";

const skip = process.getuid?.() === 0 ? false : "needs root";

const host = (t: TestContext): Promise<DirectoryHost> =>
  directoryHost(t, { on: "tmpfs", open: (metadata, root) => openNative({ metadata }, { root }) });

snapshotterConformance("native", host, { skip });

test("native agrees with the model under random operations", { skip }, async (t) => {
  await randomOperations(await host(t), { seed: 4, operations: 120 });
});

test("prepare says that the disk is full, and leaves nothing", { skip }, async (t) => {
  const at = await directoryHost(t, {
    on: "tmpfs",
    open: (metadata, root) => {
      mkdirSync(root, { recursive: true });
      mount({ type: "tmpfs", source: "tmpfs", target: root, options: ["size=4m"] });
      return openNative({ metadata }, { root });
    },
  });
  await layer(at, "base", "", (root) => writeFileSync(join(root, "big"), Buffer.alloc(3 << 20)));
  await assert.rejects(at.snapshotter.prepare("k", "base"), {
    code: "RESOURCE_EXHAUSTED",
    reason: "SNAPSHOT_DISK_FULL",
  });
  assert.equal(await at.snapshotter.cleanup(), 0);
  await at.snapshotter.prepare("small", "");
});

test("probe wants a writable directory and cp", async (t) => {
  const { root } = await host(t);
  assert.deepEqual(probe(root), { usable: true });
  const answer = probe(root, "/nonexistent:/also-not");
  assert.match(answer.usable ? "" : answer.reason, /no cp/);
});
