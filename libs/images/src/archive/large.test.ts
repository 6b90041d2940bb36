/** Layers of a size that real ones have: very many files, one very large one, very deep paths. Full size in soak. */
import assert from "node:assert/strict";
import { closeSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { mount, openBeneath, openDirectory, O_PATH, statAt, statPath, unmount } from "@berth/linux";
import { tarEntry, type TarInput } from "../testing/tar.ts";
import { TreeWriter, type ApplyMode } from "./apply.ts";
import { TarReader } from "./reader.ts";

const FULL = process.env["BERTH_SOAK_FACTOR"] !== undefined;
const FILES = FULL ? 300_000 : 10_000;
const BYTES = FULL ? 1024 ** 3 : 64 * 1024 ** 2;
const PIECE = Buffer.alloc(256 * 1024, "berth");

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "berth-large-"));
  mount({ source: "tmpfs", target: root, type: "tmpfs", options: ["size=2g"] });
});
afterEach(() => {
  unmount(root, { detach: true });
  rmSync(root, { recursive: true });
});

function apply(pieces: Iterable<Buffer>, mode: ApplyMode = "base"): TreeWriter["usage"] {
  const fd = openDirectory(root);
  try {
    using writer = new TreeWriter(fd, { mode });
    const reader = new TarReader(writer);
    for (const piece of pieces) reader.push(piece);
    reader.end();
    writer.finish();
    return writer.usage;
  } finally {
    closeSync(fd);
  }
}

test(`TreeWriter makes ${FILES} empty files, in a directory and in many`, () => {
  function* archive(): Iterable<Buffer> {
    const entry: { -readonly [K in keyof TarInput]: TarInput[K] } = { name: "", mode: 0o640 };
    for (let i = 0; i < FILES; i += 1) {
      entry.name = i % 2 === 0 ? `all/${i}` : `d${i % 1000}/${i}`;
      yield tarEntry(entry);
    }
  }
  const { inodes } = apply(archive());
  assert.equal(inodes, FILES);
  assert.equal(readdirSync(join(root, "all")).length, FILES / 2);
  const found = statPath(join(root, "d7/7"))!;
  assert.deepEqual([found.mode, found.sizeBytes, found.modified.seconds], [0o640, 0, 1_600_000_000]);
  assert.ok(readdirSync("/proc/self/fd").length < 200, "descriptors are kept within bounds");
});

test(`TreeWriter writes one file of ${BYTES} bytes with little memory`, () => {
  function* archive(): Iterable<Buffer> {
    yield tarEntry({ name: "big", size: BYTES });
    for (let sent = 0; sent < BYTES; sent += PIECE.length) yield PIECE;
    yield Buffer.alloc(1024);
  }
  const before = process.memoryUsage().rss;
  apply(archive());
  assert.equal(statPath(join(root, "big"))!.sizeBytes, BYTES);
  assert.ok(process.memoryUsage().rss - before < 64 * 1024 ** 2);
});

test("TreeWriter makes paths as deep and as long as the kernel resolves them", () => {
  const deep = Array.from({ length: 250 }, (_, i) => `d${i}`).join("/");
  const long = Array.from({ length: 15 }, () => "n".repeat(255)).join("/");
  for (const mode of ["base", "merged", "detached"] as const) {
    apply([tarEntry({ name: "x", pax: { path: `${deep}/f` }, data: "x" })], mode);
    apply([tarEntry({ name: "x", pax: { path: `${long}/f` }, data: "x" })], mode);
    const fd = openDirectory(root);
    for (const path of [deep, long]) {
      const directory = openBeneath(fd, path, O_PATH);
      assert.equal(statAt(directory, "f")!.sizeBytes, 1);
      closeSync(directory);
    }
    closeSync(fd);
    for (const child of readdirSync(root)) rmSync(join(root, child), { recursive: true });
  }
  const tooLong = tarEntry({ name: "x", pax: { path: `${long}/${"m".repeat(255)}/f` } });
  assert.throws(() => apply([tooLong]), { reason: "LAYER_INVALID" });
  mkdirSync(join(root, "still-fine"));
});
