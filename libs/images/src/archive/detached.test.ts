/** Detached layers put on their chain, compared with the same layers extracted over the mounted chain. */
import assert from "node:assert/strict";
import { closeSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { seededRandom, StatusError } from "@berth/base";
import { getXattr, mount, openDirectory, unmount } from "@berth/linux";
import { buildTar, type TarInput } from "../testing/tar.ts";
import { describeTree } from "../testing/tree.ts";
import { TreeWriter } from "./apply.ts";
import type { DetachedNotes } from "./detached-notes.ts";
import { linkMissing, mendUpper, rebaseObstacle } from "./rebase.ts";
import { TarReader } from "./reader.ts";

const ROUNDS = 100 * Number(process.env["BERTH_SOAK_FACTOR"] ?? 1);

let folder: string;
let made = 0;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "berth-detached-"));
  mount({ source: "tmpfs", target: folder, type: "tmpfs", options: [] });
});
afterEach(() => {
  unmount(folder, { detach: true });
  rmSync(folder, { recursive: true });
});

type Entries = readonly TarInput[];

function newFolder(): string {
  const path = join(folder, `${(made += 1)}`);
  mkdirSync(path);
  return path;
}

function write(root: string, entries: Entries, mode: "base" | "merged" | "detached"): DetachedNotes | undefined {
  const fd = openDirectory(root);
  try {
    using writer = new TreeWriter(fd, { mode });
    const reader = new TarReader(writer);
    reader.push(buildTar(entries));
    reader.end();
    writer.finish();
    return writer.notes();
  } finally {
    closeSync(fd);
  }
}

/** Runs with the layers mounted, the last one on top being written to. */
function mounted<T>(lower: readonly string[], upper: string, run: (root: string) => T): T {
  const [target, workdir] = [newFolder(), newFolder()];
  const lowerdir = [...lower].reverse().join(":");
  const options = [`lowerdir=${lowerdir}`, `upperdir=${upper}`, `workdir=${workdir}`];
  mount({ source: "overlay", target, type: "overlay", options });
  try {
    return run(target);
  } finally {
    unmount(target);
  }
}

interface Outcome {
  readonly tree: Record<string, string> | string;
  readonly redone: boolean;
}

/** What a pull does with a layer that was written apart. */
function rebased(lower: readonly string[], entries: Entries): Outcome {
  const upper = newFolder();
  const notes = orRefused(() => write(upper, entries, "detached")!);
  // It may have gone astray where directories were only assumed: what counts is what the chain makes of it.
  if (notes === undefined) return { tree: merged(lower, entries), redone: true };
  const obstacle = mounted(lower, newFolder(), (root) => {
    using below = opened(root);
    const found = rebaseObstacle(notes, below.fd);
    using own = opened(upper);
    if (found === undefined) mendUpper(notes, below.fd, own.fd);
    return found;
  });
  if (obstacle !== undefined) return { tree: merged(lower, entries), redone: true };
  const tree = mounted(lower, upper, (root) => {
    using view = opened(root);
    linkMissing(notes, view.fd);
    return describeTree(root, { directoryTimes: false });
  });
  return { tree, redone: false };
}

function opened(path: string): Disposable & { readonly fd: number } {
  const fd = openDirectory(path);
  return { fd, [Symbol.dispose]: () => closeSync(fd) };
}

function merged(lower: readonly string[], entries: Entries): Outcome["tree"] {
  return mounted(lower, newFolder(), (root) => {
    write(root, entries, "merged");
    return describeTree(root, { directoryTimes: false });
  });
}

function orRefusal(run: () => Outcome): Outcome {
  return orRefused(run) ?? { tree: "refused", redone: false };
}

function orRefused<T>(run: () => T): T | undefined {
  try {
    return run();
  } catch (error) {
    assert.ok(error instanceof StatusError && error.reason === "LAYER_INVALID", String(error));
    return undefined;
  }
}

