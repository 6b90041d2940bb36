import assert from "node:assert/strict";
import {
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { StatusError } from "@berth/base";
import { getXattr, listXattrs, statPath } from "@berth/linux";
import { applyArchive } from "../testing/apply-archive.ts";
import { buildTar, type TarInput } from "../testing/tar.ts";
import { defaultArchiveLimits } from "./entry.ts";

/** Beside the root lies what an archive must not reach. */
let folder: string;
let root: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "berth-apply-"));
  root = join(folder, "root");
  mkdirSync(root);
  mkdirSync(join(folder, "outside"));
  writeFileSync(join(folder, "outside/file"), "untouched");
});
afterEach(() => {
  assert.deepEqual(readdirSync(folder).sort(), ["outside", "root"]);
  assert.deepEqual(readdirSync(join(folder, "outside")), ["file"]);
  assert.equal(readFileSync(join(folder, "outside/file"), "utf8"), "untouched");
  rmSync(folder, { recursive: true });
});

const apply = (entries: readonly TarInput[], overLower = false): string[] =>
  applyArchive(root, buildTar(entries), { mode: overLower ? "merged" : "base" });
const at = (path: string): string => join(root, path);
const text = (path: string): string => readFileSync(at(path), "utf8");

function refusal(entries: readonly TarInput[]): string {
  try {
    apply(entries);
  } catch (error) {
    assert.ok(error instanceof StatusError, String(error));
    assert.equal(error.reason, "LAYER_INVALID");
    return error.message;
  }
  throw new Error("was applied");
}

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

test("TreeWriter keeps attributes as bytes and leaves out those of the overlay itself", () => {
  const value = Buffer.from([0xff, 0x80, 0, 1]);
  const capability = Buffer.from("0100000200200000000000000000000000000000", "hex");
  const warnings = apply([
    {
      name: "f",
      data: "x",
      uid: 3,
      mode: 0o4755,
      pax: {
        "SCHILY.xattr.trusted.overlay.opaque": "y",
        "SCHILY.xattr.user.overlay.redirect": "/",
        "SCHILY.xattr.trusted.raw": value,
        "SCHILY.xattr.security.capability": capability,
      },
    },
  ]);
  assert.deepEqual(getXattr(at("f"), "security.capability"), capability);
  assert.equal(lstatSync(at("f")).mode & 0o7777, 0o4755);
  assert.equal(getXattr(at("f"), "trusted.overlay.opaque"), undefined);
  assert.equal(warnings.length, 3);
  assert.match(warnings[0]!, /"f": attribute "trusted.overlay.opaque" is left out/);
});

test("TreeWriter takes absolute names as beneath the root, and says nothing of the root itself", () => {
  const before = statPath(root)!;
  apply([
    { name: "/", type: "5", mode: 0o700, uid: 9 },
    { name: "./", type: "5", mode: 0o700 },
    { name: "/app/x", data: "1" },
  ]);
  assert.equal(text("app/x"), "1");
  assert.deepEqual([statPath(root)!.mode, statPath(root)!.uid], [before.mode, before.uid]);
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
    rmSync(root, { recursive: true });
    mkdirSync(root);
  }
});

test("TreeWriter stays beneath the root behind links of the archive", () => {
  const targets = [join(folder, "outside"), "../outside", "../../../../../../..", "/proc/self/root", "/proc/self/cwd"];
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
  symlinkSync(join(folder, "outside"), at("abs"));
  symlinkSync("../outside", at("rel"));
  symlinkSync(join(folder, "outside/file"), at("filelink"));
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
  assert.equal(readFileSync(join(root, folder, "outside/file"), "utf8"), "pwned", "as after a chroot");
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
  assert.deepEqual(readdirSync(root).sort(), ["alias", "d", "no"]);
  assert.deepEqual(readdirSync(at("d")).sort(), ["new", "sub"]);
  assert.deepEqual(readdirSync(at("d/sub")), ["new"]);
});

test("TreeWriter finds nothing to delete in a base layer", () => {
  apply([
    { name: "a", data: "a" },
    { name: ".wh.a", data: "" },
    { name: ".wh..wh..opq", data: "" },
  ]);
  assert.deepEqual(readdirSync(root), ["a"]);
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
    applyArchive(root, buildTar(entries), { chunkBytes });
    for (let i = 0; i < 300; i += 1) assert.equal(text(`d${i}/x/f`), `${i}`.repeat(i));
  }
  assert.ok(readdirSync("/proc/self/fd").length < 100);
});

test("TreeWriter keeps names that are no UTF-8", () => {
  apply([
    { name: "\xff\xfe/", type: "5" },
    { name: "\xff\xfe/\x80", data: "x" },
  ]);
  const names = readdirSync(root, { encoding: "buffer" });
  assert.deepEqual(names, [Buffer.from([0xff, 0xfe])]);
});

test("TreeWriter is bound by the limits it is given", () => {
  const limits = { ...defaultArchiveLimits, maxPathDepth: 2 };
  assert.throws(() => applyArchive(root, buildTar([{ name: "a/b/c", data: "" }]), { limits }), /deeper than 2/);
});

