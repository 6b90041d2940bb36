/**
 * What every snapshotter must do, in the spirit of containerd's core/snapshots/testsuite: the records and their rules.
 * `conformance-trees.ts` has what must be seen through the mounts. Both run against one implementation by {@link
 * snapshotterConformance}.
 */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { suite, test, type TestContext } from "node:test";
import { boundConformance } from "./conformance-bounds.ts";
import { treeConformance } from "./conformance-trees.ts";
import { chain, collected, layer, treeOf, within, type Change, type ConformanceHost } from "./layers.ts";

export type OpenHost = (t: TestContext) => Promise<ConformanceHost>;

export interface ConformanceOptions {
  /** Why the whole suite cannot run here. */
  readonly skip?: string | false;
  /** False where the records are another program's, which counts usage itself and takes what is given at commit for noise. */
  readonly keepsGivenUsage?: boolean;
  /** False where a commit cannot keep the key as its name (containerd's records). */
  readonly commitKeepsName?: boolean;
  /** False where the root directory's mode is lost above a parent (containerd's overlayfs of old). */
  readonly keepsRootMode?: boolean;
  /** How many layers the longest chain has, where their number matters. Default 12. */
  readonly longChain?: number;
}

export function snapshotterConformance(name: string, open: OpenHost, options: ConformanceOptions = {}): void {
  suite(name, { skip: options.skip ?? false }, () => {
    recordConformance(open, options);
    removalConformance(open, options);
    treeConformance(open, options);
    boundConformance(open);
  });
}

const touch =
  (name: string, text = name): Change =>
  (root) =>
    writeFileSync(join(root, name), text);

