/**
 * What the files of bench images hold: text of a skewed vocabulary with stretches of noise, so that it compresses as the
 * content of a system image does. Everything comes from one seed.
 */
import type { Random } from "@berth/base";
import type { TarEntry } from "../tar.ts";

export interface BenchFiles {
  readonly files: number;
  readonly totalBytes: number;
  /** system: log-normal sizes, most small and some of megabytes; equal: all of one size. */
  readonly sizes: "system" | "equal";
  /** Number of the first file, so that layers of one image hold different ones. Default 0. */
  readonly first?: number;
  /** Share of pieces that are noise, which does not compress. Default 0. */
  readonly noise?: number;
  /** Nothing but zeros. Default false. */
  readonly zeros?: boolean;
}

const POOL_BYTES = 8 * 1024 * 1024;
/** Chosen together, by trial, so that gzip -6 leaves 0.37 of the whole. */
const WORDS = 1_500;
const WORD_SKEW = 3;
const NOISE_PER_WORD = 0.002;
const PIECE_BYTES = 64 * 1024;
const LARGEST_BYTES = 2_000_000;
const FILES_PER_FOLDER = 25;

/** Directories first, 25 files in each, every 40th with a symbolic link to it, every 10th executable. */
export function* benchEntries(spec: BenchFiles, random: Random): Generator<TarEntry> {
  const { first = 0, noise = 0 } = spec;
  const pool = contentPool(random);
  const noisePool = noise === 0 ? pool : randomBytes(random);
  yield { path: "usr", type: "dir" };
  yield { path: "usr/share", type: "dir" };
  for (const [index, size] of fileSizes(spec, random).entries()) {
    const n = first + index;
    const folder = `usr/share/package-${String(Math.floor(n / FILES_PER_FOLDER)).padStart(4, "0")}`;
    if (index === 0 || n % FILES_PER_FOLDER === 0) yield { path: folder, type: "dir" };
    if (n % 40 === 39) yield { path: `${folder}/link-${n}`, type: "symlink", linkTo: `file-${n - 1}` };
    const content =
      spec.zeros === true ? Buffer.alloc(size) : slice(size, random, () => (random() < noise ? noisePool : pool));
    yield { path: `${folder}/file-${n}`, mode: n % 10 === 0 ? 0o755 : 0o644, content };
  }
}

function fileSizes({ files, totalBytes, sizes }: BenchFiles, random: Random): number[] {
  if (sizes === "equal") return Array.from({ length: files }, () => Math.round(totalBytes / files));
  const raw = Array.from({ length: files }, () => {
    const normal = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
    return Math.min(Math.exp(8 + 2 * normal), LARGEST_BYTES);
  });
  const scale = totalBytes / raw.reduce((sum, size) => sum + size, 0);
  return raw.map((size) => Math.round(size * scale));
}

/** Bytes out of pools; far more apart than gzip's window sees, so files do not compress each other. */
function slice(size: number, random: Random, pool: () => Buffer): Buffer {
  const whole = Buffer.allocUnsafe(size);
  for (let filled = 0; filled < size;) {
    const at = Math.floor(random() * (POOL_BYTES - PIECE_BYTES));
    const length = Math.min(size - filled, PIECE_BYTES);
    pool().copy(whole, filled, at, at + length);
    filled += length;
  }
  return whole;
}

/** Words of a small vocabulary with stretches of noise between them. */
function contentPool(random: Random): Buffer {
  const words = Array.from({ length: WORDS }, () =>
    random()
      .toString(36)
      .slice(2, 4 + Math.floor(random() * 9)),
  );
  const pool = Buffer.alloc(POOL_BYTES);
  for (let at = 0; at < POOL_BYTES;) {
    if (random() < NOISE_PER_WORD) {
      const end = Math.min(POOL_BYTES, at + 64);
      for (; at < end; at += 1) pool[at] = Math.floor(random() * 256);
    } else {
      const word = words[Math.floor(random() ** WORD_SKEW * words.length)] ?? "";
      at += pool.write(`${word} `, at, "latin1") || 1;
    }
  }
  return pool;
}

function randomBytes(random: Random): Buffer {
  const bytes = Buffer.alloc(POOL_BYTES);
  for (let at = 0; at < POOL_BYTES; at += 4) bytes.writeUInt32LE(Math.floor(random() * 2 ** 32), at);
  return bytes;
}
