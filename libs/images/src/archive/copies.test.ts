/** Archives out of trees in use and into them: what is kept, what is refused, and that nothing leaves the root (A5). */
import assert from "node:assert/strict";
import {
  closeSync,
  constants,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import type { TarEntry } from "./entry.ts";
import { packTree } from "./pack-tree.ts";
import { TarReader } from "./reader.ts";
import { UnpackInto, type UnpackTotals } from "./unpack-into.ts";
import { archiveEnd, entryHeader, entryPadding, type WrittenEntry } from "./write-entry.ts";

let scratch: string;
let root: string;
let outside: string;
let rootFd: number;

beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), "berth-copies-"));
  root = join(scratch, "root");
  outside = join(scratch, "outside");
  for (const dir of [root, outside, join(root, "tmp")]) mkdirSync(dir);
  rootFd = openSync(root, constants.O_RDONLY | constants.O_DIRECTORY);
});
afterEach(() => {
  closeSync(rootFd);
  rmSync(scratch, { recursive: true, force: true });
});

function packed(path: string): Buffer {
  using tree = packTree(rootFd, path);
  return Buffer.concat([...tree.pieces]);
}

function entriesOf(archive: Buffer): TarEntry[] {
  const entries: TarEntry[] = [];
  const reader = new TarReader({ entry: (entry) => entries.push(entry), data() {}, endEntry() {} });
  reader.push(archive);
  reader.end();
  return entries;
}

function unpack(archive: Buffer, path: string): UnpackTotals {
  using target = new UnpackInto(rootFd, path);
  for (let at = 0; at < archive.length; at += 1_000) target.push(archive.subarray(at, at + 1_000));
  return target.finish();
}

function archiveOf(
  ...entries: readonly (Partial<WrittenEntry> & { readonly name: string; readonly content?: string })[]
) {
  const parts = entries.flatMap(({ content = "", ...given }) => {
    const sizeBytes = Buffer.byteLength(content);
    const plain = { type: "file" as const, mode: 0o644, uid: 0, gid: 0, linkName: "", deviceMajor: 0, deviceMinor: 0 };
    const entry = { ...plain, sizeBytes, modified: { seconds: 1, nanoseconds: 0 }, ...given };
    return [entryHeader(entry), Buffer.from(content), entryPadding(sizeBytes)];
  });
  return Buffer.concat([...parts, archiveEnd]);
}

test("packTree and UnpackInto keep names, modes, times, links and hard links", () => {
  mkdirSync(join(root, "a/deep"), { recursive: true });
  writeFileSync(join(root, "a/deep/ü"), Buffer.alloc(300_000, "x"), { mode: 0o640 });
  linkSync(join(root, "a/deep/ü"), join(root, "a/same"));
  symlinkSync("/nowhere", join(root, "a/link"));
  utimesSync(join(root, "a/deep"), 5, 1_000_000.5);
  assert.deepEqual(unpack(packed("/a"), "/tmp/b"), { files: 5, bytes: 300_000 });
  const back = join(root, "tmp/b");
  assert.ok(readFileSync(join(back, "deep/ü")).equals(Buffer.alloc(300_000, "x")));
  const [one, other] = [statSync(join(back, "deep/ü")), statSync(join(back, "same"))];
  assert.deepEqual([one.mode & 0o7777, one.ino], [0o640, other.ino]);
  assert.equal(readlinkSync(join(back, "link")), "/nowhere");
  assert.equal(statSync(join(back, "deep")).mtimeMs, 1_000_000_500);
});

test("packTree follows a link at the end of its path beneath the root only, and keeps those below", () => {
  writeFileSync(join(outside, "secret"), "of the host");
  writeFileSync(join(root, "file"), "inside");
  symlinkSync("/file", join(root, "tmp/good"));
  symlinkSync(join(outside, "secret"), join(root, "tmp/bad"));
  symlinkSync(`${"../".repeat(30)}${join(outside, "secret").slice(1)}`, join(root, "tmp/climbing"));
  assert.deepEqual(
    entriesOf(packed("/tmp/good")).map(({ name, type }) => [name, type]),
    [["good", "file"]],
  );
  for (const name of ["bad", "climbing"]) {
    assert.throws(() => packTree(rootFd, `/tmp/${name}`), { code: "NOT_FOUND", reason: "PATH_MISSING" });
  }
  const links = entriesOf(packed("/tmp")).filter(({ type }) => type === "symlink");
  assert.equal(links.length, 3, "links beneath are links in the archive, not what they mean");
});