function recordConformance(open: OpenHost, { commitKeepsName = true }: ConformanceOptions): void {
  test("stat tells active, committed and view apart, and their parents, through the whole chain", async (t) => {
    const host = await open(t);
    const { snapshotter } = host;
    const top = await chain(host, "l", [touch("a"), touch("b"), touch("c")]);
    await snapshotter.prepare("active", top, { labels: { a: "1" } });
    await snapshotter.view("view", top);
    const active = await snapshotter.stat("active");
    assert.deepEqual([active.kind, active.parent, active.labels], ["active", top, { a: "1" }]);
    assert.ok(active.createdAtMs > 0 && active.updatedAtMs === active.createdAtMs);
    assert.deepEqual((await snapshotter.stat("view")).kind, "view");
    const parents: string[] = [];
    for (let name = top; name !== ""; name = (await snapshotter.stat(name)).parent) {
      assert.equal((await snapshotter.stat(name)).kind, "committed");
      parents.push(name);
    }
    assert.deepEqual(parents, ["l-2", "l-1", "l-0"]);
    await assert.rejects(snapshotter.stat("l-0-active"), { code: "NOT_FOUND", reason: "SNAPSHOT_MISSING" });
    await assert.rejects(snapshotter.stat(""), (error: Error) => "code" in error);
  });

  test("update replaces the labels and nothing else; commit does not inherit them", async (t) => {
    const { snapshotter } = await open(t);
    await snapshotter.prepare("k", "", { labels: { a: "1", b: "2" } });
    const before = await snapshotter.stat("k");
    const after = await snapshotter.update("k", { c: 'ü "quoted"' });
    assert.deepEqual(after.labels, { c: 'ü "quoted"' });
    assert.deepEqual({ ...after, labels: 0, updatedAtMs: 0 }, { ...before, labels: 0, updatedAtMs: 0 });
    await snapshotter.commit("layer", "k", { labels: { d: "4" } });
    assert.deepEqual((await snapshotter.stat("layer")).labels, { d: "4" });
    assert.deepEqual((await snapshotter.update("layer", {})).labels, {});
    await assert.rejects(snapshotter.update("none", {}), { reason: "SNAPSHOT_MISSING" });
  });

  test("prepare and view refuse a taken key, and a parent that is absent or not committed", async (t) => {
    const host = await open(t);
    const { snapshotter } = host;
    await layer(host, "base", "", touch("f"));
    await snapshotter.prepare("active", "base");
    for (const create of [snapshotter.prepare.bind(snapshotter), snapshotter.view.bind(snapshotter)]) {
      await assert.rejects(create("active", "base"), { code: "ALREADY_EXISTS", reason: "SNAPSHOT_EXISTS" });
      await assert.rejects(create("base", ""), { code: "ALREADY_EXISTS", reason: "SNAPSHOT_EXISTS" });
      await assert.rejects(create("k", "none"), { code: "NOT_FOUND", reason: "SNAPSHOT_PARENT_MISSING" });
      await assert.rejects(create("k", "active"), { code: "FAILED_PRECONDITION", reason: "SNAPSHOT_PARENT_MISSING" });
      await assert.rejects(create("", "base"), { code: "INVALID_ARGUMENT" });
    }
    assert.equal((await collected(snapshotter.walk())).length, 2, "nothing is left of the failed ones");
  });

  test("of concurrent prepares of one key exactly one wins", async (t) => {
    const { snapshotter } = await open(t);
    const tries = await Promise.allSettled(Array.from({ length: 12 }, () => snapshotter.prepare("same", "")));
    assert.equal(tries.filter((result) => result.status === "fulfilled").length, 1);
    for (const result of tries) {
      if (result.status === "rejected") assert.equal(result.reason.reason, "SNAPSHOT_EXISTS");
    }
    assert.equal(await snapshotter.cleanup(), 0, "the losers took their directories away");
  });

  test("commit refuses a taken name and leaves the active snapshot as it was", async (t) => {
    const host = await open(t);
    const { snapshotter } = host;
    await layer(host, "taken", "", touch("f"));
    await within(host, await snapshotter.prepare("k", "taken"), touch("mine"));
    await snapshotter.prepare("other", "");
    await assert.rejects(snapshotter.commit("taken", "k"), { code: "ALREADY_EXISTS", reason: "SNAPSHOT_EXISTS" });
    await assert.rejects(snapshotter.commit("other", "k"), { code: "ALREADY_EXISTS" });
    assert.equal((await snapshotter.stat("k")).kind, "active");
    assert.deepEqual(Object.keys(await treeOf(host, "k")), ["f", "mine"]);
    await snapshotter.commit("k2", "k");
    await assert.rejects(snapshotter.commit("again", "k"), { code: "NOT_FOUND", reason: "SNAPSHOT_MISSING" });
    await assert.rejects(snapshotter.commit("again", "k2"), { code: "FAILED_PRECONDITION" });
    await snapshotter.view("v", "k2");
    await assert.rejects(snapshotter.commit("again", "v"), { code: "FAILED_PRECONDITION" });
  });

  test("a key can be used again after its commit, and commit may keep the name", async (t) => {
    const { snapshotter } = await open(t);
    await snapshotter.prepare("k", "");
    await snapshotter.commit("a", "k");
    await snapshotter.prepare("k", "a");
    if (!commitKeepsName) return await assert.rejects(snapshotter.commit("k", "k"), { reason: "SNAPSHOT_EXISTS" });
    await snapshotter.commit("k", "k");
    assert.deepEqual([(await snapshotter.stat("k")).kind, (await snapshotter.stat("k")).parent], ["committed", "a"]);
  });

  test("mounts are for active snapshots and views only", async (t) => {
    const host = await open(t);
    await layer(host, "base", "", touch("f"));
    await assert.rejects(host.snapshotter.mounts("base"), { code: "FAILED_PRECONDITION" });
    await assert.rejects(host.snapshotter.mounts("none"), { reason: "SNAPSHOT_MISSING" });
    const made = await host.snapshotter.prepare("k", "base");
    assert.deepEqual(await host.snapshotter.mounts("k"), made);
  });

  test("walk gives parents before children, and filters", async (t) => {
    const host = await open(t);
    const { snapshotter } = host;
    const top = await chain(host, "z", [touch("a"), touch("b")]);
    await layer(host, "a", top, touch("c"));
    await snapshotter.prepare("b", "a");
    await snapshotter.view("0", "z-0");
    const keys = (await collected(snapshotter.walk())).map(({ key }) => key);
    assert.equal(keys.length, 5);
    for (const [child, parent] of [
      ["b", "a"],
      ["a", "z-1"],
      ["z-1", "z-0"],
      ["0", "z-0"],
    ] as const) {
      assert.ok(keys.indexOf(parent) < keys.indexOf(child), `${parent} before ${child}`);
    }
    const children = await collected(snapshotter.walk({ parent: "z-0" }));
    assert.deepEqual(children.map(({ key }) => key).sort(), ["0", "z-1"]);
    assert.deepEqual(
      (await collected(snapshotter.walk({ kind: "view" }))).map(({ key }) => key),
      ["0"],
    );
    assert.deepEqual(await collected(snapshotter.walk({ kind: "view", parent: "a" })), []);
  });
}

