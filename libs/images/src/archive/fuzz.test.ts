/**
 * Seeded fuzz of the archive's reader and writer. `npm run soak -- fuzz` runs it at full count.
 *
 * What must hold for any bytes: nothing is thrown but what blames the archive; nothing outside the root changes; what comes out
 * does not depend on how the bytes are cut; memory follows the limits, not the bytes.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { StatusError } from "@berth/base";
import { mount, unmount } from "@berth/linux";
import { applyArchive } from "../testing/apply-archive.ts";
import { damaged, Dice, gnuTarArchives, hostileArchive } from "../testing/random-archive.ts";
import { describeTree } from "../testing/tree.ts";
import { buildTar } from "../testing/tar.ts";
import type { ApplyMode } from "./apply.ts";
import { defaultArchiveLimits, isArchiveFault } from "./entry.ts";
import { TarReader } from "./reader.ts";

const FACTOR = Number(process.env["BERTH_SOAK_FACTOR"] ?? 1);
const READER_ROUNDS = 5_000 * FACTOR;
const WRITER_ROUNDS = 500 * FACTOR;
const SEED = 20_261_125;
const limits = { ...defaultArchiveLimits, maxTotalBytes: 1e6, maxHeaderBytes: 10_000, maxEntries: 500 };
const LOWER = buildTar([
  { name: "a/", type: "5" },
  { name: "a/b/", type: "5" },
  { name: "a/b/c", data: "lower" },
  { name: "b", type: "2", linkName: "../outside" },
  { name: "c", type: "2", linkName: "../../../../../../.." },
]);
const MODES: readonly ApplyMode[] = ["base", "merged", "detached"];

let folder: string;
before(() => {
  folder = mkdtempSync(join(tmpdir(), "berth-fuzz-"));
  mount({ source: "tmpfs", target: folder, type: "tmpfs", options: [] });
  mkdirSync(join(folder, "outside"));
  writeFileSync(join(folder, "outside/file"), "untouched");
});
after(() => {
  unmount(folder, { detach: true });
  rmSync(folder, { recursive: true });
});

/** What was read or written, or the refusal. */
function outcome(run: () => unknown, what: () => string): unknown {
  try {
    return run();
  } catch (error) {
    if (error instanceof StatusError && isArchiveFault(error)) return `${error.reason}: ${error.message}`;
    throw new Error(`${what()}: ${String(error)}`, { cause: error });
  }
}

/** All that comes out of the reader, in short, and whether it keeps to what the archive can hold. */
function read(archive: Buffer, chunkBytes: () => number): string {
  const hash = createHash("sha256");
  let dataBytes = 0;
  const reader = new TarReader(
    {
      entry: ({ xattrs, ...entry }) => void hash.update(JSON.stringify([entry, [...xattrs]])),
      data: (chunk, offset) => {
        // Cut elsewhere, the same bytes come in other pieces: each byte counts with its place.
        for (let at = 0; at < chunk.length; at += 1) hash.update(`${offset + at}:${chunk[at]},`);
        dataBytes += chunk.length;
      },
      endEntry: () => void hash.update("end"),
    },
    limits,
  );
  for (let at = 0; at < archive.length;) {
    const step = chunkBytes();
    reader.push(archive.subarray(at, at + step));
    at += step;
  }
  reader.end();
  assert.ok(dataBytes <= archive.length, "more data than the archive holds");
  return hash.digest("hex");
}

test("TarReader gives the same or refuses, however any bytes are cut (seeded fuzz)", () => {
  const dice = new Dice(SEED);
  const real = gnuTarArchives();
  let refused = 0;
  const heapBefore = process.memoryUsage().rss;
  for (let round = 0; round < READER_ROUNDS; round += 1) {
    const whole = dice.chance(3) ? hostileArchive(dice, "/outside") : dice.pick(real);
    const archive = dice.chance(20) ? whole : damaged(whole, dice);
    const what = (): string => `seed ${SEED}, round ${round}`;
    const first = outcome(() => read(archive, () => archive.length), what);
    const again = outcome(() => read(archive, () => 1 + dice.int(dice.pick([3, 600, 5_000]))), what);
    assert.deepEqual(again, first, what());
    if (String(first).startsWith("LAYER_")) refused += 1;
  }
  assert.ok(refused > READER_ROUNDS * 0.2 && refused < READER_ROUNDS * 0.95, `${refused} were refused`);
  assert.ok(process.memoryUsage().rss - heapBefore < 300e6, "memory grows with the rounds");
});

test("TreeWriter never leaves its root, and gives the same tree however the bytes are cut (seeded fuzz)", () => {
  const dice = new Dice(SEED + 1);
  const real = gnuTarArchives();
  let refused = 0;
  for (let round = 0; round < WRITER_ROUNDS; round += 1) {
    const whole = dice.chance(8) ? dice.pick(real) : hostileArchive(dice, join(folder, "outside"));
    const archive = dice.chance(3) ? damaged(whole, dice) : whole;
    const mode = dice.pick(MODES);
    const what = (): string => `seed ${SEED + 1}, round ${round}, ${mode}`;
    const trees = [archive.length, 1 + dice.int(700)].map((chunkBytes, i) => {
      const root = join(folder, `root${i}`);
      mkdirSync(root);
      // Something to be whited out, and links of a layer below that lead out.
      applyArchive(root, LOWER, {});
      const result = outcome(() => applyArchive(root, archive, { mode, limits, chunkBytes }), what);
      const tree = withoutNow(describeTree(root));
      rmSync(root, { recursive: true });
      return { result, tree };
    });
    assert.deepEqual(trees[1], trees[0], what());
    assert.deepEqual(readdirSync(folder), ["outside"], what());
    const outside = describeTree(join(folder, "outside"));
    assert.deepEqual(Object.keys(outside), ["file"], what());
    assert.match(outside["file"]!, /^file 644 0:0 [\d.]+ 9 untouched$/, what());
    assert.ok(!existsSync("/etc/berth-escape"), what());
    if (typeof trees[0]!.result === "string") refused += 1;
  }
  assert.ok(refused > WRITER_ROUNDS * 0.05 && refused < WRITER_ROUNDS * 0.95, `${refused} were refused`);
});

/** Times of directories that no entry described are those of the moment. */
function withoutNow(tree: Record<string, string>): Record<string, string> {
  const now = Math.floor(Date.now() / 1000);
  const recent = (seconds: string): boolean => Number(seconds) > now - 1000;
  const cut = (line: string): string =>
    line.replace(/ (\d+)\.\d+/, (time, seconds: string) => (recent(seconds) ? " now" : time));
  return Object.fromEntries(Object.entries(tree).map(([path, line]) => [path, cut(line)]));
}
