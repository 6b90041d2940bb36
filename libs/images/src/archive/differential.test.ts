/** Random trees, archived by GNU tar in every format, extracted by it and by us: the results are the same to the last bit. */
import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import {
  chmodSync,
  chownSync,
  closeSync,
  ftruncateSync,
  linkSync,
  lutimesSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { mknodAt, mount, openDirectory, setXattr, statPath, unmount } from "@berth/linux";
import { applyArchive } from "../testing/apply-archive.ts";
import { Dice } from "../testing/random-archive.ts";
import { describeTree } from "../testing/tree.ts";

const ROUNDS = 6 * Number(process.env["BERTH_SOAK_FACTOR"] ?? 1);
const SEED = 20_261_127;
const SPECIAL: readonly (readonly [mode: number, major: number, minor: number])[] = [
  [0o010600, 0, 0],
  [0o020600, 5, 1],
  [0o060600, 259, 70_000],
];
const FORMATS: readonly (readonly string[])[] = [
  ["--format=pax", "--xattrs", "--xattrs-include=*"],
  ["--format=pax", "--xattrs", "--xattrs-include=*", "-S"],
  ["--format=pax", "-S", "--sparse-version=0.0"],
  ["--format=pax", "-S", "--sparse-version=0.1"],
  ["--format=gnu", "-S"],
  ["--format=oldgnu"],
];

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "berth-differential-"));
  mount({ source: "tmpfs", target: folder, type: "tmpfs", options: [] });
});
afterEach(() => {
  unmount(folder, { detach: true });
  rmSync(folder, { recursive: true });
});

function grow(root: string, dice: Dice): void {
  const folders = [""];
  const files: string[] = [];
  for (let i = 0; i < 60; i += 1) {
    const base = `${dice.pick(["f", "ü", "a b", "-dash", "new\nline", "l".repeat(120)])}${i}`;
    const name = join(dice.pick(folders), base);
    const path = join(root, name);
    switch (dice.int(7)) {
      case 0:
        mkdirSync(path);
        folders.push(name);
        break;
      case 1:
        symlinkSync(dice.pick(["x", "../y", "/z", "t".repeat(150)]), path);
        break;
      case 2:
        if (files.length > 0) linkSync(join(root, dice.pick(files)), path);
        continue;
      case 3:
        special(path, dice);
        break;
      case 4:
        holes(path, dice);
        files.push(name);
        break;
      default:
        writeFileSync(path, Buffer.alloc(dice.pick([0, 1, 512, 5000, 70_000]), dice.int(256)));
        files.push(name);
    }
    finish(path, dice);
  }
}

function special(path: string, dice: Dice): void {
  const fd = openDirectory(dirname(path));
  mknodAt(fd, basename(path), ...dice.pick(SPECIAL));
  closeSync(fd);
}

function holes(path: string, dice: Dice): void {
  const fd = openSync(path, "w");
  for (let run = 0; run < dice.int(30); run += 1) writeSync(fd, "data", dice.int(500) * 4096);
  ftruncateSync(fd, 2_100_000 + dice.int(5000));
  closeSync(fd);
}

function finish(path: string, dice: Dice): void {
  if (statPath(path)!.type !== "symlink") {
    chownSync(path, dice.pick([0, 0, 1000, 2_097_152 + 5]), dice.pick([0, 100]));
    chmodSync(path, dice.pick([0o644, 0o755, 0o4755, 0o2711, 0o1777, 0o000]));
    if (dice.chance(4))
      setXattr(path, "security.capability", Buffer.from("0100000200200000000000000000000000000000", "hex"));
    if (dice.chance(4)) setXattr(path, "security.bytes", Buffer.from([0xff, 0, 0x0a, 0x3d]));
  }
  lutimesSync(path, dice.int(1e9), dice.int(1.7e9) + dice.int(1000) / 1000);
}

test("TreeWriter makes of GNU tar's archives what GNU tar makes of them (random trees, seeded)", () => {
  const dice = new Dice(SEED);
  for (let round = 0; round < ROUNDS; round += 1) {
    const [source, theirs, ours] = ["source", "theirs", "ours"].map((name) => {
      mkdirSync(join(folder, name));
      return join(folder, name);
    }) as [string, string, string];
    grow(source, dice);
    const format = FORMATS[round % FORMATS.length]!;
    const archive = execFileSync("tar", ["-C", source, "-c", ...format, "."], { maxBuffer: 1e9 });
    execFileSync("tar", ["-C", theirs, "-xp", "--xattrs", "--xattrs-include=*", "--numeric-owner"], { input: archive });
    applyArchive(ours, archive, { chunkBytes: 1 + dice.int(100_000) });
    const what = `seed ${SEED}, round ${round}, ${format.join(" ")}`;
    assert.deepEqual(describeTree(ours), describeTree(theirs), what);
    for (const path of [source, theirs, ours]) rmSync(path, { recursive: true });
  }
});
