/**
 * Layers extracted apart and put on their chain (overlayfs), against the same layers extracted one over the other (native),
 * and against what umoci makes of the image.
 */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { seededRandom } from "@berth/base";
import { startDockerRegistry, type DockerRegistry } from "@berth/registry/testing";
import { startTestHost, type TestHost } from "./testing/host.ts";
import { buildImage, pushImage, type BuiltImage } from "./testing/image.ts";
import { buildTar, type TarInput } from "./testing/tar.ts";
import { hasUmoci, unpackWithUmoci } from "./testing/tools.ts";
import { describeTree } from "./testing/tree.ts";

const ROUNDS = 6 * Number(process.env["BERTH_SOAK_FACTOR"] ?? 1);

let registry: DockerRegistry;
let host: TestHost;
before(async () => {
  registry = await startDockerRegistry();
  host = await startTestHost({ hosts: [{ host: registry.host, plainHttp: true }] });
});
after(async () => {
  await host[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
});

type Tree = Record<string, string>;

const file = (name: string, data = name, more: Partial<TarInput> = {}): TarInput => ({ name, data, ...more });
const directory = (name: string, mode = 0o755, more: Partial<TarInput> = {}): TarInput => ({
  name: `${name}/`,
  type: "5",
  mode,
  ...more,
});
const gone = (name: string): TarInput => file(name.replace(/([^/]+)$/, ".wh.$1"), "");

let pushed = 0;

async function publish(layers: readonly (readonly TarInput[])[]): Promise<{ image: BuiltImage; name: string }> {
  const image = buildImage({ layers: layers.map((entries) => ({ tar: buildTar(entries) })) });
  const tag = `v${(pushed += 1)}`;
  await pushImage(registry, "parallel/app", tag, image);
  return { image, name: `${registry.host}/parallel/app:${tag}` };
}

async function treeOf(name: string, snapshotter: string): Promise<Tree> {
  const { chainId } = await host.images.pull({ namespace: "shop", image: name, snapshotter });
  return await host.look("shop", snapshotter, chainId, (root) => describeTree(root, { directoryTimes: false }));
}

/** The image as both snapshotters have it, which must be the same. */
async function agreed(layers: readonly (readonly TarInput[])[]): Promise<Tree> {
  const { name } = await publish(layers);
  const [apart, inOrder] = [await treeOf(name, "overlayfs"), await treeOf(name, "native")];
  assert.deepEqual(apart, inOrder);
  assert.deepEqual(await host.leavings(), []);
  for await (const { key, kind } of host.snapshotters["overlayfs"]!.snapshotter.walk()) {
    assert.equal(kind, "committed", `${key} is left`);
  }
  return apart;
}

const BASE = [
  directory("usr/lib", 0o755, { uid: 5 }),
  file("usr/lib/libc.so", "libc", { mode: 0o4755, uid: 7, pax: { "SCHILY.xattr.user.note": "kept" } }),
  { name: "lib", type: "2", linkName: "usr/lib" },
  directory("tmp", 0o1777),
  directory("etc", 0o750, { uid: 3, gid: 4, pax: { "SCHILY.xattr.user.mark": "etc" } }),
  file("etc/passwd"),
  directory("opt/app/old"),
  file("opt/app/old/file"),
];

test("pull puts layers apart on their chain: usrmerge, sticky /tmp, lower hard links, deletions", async () => {
  const tree = await agreed([
    BASE,
    [file("lib/added.so"), file("tmp/left")],
    [
      { name: "etc/libc", type: "1", linkName: "usr/lib/libc.so" },
      { name: "etc/libc2", type: "1", linkName: "etc/libc" },
      file("etc/new/deep"),
    ],
    [gone("opt/app"), file("usr/bin/tool")],
    [directory("opt/app"), file("opt/app/fresh")],
    [directory("opt/app"), file("opt/app/.wh..wh..opq", ""), file("opt/app/last")],
  ]);
  assert.ok(tree["usr/lib/added.so"], "lies where the link leads");
  assert.match(tree["lib"]!, /^symlink .* usr\/lib$/);
  assert.match(tree["tmp"]!, /^directory 1777 0:0/);
  assert.match(tree["etc"]!, /^directory 750 3:4 user\.mark=/);
  assert.match(tree["etc/new"]!, /^directory 755 0:0/);
  assert.match(tree["etc/libc"]!, /^file 4755 7:0 .*user\.note=.* libc = etc\/libc$/);
  assert.match(tree["etc/libc2"]!, / = etc\/libc$/);
  assert.match(tree["usr/lib/libc.so"]!, / = etc\/libc$/, "the target is one file with its links");
  assert.deepEqual(
    Object.keys(tree)
      .filter((path) => path.startsWith("opt"))
      .sort(),
    ["opt", "opt/app", "opt/app/last"],
  );
});

test("pull turns a file into a directory and back over layers that are extracted apart", async () => {
  const tree = await agreed([
    [file("a"), directory("b"), file("b/x")],
    [directory("a"), file("a/in")],
    [file("a", "again"), file("b", "file")],
    [directory("b"), file("b/y")],
  ]);
  assert.deepEqual(Object.keys(tree).sort(), ["a", "b", "b/y"]);
});

test("pull refuses, on both, a link to what no layer has and a path through a file", async () => {
  for (const bad of [{ name: "x", type: "1", linkName: "nowhere" }, file("etc/passwd/x")]) {
    const { name } = await publish([BASE, [bad]]);
    for (const snapshotter of ["overlayfs", "native"]) {
      const pulling = host.images.pull({ namespace: "shop", image: name, snapshotter });
      await assert.rejects(pulling, { reason: "LAYER_INVALID" });
    }
    assert.deepEqual(await host.leavings(), []);
  }
});

test("pull of an image of 30 tiny layers, and of one layer twice", async () => {
  const layers = Array.from({ length: 30 }, (_, i) => [file(`d${i % 3}/f${i}`)]);
  const tree = await agreed([...layers, layers[0]!, layers[0]!]);
  assert.equal(Object.keys(tree).length, 33);
});

test(
  "pull agrees with umoci on random images (seeded)",
  { skip: hasUmoci ? false : "umoci is not installed" },
  async () => {
    const seed = 20_261_125;
    const random = seededRandom(seed);
    const int = (below: number): number => Math.floor(random() * below);
    for (let round = 0; round < ROUNDS; round += 1) {
      const image = randomLayers(int);
      const { image: built, name } = await publish(image);
      const dir = await mkdtemp(join(tmpdir(), "berth-umoci-"));
      try {
        const [apart, inOrder] = [await treeOf(name, "overlayfs"), await treeOf(name, "native")];
        assert.deepEqual(apart, inOrder, `seed ${seed}, round ${round}`);
        const theirs = describeTree(unpackWithUmoci(built, dir), { directoryTimes: false });
        assert.deepEqual(withoutLinks(apart), withoutLinks(theirs), `seed ${seed}, round ${round}`);
      } finally {
        await rm(dir, { recursive: true });
      }
    }
  },
);

/** An overlay gives a lower file that is linked anew an inode of its own, which its other lower names do not share. */
function withoutLinks(tree: Tree): Tree {
  return Object.fromEntries(Object.entries(tree).map(([path, line]) => [path, line.replace(/ = \S+$/, "")]));
}

/** Layers as tools make them: a deletion names what is there, a link's target exists, an opaque marker comes first. */
function randomLayers(int: (below: number) => number): TarInput[][] {
  /** What the image has so far. */
  const there = new Map<string, "file" | "directory">();
  const pick = <T>(values: readonly T[]): T => values[int(values.length)]!;
  const drop = (path: string): void => {
    for (const known of there.keys()) if (known === path || known.startsWith(`${path}/`)) there.delete(known);
  };
  const name = (): string => Array.from({ length: 1 + int(3) }, () => pick(["a", "b", "c", "d"])).join("/");
  const fits = (path: string): boolean =>
    path.split("/").every((_, i, parts) => i === 0 || there.get(parts.slice(0, i).join("/")) !== "file");
  const layers: TarInput[][] = [];
  for (let layer = 0; layer < 2 + int(5); layer += 1) {
    const own = new Set<string>();
    const entries: TarInput[] = [];
    const put = (path: string, kind: "file" | "directory", entry: TarInput): void => {
      for (let at = path.indexOf("/"); at > 0; at = path.indexOf("/", at + 1))
        there.set(path.slice(0, at), "directory");
      if (kind === "file") drop(path);
      there.set(path, kind);
      own.add(path);
      entries.push(entry);
    };
    const untouched = (path: string): boolean =>
      ![...own].some((known) => known === path || known.startsWith(`${path}/`) || path.startsWith(`${known}/`));
    for (let i = 0; i < 2 + int(8); i += 1) {
      const path = name();
      const owner = { uid: int(4), gid: int(4), mtime: 1_500_000_000 + int(1000) };
      const files = [...there.keys()].filter((known) => there.get(known) === "file");
      const kind = int(8);
      if (kind === 0 && there.has(path) && untouched(path)) {
        drop(path);
        own.add(path);
        entries.push(gone(path));
      } else if (kind === 1 && there.get(path) === "directory" && untouched(path)) {
        drop(path);
        put(path, "directory", directory(path, 0o711, owner));
        entries.push(file(`${path}/.wh..wh..opq`, ""));
      } else if (kind === 2 && files.length > 0 && fits(path) && !there.has(path)) {
        put(path, "file", { name: path, type: "1", linkName: pick(files) });
      } else if (kind < 5 && fits(path) && (there.get(path) !== "file" || untouched(path))) {
        if (there.get(path) === "file") drop(path);
        put(path, "directory", directory(path, pick([0o755, 0o1777, 0o700]), owner));
      } else if (fits(path) && (there.get(path) !== "directory" || untouched(path))) {
        put(path, "file", file(path, `${int(1000)}`, { ...owner, mode: pick([0o644, 0o4755]) }));
      }
    }
    layers.push(entries);
  }
  return layers;
}