function removalConformance(open: OpenHost, { keepsGivenUsage = true }: ConformanceOptions): void {
  test("remove refuses what has children, and takes a chain from its end", async (t) => {
    const host = await open(t);
    const { snapshotter } = host;
    const top = await chain(host, "l", [touch("a"), touch("b")]);
    await snapshotter.view("v", top);
    for (const name of ["l-0", "l-1"]) {
      const expected = { code: "FAILED_PRECONDITION", reason: "SNAPSHOT_HAS_CHILDREN" };
      await assert.rejects(snapshotter.remove(name), expected);
    }
    for (const name of ["v", "l-1", "l-0"]) await snapshotter.remove(name);
    assert.deepEqual(await collected(snapshotter.walk()), []);
    await assert.rejects(snapshotter.remove("v"), { code: "NOT_FOUND", reason: "SNAPSHOT_MISSING" });
    await assert.rejects(snapshotter.mounts("v"), { reason: "SNAPSHOT_MISSING" });
  });

  test("a parent that is removed while a child is prepared leaves both or none", async (t) => {
    const host = await open(t);
    const { snapshotter } = host;
    for (let i = 0; i < 3; i += 1) {
      await layer(host, `p${i}`, "", touch("f"));
      const [removed, prepared] = await Promise.allSettled([
        snapshotter.remove(`p${i}`),
        snapshotter.prepare(`c${i}`, `p${i}`),
      ]);
      assert.notEqual(removed.status, prepared.status);
      if (prepared.status === "fulfilled") assert.ok((await treeOf(host, `c${i}`))["f"]);
    }
  });

  test("usage counts the snapshot without its parents, and a committed one once and for all", async (t) => {
    const host = await open(t);
    const { snapshotter } = host;
    await snapshotter.prepare("empty", "");
    const empty = await snapshotter.usage("empty");
    await layer(host, "base", "", touch("big", "x".repeat(100_000)));
    const base = await snapshotter.usage("base");
    const file = snapshotter.capabilities.countsInodes ? 1 : 0;
    assert.ok(base.sizeBytes >= 100_000 && base.inodes === empty.inodes + file, JSON.stringify({ base, empty }));
    assert.deepEqual(await snapshotter.usage("base"), base);
    await assert.rejects(snapshotter.usage("none"), { reason: "SNAPSHOT_MISSING" });
    if (!keepsGivenUsage) return;
    await snapshotter.prepare("counted", "base");
    await snapshotter.commit("counted", "counted", { usage: { sizeBytes: 7, inodes: 3 } });
    assert.deepEqual(await snapshotter.usage("counted"), { sizeBytes: 7, inodes: 3 });
  });

  test("usage of a child leaves out what it has from its parents, and counts what it changed", async (t) => {
    const host = await open(t);
    const { snapshotter } = host;
    await layer(host, "base", "", (root) => {
      touch("big", "x".repeat(3_000_000))(root);
      touch("other")(root);
    });
    await layer(host, "child", "base", touch("mine", "y".repeat(500_000)));
    const { sizeBytes } = await snapshotter.usage("child");
    // A copy of everything is all its own.
    const least = sizeBytes >= 3_000_000 && !host.sharesWithParents ? 3_500_000 : 500_000;
    assert.ok(sizeBytes >= least && sizeBytes < least + 400_000, String(sizeBytes));
  });

  test("a reopened snapshotter shows the same records and trees", async (t) => {
    const host = await open(t);
    const top = await chain(host, "l", [touch("a"), touch("b")]);
    await within(host, await host.snapshotter.prepare("active", top, { labels: { x: "y" } }), touch("c"));
    await host.snapshotter.view("view", top);
    await host.snapshotter.sync();
    const [records, tree] = [await collected(host.snapshotter.walk()), await treeOf(host, "active")];
    const again = await host.reopen();
    assert.deepEqual(await collected(again.walk()), records);
    assert.deepEqual(await treeOf(host, "active", again), tree);
    await again.prepare("new", top);
    assert.deepEqual(Object.keys(tree), ["a", "b", "c"]);
    assert.equal(await again.cleanup(), 0);
  });

  test("cleanup sweeps a directory without a record and nothing else", async (t) => {
    const host = await open(t);
    if (host.plantOrphan === undefined) return t.skip("its directories are another program's");
    await layer(host, "base", "", touch("f"));
    await host.snapshotter.prepare("active", "base");
    await host.plantOrphan();
    const preparing = Array.from({ length: 8 }, (_, i) => host.snapshotter.prepare(`p${i}`, "base"));
    assert.equal(await host.snapshotter.cleanup(), 1);
    await Promise.all(preparing);
    assert.equal(await host.snapshotter.cleanup(), 0);
    for (const key of ["active", "p0", "p7"]) assert.ok((await treeOf(host, key))["f"], key);
  });

  test("sync may be called by many at once, and disposing twice is harmless", async (t) => {
    const host = await open(t);
    await Promise.all(
      [0, 1, 2, 3].map(async (i) => {
        await layer(host, `l${i}`, "", touch("f"));
        await host.snapshotter.sync();
      }),
    );
    await host.snapshotter[Symbol.asyncDispose]();
    await host.snapshotter[Symbol.asyncDispose]();
  });
}