const file = (name: string, data = name, more: Partial<TarInput> = {}): TarInput => ({ name, data, ...more });
const directory = (name: string, mode = 0o755): TarInput => ({ name: `${name}/`, type: "5", mode });
const symlink = (name: string, linkName: string): TarInput => ({ name, type: "2", linkName });
const hard = (name: string, linkName: string): TarInput => ({ name, type: "1", linkName });
const gone = (name: string): TarInput => file(name.replace(/([^/]+)$/, ".wh.$1"), "");
const opaque = (name: string): TarInput => file(name === "" ? ".wh..wh..opq" : `${name}/.wh..wh..opq`, "");

const BASE: Entries = [
  directory("usr/lib"),
  file("usr/lib/libc.so"),
  symlink("lib", "usr/lib"),
  { ...directory("tmp", 0o1777), pax: { "SCHILY.xattr.user.note": "below" } },
  directory("d"),
  file("d/old"),
  directory("d/sub"),
  file("d/sub/old"),
  file("f", "lower"),
];

const cases: Record<string, { entries: Entries; redone?: boolean; check?: (tree: Record<string, string>) => void }> = {
  "a sticky /tmp that only a file lies in": {
    entries: [file("tmp/new")],
    check: (tree) => assert.match(tree["tmp"]!, /directory 1777 0:0 user.note=/),
  },
  "the usrmerge link": { entries: [file("lib/new")], redone: true },
  "a hard link to a lower file": { entries: [hard("h", "f"), hard("h2", "h"), hard("d/h3", "/usr/lib/libc.so")] },
  "a hard link to a lower file through a lower link": { entries: [hard("h", "/lib/libc.so")], redone: true },
  "a hard link to a lower file of its own later on": { entries: [hard("h", "f"), file("f", "mine")], redone: true },
  "a hard link over a lower directory": { entries: [hard("d", "f")] },
  "a hard link whose target is gone": { entries: [gone("f"), hard("h", "f")] },
  "a hard link whose target never was": { entries: [hard("h", "never")] },
  "a whiteout of a lower directory": { entries: [gone("d")] },
  "a whiteout, then a directory": { entries: [gone("d"), directory("d"), file("d/new")] },
  "a whiteout, then a directory that no entry describes": { entries: [gone("d"), file("d/sub/new")] },
  "a whiteout, then a file": { entries: [gone("d"), file("d")] },
  "a directory, then its whiteout": { entries: [directory("d", 0o700), file("d/new"), gone("d")] },
  "a file, then its whiteout": { entries: [file("f", "mine"), gone("f"), file("d/old", "mine"), gone("d/old")] },
  "an opaque marker first": { entries: [directory("d"), opaque("d"), file("d/new"), file("d/sub/new")] },
  "an opaque marker last": { entries: [directory("d"), directory("d/sub"), file("d/sub/new"), opaque("d")] },
  "an opaque marker of a directory that no entry describes": { entries: [opaque("d"), file("d/new")] },
  "a whiteout of what never was, in a directory of its own": { entries: [directory("n"), gone("n/x"), gone("m/y")] },
  "whiteouts in a directory that becomes opaque": { entries: [gone("d/old"), gone("d/sub/old"), opaque("d")] },
  "a directory beneath one that takes a link's place": {
    entries: [directory("lib"), file("lib/new"), file("lib/a/b")],
  },
  "an opaque root": { entries: [opaque(""), file("new")], redone: true },
  "a directory made a file and back": { entries: [directory("d"), file("d"), directory("d"), file("d/new")] },
  "a file in place of a lower directory": { entries: [file("d", "now a file")] },
  "a directory in place of a lower file and of a lower link": {
    entries: [directory("f"), file("f/x"), directory("lib")],
  },
  "a path through a lower file": { entries: [file("f/x")], redone: true },
  "a link of the layer to a lower directory": { entries: [symlink("d2", "d/sub"), file("d2/new"), gone("d2/old")] },
  "a link of the layer through a lower link": { entries: [symlink("l", "lib/../x"), file("l/new")], redone: true },
};