test("TreeWriter makes, refuses or leaves out device nodes, as it is told", () => {
  const entries: TarInput[] = [
    { name: "disk", type: "4", major: 7, minor: 0 },
    { name: "fifo", type: "6" },
  ];
  const warnings = applyArchive(root, buildTar(entries), { devices: "skip" });
  assert.deepEqual(readdirSync(root), ["fifo"]);
  assert.match(warnings[0]!, /"disk": block device 7:0 is left out/);
  const refuse = (): unknown => applyArchive(root, buildTar(entries), { devices: "refuse" });
  assert.throws(refuse, { reason: "LAYER_INVALID", message: /block device 7:0 is not allowed here/ });
  applyArchive(root, buildTar(entries));
  assert.equal(statPath(at("disk"))!.rdevMajor, 7);
});

test("TreeWriter gives files what they shall have, whatever a directory gives its new files", () => {
  // A default ACL of user::rwx, group::---, other::---: new files lose what the mode asks for.
  const acl = Buffer.from("0200000001000700ffffffff04000000ffffffff20000000ffffffff", "hex");
  apply([
    { name: "setgid/", type: "5", mode: 0o2775, gid: 77 },
    { name: "setgid/a", mode: 0o644 },
    { name: "setgid/b", mode: 0o644, gid: 77 },
    { name: "setgid/l", type: "2", linkName: "x", gid: 0 },
    { name: "setgid/empty", mode: 0o666 },
    { name: "setgid/empty2", mode: 0o666 },
    { name: "acl/", type: "5" },
    { name: "acl/before", mode: 0o644 },
    { name: "acl/", type: "5", pax: { "SCHILY.xattr.system.posix_acl_default": acl } },
    { name: "acl/f", mode: 0o644 },
    { name: "acl/g", mode: 0o644, data: "x" },
    { name: "acl/h", mode: 0o600 },
  ]);
  const owned = (path: string): unknown[] => [statPath(at(path))!.gid, statPath(at(path))!.mode.toString(8)];
  assert.deepEqual(owned("setgid/a"), [0, "644"]);
  assert.deepEqual(owned("setgid/b"), [77, "644"]);
  assert.equal(statPath(at("setgid/l"))!.gid, 0);
  assert.deepEqual(owned("setgid/empty"), [0, "666"]);
  assert.deepEqual(owned("setgid/empty2"), [0, "666"]);
  for (const name of ["before", "f", "g"]) assert.deepEqual(owned(`acl/${name}`), [0, "644"], name);
  assert.deepEqual(owned("acl/h"), [0, "600"]);
});

test("TreeWriter keeps times and owner of directories below, unless the layer describes them", () => {
  apply([
    { name: "kept/sub/", type: "5", mode: 0o1777, uid: 5, mtime: 111, pax: { "SCHILY.xattr.user.a": "1" } },
    { name: "kept/", type: "5", mtime: 222 },
    { name: "told/", type: "5", mtime: 333, pax: { "SCHILY.xattr.user.a": "1" } },
  ]);
  apply(
    [
      { name: "kept/sub/new", data: "x" },
      { name: "kept/.wh.none", data: "" },
      { name: "told/", type: "5", mtime: 444, mode: 0o700, pax: { "SCHILY.xattr.user.b": "2" } },
      { name: "told/new", data: "x" },
    ],
    true,
  );
  const of = (path: string): unknown[] => [statPath(at(path))!.mode.toString(8), statPath(at(path))!.modified.seconds];
  assert.deepEqual(
    [of("kept"), of("kept/sub"), of("told")],
    [
      ["755", 222],
      ["1777", 111],
      ["700", 444],
    ],
  );
  assert.equal(getXattr(at("kept/sub"), "user.a")?.toString(), "1");
  assert.deepEqual(listXattrs(at("told")), ["user.b"]);
});

test("TreeWriter keeps large owners, odd names and times before 1970", () => {
  apply([
    {
      name: "x",
      pax: { path: "new\nline \x1b[31m", uid: "3000000000", gid: "2097153", mtime: "-1.25" },
      data: "x",
    },
    { name: "b", patch: (b) => b.set([0x80, 0, 0, 0, 0, 0x40, 0, 0], 108) },
  ]);
  const odd = statPath(at("new\nline \x1b[31m"))!;
  assert.deepEqual([odd.uid, odd.gid], [3_000_000_000, 2_097_153]);
  assert.deepEqual(odd.modified, { seconds: -2, nanoseconds: 750_000_000 });
  assert.equal(statPath(at("b"))!.uid, 0x400000);
});

test("TreeWriter says that an attribute no file system takes is the archive's fault", () => {
  assert.match(refusal([{ name: "f", pax: { "SCHILY.xattr.user.x": "v".repeat(65_537) } }]), /65537 bytes/);
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
    assert.throws(() => applyArchive(root, buildTar(entries), { mode, limits }), {
      reason: "LAYER_TOO_LARGE",
      message: /too often/,
    });
  }
  applyArchive(root, buildTar([...own, ...markers.slice(1, 5)]), { mode: "merged", limits });
});
