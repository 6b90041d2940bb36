/** Seeded archives for property tests: structured ones that mean harm, real ones of GNU tar, and damage to both. */
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, truncateSync, writeFileSync, linkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { seededRandom } from "@berth/base";
import { buildTar, type TarInput } from "./tar.ts";

export class Dice {
  readonly #random: () => number;

  constructor(seed: number) {
    this.#random = seededRandom(seed);
  }

  int(below: number): number {
    return Math.floor(this.#random() * below);
  }

  pick<T>(values: readonly T[]): T {
    return values[this.int(values.length)]!;
  }

  chance(oneIn: number): boolean {
    return this.int(oneIn) === 0;
  }
}

/** The same small tree in each format that GNU tar writes. */
export function gnuTarArchives(): Buffer[] {
  const folder = mkdtempSync(join(tmpdir(), "berth-tars-"));
  try {
    mkdirSync(join(folder, "d", "n".repeat(120)), { recursive: true });
    writeFileSync(join(folder, "d", "n".repeat(120), "f".repeat(80)), "long");
    writeFileSync(join(folder, "a"), "x".repeat(700));
    writeFileSync(join(folder, "sparse"), "start");
    truncateSync(join(folder, "sparse"), 300_000);
    symlinkSync("d/".repeat(70), join(folder, "l"));
    linkSync(join(folder, "a"), join(folder, "h"));
    const tar = (...options: string[]): Buffer =>
      execFileSync("tar", ["--sort=name", "--mtime=@1600000000.5", "-C", folder, ...options, "-c", "."]);
    return [
      ...["gnu", "pax", "oldgnu", "posix"].map((format) => tar(`--format=${format}`, "--exclude=./sparse")),
      ...["0.0", "0.1", "1.0"].map((version) => tar("--format=pax", "-S", `--sparse-version=${version}`)),
      tar("--format=gnu", "-S"),
      tar("--format=ustar", "--exclude=./l", "--exclude=./d", "--exclude=./sparse"),
    ];
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Some bytes changed, moved or cut; most changes get past the checksum to reach what lies behind it. */
export function damaged(archive: Buffer, dice: Dice): Buffer {
  const copy = Buffer.from(archive);
  for (let change = 0; change <= dice.int(5); change += 1) {
    const at = dice.int(copy.length);
    if (dice.chance(3)) copy.copy(copy, dice.int(copy.length - 512), at, at + dice.int(512));
    else if (dice.chance(4))
      copy.write(dice.pick(["/../", "\0\0", "7777777", "\xff\xff\xff", "x", "g", "L"]), at, "latin1");
    else copy[at] = dice.int(256);
    const block = at - (at % 512);
    if (!dice.chance(3) && block + 512 <= copy.length) fixChecksum(copy.subarray(block, block + 512));
  }
  return dice.chance(5) ? copy.subarray(0, dice.int(copy.length)) : copy;
}

function fixChecksum(block: Buffer): void {
  block.fill(0x20, 148, 156);
  const sum = block.reduce((a, b) => a + b, 0);
  block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
}

/** A well-formed archive of entries that get in each other's way, some with names that want out to `outside`. */
export function hostileArchive(dice: Dice, outside: string): Buffer {
  return buildTar(Array.from({ length: 1 + dice.int(12) }, () => hostileEntry(dice, outside)));
}

function hostileEntry(dice: Dice, outside: string): TarInput {
  const parts = ["a", "b", "c", "a", "b", ".", "..", "\xff", "new\nline", ".wh.a", ".wh..wh..opq", "x".repeat(250)];
  const path = (): string => {
    if (dice.chance(25)) return dice.pick([outside, "/", "", `../${outside}`, "/etc/berth-escape", "/proc/self/cwd/x"]);
    const count = 1 + dice.int(4);
    const usual = Array.from({ length: count }, () => dice.pick(dice.chance(6) ? parts : parts.slice(0, 5)));
    return (dice.chance(10) ? "/" : "") + usual.join("/");
  };
  const target = (): string =>
    dice.pick([
      path(),
      path(),
      "..",
      "../..",
      "../outside",
      outside,
      "/",
      "/proc/self/root",
      "/proc/self/cwd",
      "a/../../..",
    ]);
  const common = {
    mode: dice.pick([0o644, 0o755, 0o4755, 0o1777, 0o000, 0o7777]),
    uid: dice.pick([0, 0, 1000, 3_000_000]),
    mtime: dice.pick([0, 1_600_000_000]),
  };
  const pax = dice.chance(4) ? { pax: hostilePax(dice, path, target) } : {};
  switch (dice.int(9)) {
    case 0:
    case 1:
      return { ...common, ...pax, name: `${path()}/`, type: "5" };
    case 2:
    case 3:
      return { ...common, ...pax, name: path(), type: "2", linkName: target() };
    case 4:
      return { ...common, ...pax, name: path(), type: "1", linkName: target() };
    case 5:
      return {
        ...common,
        ...pax,
        name: path(),
        type: dice.pick(["3", "4", "6"]),
        major: dice.int(3),
        minor: dice.int(5),
      };
    default:
      return { ...common, ...pax, name: path(), data: "d".repeat(dice.pick([0, 0, 1, 511, 512, 1500])) };
  }
}

function hostilePax(dice: Dice, path: () => string, target: () => string): [string, string][] {
  const records: [string, string][] = [
    ["path", path()],
    ["linkpath", target()],
    ["size", `${dice.int(2000)}`],
    ["uid", dice.pick(["2097153", "4294967294", "-1", "x"])],
    ["mtime", dice.pick(["1.000000001", "-1.5", "99999999999", "1e3"])],
    ["SCHILY.xattr.user.overlay.opaque", "y"],
    ["SCHILY.xattr.trusted.overlay.redirect", "/etc"],
    ["SCHILY.xattr.user.x", "\0\xff"],
    ["GNU.sparse.map", dice.pick(["0,1", "5,1,3,1", "0,0,0,0"])],
    ["GNU.sparse.size", "10"],
  ];
  return Array.from({ length: 1 + dice.int(2) }, () => dice.pick(records));
}
