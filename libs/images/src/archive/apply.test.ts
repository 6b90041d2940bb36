/** Names, links, whiteouts and limits: what an archive makes, and that it makes nothing outside its root (A5). */
import assert from "node:assert/strict";
import {
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { StatusError } from "@berth/base";
import { statPath } from "@berth/linux";
import { useArchiveRoot } from "../testing/archive-root.ts";
import type { TarInput } from "../testing/tar.ts";
import { defaultArchiveLimits } from "./entry.ts";

const lab = useArchiveRoot();
const { apply, applyWith, refusal, at, text } = lab;

test("TreeWriter makes every kind of entry with owner, mode and times", () => {
  apply([
    { name: "./d/", type: "5", mode: 0o2751, uid: 5, gid: 6, pax: { mtime: "100.000000001" } },
    {
      name: "./d/f",
      data: "data",
      mode: 0o6755,
      uid: 7,
      gid: 8,
      pax: { mtime: "1700000000.123456789", atime: "5.25" },
    },
    { name: "./d/l", type: "2", linkName: "../..//x", uid: 9, gid: 9, mtime: 77 },
    { name: "./d/h", type: "1", linkName: "./d/f" },
    { name: "./fifo", type: "6", mode: 0o622 },
    { name: "./null", type: "3", major: 1, minor: 3, mode: 0o666 },
    { name: "./disk", type: "4", major: 7, minor: 300, mode: 0o600 },
  ]);
  const d = statPath(at("d"))!;
  assert.deepEqual([d.mode, d.uid, d.gid, d.modified], [0o2751, 5, 6, { seconds: 100, nanoseconds: 1 }]);
  const f = statPath(at("d/f"))!;
  assert.deepEqual([f.mode, f.uid, f.gid, f.sizeBytes, f.links], [0o6755, 7, 8, 4, 2]);
  assert.deepEqual(f.modified, { seconds: 1_700_000_000, nanoseconds: 123_456_789 });
  assert.deepEqual(f.accessed, { seconds: 5, nanoseconds: 250_000_000 });
  const l = statPath(at("d/l"))!;
  assert.deepEqual([l.type, l.uid, l.modified.seconds], ["symlink", 9, 77]);
  assert.equal(readlinkSync(at("d/l")), "../..//x");
  assert.deepEqual([statPath(at("fifo"))!.type, statPath(at("fifo"))!.mode], ["fifo", 0o622]);
  const [nul, disk] = [statPath(at("null"))!, statPath(at("disk"))!];
  assert.deepEqual([nul.type, nul.mode, nul.rdevMajor, nul.rdevMinor], ["character", 0o666, 1, 3]);
  assert.deepEqual([disk.type, disk.rdevMajor, disk.rdevMinor], ["block", 7, 300]);
});

test("TreeWriter takes absolute names as beneath the root, and says nothing of the root itself", () => {
  const before = statPath(lab.root)!;
  apply([
    { name: "/", type: "5", mode: 0o700, uid: 9 },
    { name: "./", type: "5", mode: 0o700 },
    { name: "/app/x", data: "1" },
  ]);
  assert.equal(text("app/x"), "1");
  assert.deepEqual([statPath(lab.root)!.mode, statPath(lab.root)!.uid], [before.mode, before.uid]);
});

test("TreeWriter refuses names that leave the archive", () => {
  const outside = "../outside/file";
  const cases: [TarInput[], RegExp][] = [
    [[{ name: outside, data: "x" }], /leaves the archive/],
    [[{ name: "a/../../outside/file", data: "x" }], /leaves the archive/],
    [[{ name: "/..", type: "5" }], /leaves the archive/],
    [[{ name: "a", pax: { path: outside }, data: "x" }], /leaves the archive/],
    [[{ name: "h", type: "1", linkName: outside }], /leaves the archive/],
    [[{ name: "h", type: "1", linkName: "" }], /link target/],
    [[{ name: "h", type: "1", linkName: "no/such" }], /does not exist in this image/],
    [
      [
        { name: "d/", type: "5" },
        { name: "h", type: "1", linkName: "d" },
      ],
      /is a directory/,
    ],
    [[{ name: "x", pax: { path: "n".repeat(256) } }], /longer than 255/],
    [[{ name: "x", pax: { path: "n/".repeat(3000) } }], /longer than 4096/],
    [[{ name: "x", pax: { path: "n/".repeat(300) } }], /deeper than 256/],
    [[{ name: "s", type: "2", linkName: "" }], /link target/],
    [
      [
        { name: "f", data: "x" },
        { name: "f/below", data: "x" },
      ],
      /not a directory/,
    ],
    [[{ name: "w", type: "3", major: 0, minor: 0 }], /device 0:0/],
    [[{ name: "a/.wh...", data: "" }], /makes no sense/],
    [[{ name: "a/.wh.", data: "" }], /makes no sense/],
  ];
  for (const [entries, message] of cases) {
    assert.match(refusal(entries), message);
    rmSync(lab.root, { recursive: true });
    mkdirSync(lab.root);
  }
});

test("TreeWriter stays beneath the root behind links of the archive", () => {
  const targets = [
    join(lab.folder, "outside"),
    "../outside",
    "../../../../../../..",
    "/proc/self/root",
    "/proc/self/cwd",
  ];
  for (const [i, linkName] of targets.entries()) {
    try {
      apply(
        [
          { name: `l${i}`, type: "2", linkName },
          { name: `l${i}/file`, data: "pwned" },
          { name: `l${i}/new/dir/`, type: "5" },
          { name: `l${i}/.wh.file`, data: "" },
          { name: `h${i}`, type: "1", linkName: `l${i}/file` },
        ],
        true,
      );
    } catch (error) {
      assert.ok(error instanceof StatusError && error.reason === "LAYER_INVALID", String(error));
    }
  }
});

test("TreeWriter stays beneath the root behind links of the layers below", () => {
  symlinkSync(join(lab.folder, "outside"), at("abs"));
  symlinkSync("../outside", at("rel"));
  symlinkSync(join(lab.folder, "outside/file"), at("filelink"));
  apply(
    [
      { name: "abs/file", data: "pwned" },
      { name: "rel/.wh.file", data: "" },
      { name: "rel/.wh..wh..opq", data: "" },
      { name: "filelink", data: "a file of its own", mode: 0o600 },
    ],
    true,
  );
  assert.equal(text("filelink"), "a file of its own");
  assert.equal(readFileSync(join(lab.root, lab.folder, "outside/file"), "utf8"), "pwned", "as after a chroot");
});

test("TreeWriter goes by what a name means now when a directory becomes a link", () => {
  apply([
    { name: "a/", type: "5" },
    { name: "a/one", data: "1" },
    { name: "b/", type: "5" },
    { name: "a", type: "2", linkName: "b" },
    { name: "a/two", data: "2" },
    { name: "b/", type: "5", mtime: 42 },
  ]);
  assert.equal(readlinkSync(at("a")), "b");
  assert.deepEqual(readdirSync(at("b")), ["two"]);
  assert.equal(statPath(at("b"))!.modified.seconds, 42);
});

test("TreeWriter lets the last entry of a name win", () => {
  apply([
    { name: "x/", type: "5" },
    { name: "x/deep/er/", type: "5" },
    { name: "x/deep/er/f", data: "f" },
    { name: "x", data: "file" },
    { name: "y", data: "file" },
    { name: "y/", type: "5" },
    { name: "y/in", data: "in" },
    { name: "z", data: "old" },
    { name: "zlink", type: "1", linkName: "z" },
    { name: "z", data: "new" },
    { name: "self", data: "self" },
    { name: "self", type: "1", linkName: "self" },
    { name: "f", type: "6" },
    { name: "f", type: "2", linkName: "z" },
  ]);
  assert.deepEqual(
    [text("x"), text("y/in"), text("z"), text("zlink"), text("self")],
    ["file", "in", "new", "old", "self"],
  );
  assert.equal(readlinkSync(at("f")), "z");
});

test("TreeWriter makes missing parents, also behind a link to nowhere", () => {
  apply([
    { name: "var/run", type: "2", linkName: "/run" },
    { name: "var/run/app/pid", data: "1" },
    { name: "loop", type: "2", linkName: "loop" },
  ]);
  assert.equal(text("run/app/pid"), "1");
  assert.equal(lstatSync(at("run")).mode & 0o7777, 0o755);
  assert.match(refusal([{ name: "loop/x", data: "x" }]), /loop/);
});

test("TreeWriter reads whiteouts as deletions of what is below, not of what the layer brings", () => {
  mkdirSync(at("d/sub"), { recursive: true });
  writeFileSync(at("d/old"), "old");
  writeFileSync(at("d/sub/old"), "old");
  writeFileSync(at("gone"), "x");
  symlinkSync("d", at("alias"));
  apply(
    [
      { name: ".wh.gone", data: "" },
      { name: ".wh.never", data: "" },
      { name: "no/such/.wh.dir", data: "" },
      { name: "alias/new", data: "new" },
      { name: "d/sub/new", data: "new" },
      { name: "d/.wh..wh..opq", data: "" },
      { name: ".wh..wh.plnk/", type: "5" },
      { name: ".wh..wh.plnk/12.34", data: "AUFS keeps its links here" },
      { name: ".wh..wh.aufs", data: "" },
    ],
    true,
  );
  assert.deepEqual(readdirSync(lab.root).sort(), ["alias", "d", "no"]);
  assert.deepEqual(readdirSync(at("d")).sort(), ["new", "sub"]);
  assert.deepEqual(readdirSync(at("d/sub")), ["new"]);
});

test("TreeWriter finds nothing to delete in a base layer", () => {
  apply([
    { name: "a", data: "a" },
    { name: ".wh.a", data: "" },
    { name: ".wh..wh..opq", data: "" },
  ]);
  assert.deepEqual(readdirSync(lab.root), ["a"]);
});

test("TreeWriter leaves holes where a sparse file has them", () => {
  const map = "1000000,3";
  apply([{ name: "s", data: "end", pax: { "GNU.sparse.size": "5000000", "GNU.sparse.map": map } }]);
  const s = statPath(at("s"))!;
  assert.equal(s.sizeBytes, 5_000_000);
  assert.ok(s.allocatedBytes < 100_000);
  assert.equal(readFileSync(at("s")).toString("latin1", 1_000_000, 1_000_003), "end");
});

test("TreeWriter gives the same tree however the archive is cut, and keeps few descriptors", () => {
  const entries: TarInput[] = [];
  for (let i = 0; i < 300; i += 1) entries.push({ name: `d${i}/x/f`, data: `${i}`.repeat(i) });
  for (const chunkBytes of [100, 4096]) {
    applyWith(entries, { chunkBytes });
    for (let i = 0; i < 300; i += 1) assert.equal(text(`d${i}/x/f`), `${i}`.repeat(i));
  }
  assert.ok(readdirSync("/proc/self/fd").length < 100);
});

test("TreeWriter keeps names that are no UTF-8", () => {
  apply([
    { name: "\xff\xfe/", type: "5" },
    { name: "\xff\xfe/\x80", data: "x" },
  ]);
  const names = readdirSync(lab.root, { encoding: "buffer" });
  assert.deepEqual(names, [Buffer.from([0xff, 0xfe])]);
});

test("TreeWriter is bound by the limits it is given", () => {
  const limits = { ...defaultArchiveLimits, maxPathDepth: 2 };
  assert.throws(() => applyWith([{ name: "a/b/c", data: "" }], { limits }), /deeper than 2/);
});

test("TreeWriter makes, refuses or leaves out device nodes, as it is told", () => {
  const entries: TarInput[] = [
    { name: "disk", type: "4", major: 7, minor: 0 },
    { name: "fifo", type: "6" },
  ];
  const warnings = applyWith(entries, { devices: "skip" });
  assert.deepEqual(readdirSync(lab.root), ["fifo"]);
  assert.match(warnings[0]!, /"disk": block device 7:0 is left out/);
  const refuse = (): unknown => applyWith(entries, { devices: "refuse" });
  assert.throws(refuse, { reason: "LAYER_INVALID", message: /block device 7:0 is not allowed here/ });
  applyWith(entries);
  assert.equal(statPath(at("disk"))!.rdevMajor, 7);
});

test("TreeWriter stops at an archive that only keeps it busy", () => {
  const limits = { ...defaultArchiveLimits, maxHidingSteps: 100_000 };
  const own = Array.from({ length: 100 }, (_, i): TarInput => ({ name: `d/${i}`, type: "6" }));
  const markers = Array.from({ length: 20 }, (): TarInput => ({ name: "d/.wh..wh..opq" }));
  const empty = Array.from({ length: 500 }, (_, i): TarInput => ({ name: `e${i}/.wh.x` }));
  const swaps = Array.from({ length: 200 }, (_, i): TarInput => ({ name: "s", type: i % 2 === 0 ? "5" : "6" }));
  for (const [mode, entries] of [
    ["merged", [...own, ...markers]],
    ["detached", [...empty, ...swaps]],
  ] as const) {
    assert.throws(() => applyWith(entries, { mode, limits }), {
      reason: "LAYER_TOO_LARGE",
      message: /too often/,
    });
  }
  applyWith([...own, ...markers.slice(1, 5)], { mode: "merged", limits });
});
