/** What an archive of a task may do on the disk of whoever copies: it is not to be trusted. */
import assert from "node:assert/strict";
import { lstatSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { archiveEnd, entryHeader, entryPadding, type WrittenEntry } from "@berth/images/tar";
import { packLocal } from "./local-pack.ts";
import { unpackLocal, type LocalTotals } from "./local-unpack.ts";

let dir: string;
let notes: string[];
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), "berth-cp-"));
  notes = [];
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

type Given = Partial<WrittenEntry> & { readonly name: string; readonly content?: string };

async function* archiveOf(...entries: readonly Given[]): AsyncGenerator<Buffer> {
  for (const { content = "", ...given } of entries) {
    const sizeBytes = Buffer.byteLength(content);
    const plain = { type: "file" as const, mode: 0o644, uid: 0, gid: 0, linkName: "", deviceMajor: 0, deviceMinor: 0 };
    yield entryHeader({ ...plain, sizeBytes, modified: { seconds: 1, nanoseconds: 5e8 }, ...given });
    yield Buffer.concat([Buffer.from(content), entryPadding(sizeBytes)]);
  }
  yield archiveEnd;
}

const unpack = (target: string, ...entries: readonly Given[]): Promise<LocalTotals> =>
  unpackLocal(archiveOf(...entries), target, { print: undefined, onNote: (text) => notes.push(text) });

test("unpackLocal writes into a folder or under a name, with modes and times", async () => {
  await unpack(dir, { name: "a.txt", content: "1", mode: 0o600 });
  await unpack(join(dir, "b.txt"), { name: "a.txt", content: "2" });
  assert.equal(readFileSync(join(dir, "a.txt"), "utf8") + readFileSync(join(dir, "b.txt"), "utf8"), "12");
  const { mode, mtimeMs } = statSync(join(dir, "a.txt"));
  assert.deepEqual([mode & 0o7777, mtimeMs], [0o600, 1_500]);
  await assert.rejects(unpack(join(dir, "none/x"), { name: "a" }), { code: "NOT_FOUND" });
});

test("unpackLocal goes through no link, by no way up, and to no other top", async () => {
  const outside = join(dir, "outside");
  mkdirSync(outside);
  const target = join(dir, "target");
  mkdirSync(target);
  const folder = { name: "d/", type: "directory" } as const;
  const hostile: readonly (readonly Given[])[] = [
    [{ name: "../planted", content: "x" }],
    [folder, { name: "d/../../planted", content: "x" }],
    [folder, { name: "d/link", type: "symlink", linkName: outside }, { name: "d/link/planted", content: "x" }],
    [folder, { name: "other", content: "x" }],
    [folder, { name: "d/missing/planted", content: "x" }],
    [folder, { name: "d/hard", type: "hardlink", linkName: "../../etc/passwd" }],
  ];
  for (const entries of hostile) await assert.rejects(unpack(target, ...entries), { code: "DATA_LOSS" });
  // A link that is here already is replaced as a file's name, and refused as a folder's.
  symlinkSync(outside, join(target, "e"));
  await assert.rejects(unpack(target, { name: "e/", type: "directory" }), { code: "ALREADY_EXISTS" });
  await unpack(target, { name: "e", content: "file" });
  assert.ok(lstatSync(join(target, "e")).isFile());
  assert.throws(() => lstatSync(join(dir, "planted")), { code: "ENOENT" });
  assert.throws(() => lstatSync(join(outside, "planted")), { code: "ENOENT" });
});

test("unpackLocal leaves out devices, keeps folders from files, and removes a file that was cut short", async () => {
  await unpack(
    dir,
    { name: "d/", type: "directory" },
    { name: "d/null", type: "character", deviceMajor: 1, deviceMinor: 3 },
  );
  assert.match(notes.join(), /left out: d\/null is a device/);
  await assert.rejects(unpack(dir, { name: "d", content: "x" }), { code: "ALREADY_EXISTS" });
  async function* broken(): AsyncGenerator<Buffer> {
    for await (const piece of archiveOf({ name: "big", content: "x".repeat(100_000) })) {
      yield piece.subarray(0, 5_000);
      if (piece.length > 5_000) throw new Error("the connection broke");
    }
  }
  await assert.rejects(unpackLocal(broken(), dir, { print: undefined, onNote: () => {} }), /broke/);
  assert.throws(() => lstatSync(join(dir, "big")), { code: "ENOENT" });
});

test("packLocal and unpackLocal give a tree back as it was", async () => {
  mkdirSync(join(dir, "tree/sub"), { recursive: true });
  writeFileSync(join(dir, "tree/sub/file"), Buffer.alloc(300_000, "y"), { mode: 0o755 });
  symlinkSync("sub/file", join(dir, "tree/link"));
  async function* pieces(): AsyncGenerator<Buffer> {
    for await (const piece of packLocal(join(dir, "tree"), () => {})) yield Buffer.from(piece);
  }
  const totals = await unpackLocal(pieces(), join(dir, "copy"), { print: undefined, onNote: () => {} });
  assert.deepEqual(totals, { files: 4, bytes: 300_000 });
  assert.equal(readFileSync(join(dir, "copy/link")).length, 300_000);
  await assert.rejects(
    async () => {
      for await (const _ of packLocal(join(dir, "none"), () => {})) assert.fail("a piece");
    },
    { code: "NOT_FOUND" },
  );
});
