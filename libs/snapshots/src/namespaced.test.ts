import assert from "node:assert/strict";
import { readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import type { Metadata } from "@berth/metadata";
import { openNamespacedSnapshots, type NamespacedSnapshots, type NamespacedSnapshotter } from "./namespaced.ts";
import { openOverlayfs } from "./overlayfs/snapshotter.ts";
import type { Snapshotter } from "./snapshotter.ts";
import { directoryHost, type DirectoryHost } from "./testing/host.ts";
import { snapshotterConformance } from "./testing/conformance.ts";
import { collected, within } from "./testing/layers.ts";

const skip = process.getuid?.() === 0 ? false : "needs root";

/** Chain ids, as far as their form goes. */
const id = (digit: string): string => `sha256:${digit.repeat(64)}`;

const overlayfs = (metadata: Metadata, root: string): Promise<Snapshotter> => openOverlayfs({ metadata }, { root });

async function all(t: TestContext): Promise<{ host: DirectoryHost; spaces: NamespacedSnapshots }> {
  const host = await directoryHost(t, { on: "tmpfs", open: overlayfs });
  return { host, spaces: await openNamespacedSnapshots(host) };
}

/** Prepares, writes one file, and commits as verified. */
async function unpack(host: DirectoryHost, view: NamespacedSnapshotter, name: string, parent: string): Promise<void> {
  const mounts = await view.prepare(`extract ${name}`, parent);
  await within(host, mounts, (root) => writeFileSync(join(root, `by-${view.namespace}`), ""));
  await view.commit(name, `extract ${name}`, { verified: true });
}

const keys = async (view: Snapshotter): Promise<string[]> =>
  (await collected(view.walk())).map(({ key }) => key).sort();

snapshotterConformance(
  "namespaced overlayfs",
  (t) =>
    directoryHost(t, {
      on: "tmpfs",
      async open(metadata, root) {
        const snapshotter = await overlayfs(metadata, root);
        const spaces = await openNamespacedSnapshots({ snapshotter, metadata });
        const neighbour = spaces.namespace("bank");
        // A neighbour with the suite's own keys must not be noticed.
        if ((await keys(neighbour)).length === 0) {
          for (const key of ["k", "base", "active", "l-0", "view"]) await neighbour.prepare(key, "");
        }
        // The suite disposes what it was given; the view owns nothing, so this one takes the snapshotter along.
        return Object.assign(spaces.namespace("shop"), {
          [Symbol.asyncDispose]: () => snapshotter[Symbol.asyncDispose](),
        });
      },
    }),
  { skip },
);

test("keys of one namespace are unknown to every other", { skip }, async (t) => {
  const { spaces } = await all(t);
  const [shop, bank] = [spaces.namespace("shop"), spaces.namespace("bank")];
  await shop.prepare("web", "", { labels: { a: "shop" } });
  await bank.prepare("web", "", { labels: { a: "bank" } });
  await shop.commit("layer", "web");
  assert.deepEqual([await keys(shop), await keys(bank)], [["layer"], ["web"]]);
  await assert.rejects(bank.prepare("x", "layer"), { reason: "SNAPSHOT_PARENT_MISSING" });
  await assert.rejects(bank.stat("layer"), { message: 'snapshot "layer": does not exist' });
  assert.deepEqual((await bank.stat("web")).labels, { a: "bank" });
  for (const bad of ["", "a/b"]) assert.throws(() => spaces.namespace(bad), { code: "INVALID_ARGUMENT" });
});

test(
  "a verified layer is on disk once, and each namespace's only after its own commit or a grant (D7)",
  { skip },
  async (t) => {
    const { host, spaces } = await all(t);
    const [shop, bank, cafe] = ["shop", "bank", "cafe"].map((name) => spaces.namespace(name)) as [
      NamespacedSnapshotter,
      NamespacedSnapshotter,
      NamespacedSnapshotter,
    ];
    await unpack(host, shop, id("a"), "");
    await unpack(host, shop, id("b"), id("a"));
    await assert.rejects(bank.stat(id("a")), { code: "NOT_FOUND" });
    await assert.rejects(bank.prepare("k", id("a")), { reason: "SNAPSHOT_PARENT_MISSING" });
    assert.deepEqual(await keys(bank), []);
    await unpack(host, bank, id("a"), "");
    await host.snapshotter.cleanup();
    assert.equal(readdirSync(join(host.root, "snapshots")).length, 2, "the second copy was given up");
    assert.equal(await cafe.share(id("c")), false);
    assert.equal(await cafe.share("web"), false);
    assert.equal(await cafe.share(id("b")), true);
    assert.deepEqual([await keys(bank), await keys(cafe)], [[id("a")], [id("a"), id("b")]]);
    await cafe.update(id("b"), { mine: "yes" });
    assert.deepEqual([(await cafe.stat(id("b"))).labels, (await shop.stat(id("b"))).labels], [{ mine: "yes" }, {}]);
    await within(host, await cafe.prepare("web", id("b")), (root) => assert.deepEqual(readdirSync(root), ["by-shop"]));
  },
);

test("what a tenant merely calls by a chain id never becomes another's", { skip }, async (t) => {
  const { host, spaces } = await all(t);
  const [evil, shop] = [spaces.namespace("evil"), spaces.namespace("shop")];
  await evil.prepare("k", "");
  await evil.commit(id("a"), "k");
  assert.equal(await shop.share(id("a")), false);
  // Verified, but on a parent that is not: it stays private as well.
  await unpack(host, evil, id("b"), id("a"));
  assert.equal(await shop.share(id("b")), false);
  await unpack(host, shop, id("a"), "");
  await within(host, await shop.view("v", id("a")), (root) => assert.deepEqual(readdirSync(root), ["by-shop"]));
  assert.deepEqual(await keys(evil), [id("a"), id("b")]);
  assert.equal((await evil.stat(id("b"))).parent, id("a"));
});

test("a shared layer goes when the last namespace lets go and nothing is built on it", { skip }, async (t) => {
  const { host, spaces } = await all(t);
  const [shop, bank] = [spaces.namespace("shop"), spaces.namespace("bank")];
  await unpack(host, shop, id("a"), "");
  await unpack(host, shop, id("b"), id("a"));
  await bank.share(id("b"));
  await bank.prepare("web", id("b"));
  await assert.rejects(shop.remove(id("a")), { reason: "SNAPSHOT_HAS_CHILDREN" });
  await shop.remove(id("b"));
  await shop.remove(id("a"));
  assert.deepEqual(await keys(host.snapshotter), ["bank/web", id("a"), id("b")]);
  await assert.rejects(bank.remove(id("b")), { reason: "SNAPSHOT_HAS_CHILDREN" });
  await bank.remove("web");
  await bank.remove(id("b"));
  assert.deepEqual(await keys(host.snapshotter), [id("a")]);
  await bank.remove(id("a"));
  assert.deepEqual(await keys(host.snapshotter), []);
  await assert.rejects(bank.remove(id("a")), { reason: "SNAPSHOT_MISSING" });
});

test("a name is taken by a key of one's own and by a grant alike", { skip }, async (t) => {
  const { host, spaces } = await all(t);
  const [shop, bank] = [spaces.namespace("shop"), spaces.namespace("bank")];
  await unpack(host, shop, id("a"), "");
  await assert.rejects(unpack(host, shop, id("a"), ""), { code: "ALREADY_EXISTS" });
  await assert.rejects(shop.prepare(id("a"), ""), { code: "ALREADY_EXISTS" });
  await bank.prepare(id("a"), "");
  await assert.rejects(unpack(host, bank, id("a"), ""), { code: "ALREADY_EXISTS" });
  await bank.commit(id("a"), id("a"), { verified: true });
  assert.equal((await bank.stat(id("a"))).kind, "committed");
});

test("openNamespacedSnapshots mends what a crash left between layer and grant", { skip }, async (t) => {
  const { host, spaces } = await all(t);
  const shop = spaces.namespace("shop");
  await unpack(host, shop, id("a"), "");
  await unpack(host, shop, id("b"), id("a"));
  await spaces.refs.drop("shop", id("b")); // as if the agent had died before the grant was written
  await spaces.refs.add("shop", [id("c")], 1); // as if a power cut had taken the layer
  const again = (await openNamespacedSnapshots(host)).namespace("shop");
  assert.deepEqual(await keys(again), [id("a")]);
  assert.deepEqual(await keys(host.snapshotter), [id("a")]);
  await assert.rejects(again.stat(id("c")), { reason: "SNAPSHOT_MISSING" });
});

test("concurrent commits, grants and removals of one layer leave no dangling grant", { skip }, async (t) => {
  const { host, spaces } = await all(t);
  for (let round = 0; round < 4; round += 1) {
    const views = ["a", "b", "c", "d"].map((name) => spaces.namespace(name));
    await Promise.all(views.map((view) => unpack(host, view, id("a"), "")));
    const outcomes = await Promise.all([
      ...views.map(async (view) => view.remove(id("a"))),
      spaces.namespace("late").share(id("a")),
    ]);
    const late = outcomes.at(-1) === true;
    assert.deepEqual(await keys(host.snapshotter), late ? [id("a")] : []);
    assert.deepEqual(await keys(spaces.namespace("late")), late ? [id("a")] : []);
    if (late) await spaces.namespace("late").remove(id("a"));
  }
});