test("packTree is well formed when a file shrinks under it, and passes by what is no file", () => {
  writeFileSync(join(root, "tmp/shrinks"), Buffer.alloc(1_000_000, "x"));
  using tree = packTree(rootFd, "/tmp");
  const pieces = [tree.pieces.next().value as Buffer];
  truncateSync(join(root, "tmp/shrinks"), 10);
  pieces.push(...tree.pieces);
  assert.deepEqual(
    entriesOf(Buffer.concat(pieces)).map(({ name, sizeBytes }) => [name, sizeBytes]),
    [
      ["tmp/", 0],
      ["tmp/shrinks", 1_000_000],
    ],
  );
  assert.throws(() => packTree(openSync("/", constants.O_RDONLY), "/dev/null"), { reason: "PATH_SPECIAL" });
});

test("UnpackInto puts a thing into a folder, or under a name in one, and says which is missing", () => {
  unpack(archiveOf({ name: "note", content: "1" }), "/tmp");
  unpack(archiveOf({ name: "note", content: "2" }), "/tmp/other");
  unpack(archiveOf({ name: "note", content: "3" }), "/tmp//other");
  assert.equal(readFileSync(join(root, "tmp/note"), "utf8") + readFileSync(join(root, "tmp/other"), "utf8"), "13");
  for (const path of ["/none/x", "/tmp/none/", "/tmp/note/x"]) {
    assert.throws(() => new UnpackInto(rootFd, path), { code: "NOT_FOUND", reason: "PATH_MISSING" }, path);
  }
});

test("UnpackInto replaces files and links, but no folder by a file and no file by a folder", () => {
  mkdirSync(join(root, "tmp/folder"));
  writeFileSync(join(root, "tmp/file"), "old");
  symlinkSync(join(outside, "target"), join(root, "tmp/link"));
  unpack(archiveOf({ name: "link", content: "new" }), "/tmp");
  assert.ok(lstatSync(join(root, "tmp/link")).isFile());
  const occupied = { code: "ALREADY_EXISTS", reason: "PATH_OCCUPIED" };
  assert.throws(() => unpack(archiveOf({ name: "folder", content: "x" }), "/tmp"), occupied);
  assert.throws(() => unpack(archiveOf({ name: "file/", type: "directory" }), "/tmp"), occupied);
  // Whiteouts mean nothing here: a file of such a name is a file.
  unpack(archiveOf({ name: "d/", type: "directory" }, { name: "d/.wh.x", content: "y" }), "/tmp");
  assert.equal(readFileSync(join(root, "tmp/d/.wh.x"), "utf8"), "y");
});

test("UnpackInto never writes outside of the root, whatever the archive or the tree say", () => {
  const through = archiveOf(
    { name: "d/", type: "directory" },
    { name: "d/out", type: "symlink", linkName: outside },
    { name: "d/out/planted", content: "x" },
  );
  // The link means a folder of this root, which is made where it is missing, as for a layer.
  unpack(through, "/tmp");
  assert.equal(readFileSync(join(root, outside, "planted"), "utf8"), "x");
  symlinkSync(`${outside}-too`, join(root, "tmp/there"));
  assert.throws(() => unpack(archiveOf({ name: "x", content: "x" }), "/tmp/there/planted"), { code: "NOT_FOUND" });
  for (const name of ["../planted", "d/../../planted", "/../planted"]) {
    assert.throws(() => unpack(archiveOf({ name, content: "x" }), "/tmp"), { code: "INVALID_ARGUMENT" }, name);
  }
  assert.throws(
    () => unpack(archiveOf({ name: "a", content: "x" }, { name: "b", content: "x" }), "/tmp"),
    /one file or one/,
  );
  assert.throws(() => unpack(archiveOf({ name: "d/", type: "character", deviceMajor: 1, deviceMinor: 3 }), "/tmp"));
  assert.throws(() => unpack(through.subarray(0, 700), "/tmp"), { code: "INVALID_ARGUMENT" });
  assert.throws(() => lstatSync(join(outside, "planted")), { code: "ENOENT" });
});
