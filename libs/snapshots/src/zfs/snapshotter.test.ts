import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test, type TestContext } from "node:test";
import { isMountPoint, unmountAll } from "@berth/linux";
import type { Metadata } from "@berth/metadata";
import type { Snapshotter } from "../snapshotter.ts";
import { snapshotterConformance } from "../testing/conformance.ts";
import { directoryHost, type DirectoryHost } from "../testing/host.ts";
import { chain, collected, committedTree, layer, within } from "../testing/layers.ts";
import { randomOperations } from "../testing/random.ts";
import { startZfsPool } from "../testing/zfs-pool.ts";
import { datasetAt, Datasets, zfs } from "./datasets.ts";
import { probe } from "./probe.ts";
import { openZfs } from "./snapshotter.ts";

const started = await startZfsPool();
const pool = typeof started === "string" ? undefined : started;
const skip = typeof started === "string" ? started : false;
after(() => pool?.[Symbol.asyncDispose]());

let count = 0;

const openIt = (metadata: Metadata, root: string): Promise<Snapshotter> => openZfs({ metadata }, { root });

/** Records lie beside the data set; that is what `root` is. */
async function host(t: TestContext): Promise<DirectoryHost> {
  const at = pool!.dataset(`root-${(count += 1)}`);
  const open = { on: "tmpfs", root: at, open: openIt } as const;
  const made = await directoryHost(t, open);
  return Object.defineProperty(made, "keepsAttributes", { value: datasetAt(at)?.kind === "kernel" });
}

snapshotterConformance("zfs", host, { skip });

test("zfs agrees with the model under random operations", { skip }, async (t) => {
  await randomOperations(await host(t), { seed: 21, operations: 60 });
});

test("openZfs makes a data set a snapshot, and destroys it with its record", { skip }, async (t) => {
  const at = await host(t);
  const { dataset, kind } = datasetAt(at.root)!;
  const datasets = new Datasets(dataset, kind);
  const top = await chain(at, "l", [(root) => writeFileSync(join(root, "a"), "1"), () => {}]);
  await at.snapshotter.prepare("k", top);
  assert.deepEqual([...(await datasets.ids())].sort(), ["1", "2", "3"]);
  assert.equal((await zfs("get", "-H", "-o", "value", "origin", `${dataset}/2`)).trim(), `${dataset}/1@snapshot`);
  for (const key of ["k", top, "l-0"]) await at.snapshotter.remove(key);
  await at.snapshotter.cleanup();
  assert.deepEqual([await datasets.ids(), readdirSync(join(at.root, "trash"))], [[], []]);
});

test("a data set without a record is swept, a record without its data set dropped", { skip }, async (t) => {
  const at = await host(t);
  const { dataset, kind } = datasetAt(at.root)!;
  await layer(at, "base", "", (root) => writeFileSync(join(root, "a"), "1"));
  await layer(at, "lost", "base", () => {});
  await zfs("create", "-o", "mountpoint=none", `${dataset}/77`);
  await new Datasets(dataset, kind).destroy("2");
  await at.reopen();
  assert.deepEqual(
    (await collected(at.snapshotter.walk())).map(({ key }) => key),
    ["base"],
  );
  assert.equal(await at.snapshotter.cleanup(), 2);
  assert.deepEqual(await new Datasets(dataset, kind).ids(), ["1"]);
  assert.deepEqual(Object.keys(await committedTree(at, "base")), ["a"]);
});

test("a snapshot left by a commit that a crash cut short is taken anew", { skip }, async (t) => {
  const at = await host(t);
  const { dataset } = datasetAt(at.root)!;
  await at.snapshotter.prepare("k", "");
  await zfs("snapshot", `${dataset}/1@snapshot`);
  await within(at, await at.snapshotter.mounts("k"), (root) => writeFileSync(join(root, "later"), ""));
  await at.snapshotter.commit("layer", "k");
  assert.deepEqual(Object.keys(await committedTree(at, "layer")), ["later"]);
});

test("mounts mounts again what the daemon has lost", { skip }, async (t) => {
  const at = await host(t);
  if (datasetAt(at.root)?.kind !== "fuse") return t.skip("zfs in the kernel: whoever wants it mounts it");
  await layer(at, "base", "", (root) => writeFileSync(join(root, "a"), "1"));
  const [mount] = await at.snapshotter.prepare("k", "base");
  unmountAll(mount!.source);
  assert.deepEqual(await at.snapshotter.mounts("k"), [mount]);
  assert.ok(isMountPoint(mount!.source));
});

test("probe wants a data set of the snapshotter's own", async (t) => {
  const elsewhere = mkdtempSync(join(tmpdir(), "berth-probe-"));
  t.after(() => rmSync(elsewhere, { recursive: true }));
  const answer = await probe(elsewhere);
  assert.match(answer.usable ? "" : answer.reason, /no zfs data set is mounted at .* \(make one: zfs create /);
  if (pool === undefined) return t.diagnostic(String(skip));
  const at = pool.dataset("probed");
  assert.deepEqual(await probe(at), { usable: true });
  assert.deepEqual(readdirSync(at), []);
});