for (const [name, { entries, redone = false, check }] of Object.entries(cases)) {
  test(`TreeWriter writes detached what it writes merged: ${name}`, () => {
    const base = newFolder();
    write(base, BASE, "base");
    const want = orRefusal(() => ({ tree: merged([base], entries), redone }));
    const got = orRefusal(() => rebased([base], entries));
    assert.deepEqual(got.tree, want.tree);
    if (want.tree !== "refused") assert.equal(got.redone, redone);
    if (typeof got.tree !== "string") check?.(got.tree);
  });
}

test("TreeWriter notes what a detached layer leaves open, by where it really lies", () => {
  const root = newFolder();
  const notes = write(
    root,
    [
      symlink("run", "var/run"),
      file("run/x/pid"),
      file("b/c/f"),
      directory("b"),
      hard("b/link", "./etc//passwd"),
      file("k/gone/f"),
      file("k", ""),
    ],
    "detached",
  );
  assert.deepEqual(structuredClone(notes), {
    inventedDirectories: ["var", "var/run", "var/run/x", "b/c"],
    assumedDirectories: ["b", "k", "k/gone"],
    whiteoutDirectories: ["b"],
    missingLinks: [{ path: "b/link", target: "etc/passwd" }],
    needsMerged: undefined,
  });
  assert.equal(write(newFolder(), [], "merged"), undefined);
});

test("TreeWriter marks opaque directories for userxattr where asked", () => {
  const root = newFolder();
  const fd = openDirectory(root);
  using writer = new TreeWriter(fd, { mode: "detached", overlayXattrs: "user" });
  new TarReader(writer).push(buildTar([directory("d"), opaque("d")]));
  assert.equal(getXattr(join(root, "d"), "user.overlay.opaque")?.toString(), "y");
  assert.deepEqual(readdirSync(join(root, "d")), []);
  closeSync(fd);
});

test("TreeWriter writes detached what it writes merged, for random chains (seeded)", () => {
  const seed = 20_261_103;
  const random = seededRandom(seed);
  const int = (below: number): number => Math.floor(random() * below);
  const pick = <T>(values: readonly T[]): T => values[int(values.length)]!;
  const name = (): string => Array.from({ length: 1 + int(3) }, () => pick(["a", "b", "c"])).join("/");
  const entry = (): TarInput => {
    const modes = [0o755, 0o1777, 0o700];
    switch (int(9)) {
      case 0:
      case 1:
        return directory(name(), pick(modes));
      case 2:
        return symlink(name(), pick(["a", "b", "../a", "/b/c", "c/../a", "nowhere"]));
      case 3:
        return hard(name(), name());
      case 4:
        return gone(name());
      case 5:
        return opaque(pick([name(), name(), name(), ""]));
      default:
        return file(name(), `${int(1000)}`, { mode: pick([0o644, 0o4755]), uid: int(3) });
    }
  };
  let [redone, refused] = [0, 0];
  for (let round = 0; round < ROUNDS; round += 1) {
    const lower = [newFolder()];
    write(
      lower[0]!,
      [directory("a"), file("a/a"), directory("a/b"), file("a/b/c"), symlink("b", pick(["a", "/a/b"]))],
      "base",
    );
    const second = newFolder();
    mounted(lower, second, (root) =>
      write(
        root,
        [directory("c"), file("c/a"), gone("a/a"), pick([file("c/b"), directory("c/b"), symlink("c/b", "/a")])],
        "merged",
      ),
    );
    lower.push(second);
    const entries = Array.from({ length: 1 + int(7) }, entry);
    const want = orRefusal(() => ({ tree: merged(lower, entries), redone: false }));
    const got = orRefusal(() => rebased(lower, entries));
    const shown = entries.map((e) => `${e.type ?? "0"} ${e.name} ${e.linkName ?? ""}`).join("\n");
    assert.deepEqual(got.tree, want.tree, `seed ${seed}, round ${round}:\n${shown}`);
    if (got.redone) redone += 1;
    if (got.tree === "refused") refused += 1;
    for (const child of readdirSync(folder)) rmSync(join(folder, child), { recursive: true, force: true });
  }
  assert.ok(redone + refused < ROUNDS * 0.9, `${redone} of ${ROUNDS} were redone, ${refused} refused`);
});
