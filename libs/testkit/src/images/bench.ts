/**
 * The image that pulls are measured with: one gzip layer of about 130 MB, 359 MB unpacked, 12,000 files.
 *
 * Sizes follow a system image's (most files small, some of megabytes) and the content compresses as such an image does.
 * Everything comes from one seed. Making it takes some ten seconds, so the layer is kept in `dir` and used again.
 */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import {
  createReadStream,
  createWriteStream,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { seededRandom, toDigest, type Digest, type Random } from "@berth/base";
import { MEDIA_TYPES } from "@berth/model";
import { buildImage, type BuiltImage, type BuiltLayer } from "./build.ts";
import { tarChunks, type TarEntry } from "./tar.ts";

/** Part of the cache's name: raise it with every change of what is generated. */
const VERSION = 1;
const FILES = 12_000;
const TOTAL_BYTES = 352_000_000;
const POOL_BYTES = 8 * 1024 * 1024;
/** Chosen together, by trial, so that gzip -6 leaves 0.37 of the whole. */
const WORDS = 1_500;
const WORD_SKEW = 3;
const NOISE_PER_WORD = 0.002;

interface Kept {
  readonly digest: Digest;
  readonly diffId: Digest;
  readonly size: number;
}

/** Makes the image, or takes it from `dir`. */
export async function benchImage(dir: string): Promise<BuiltImage> {
  mkdirSync(dir, { recursive: true });
  const file = join(dir, `bench-layer-${VERSION}.tar.gz`);
  const note = join(dir, `bench-layer-${VERSION}.json`);
  if (!existsSync(note) || !existsSync(file)) await makeLayer(file, note);
  const kept = JSON.parse(readFileSync(note, "utf8")) as Kept;
  const layer: BuiltLayer = {
    descriptor: { mediaType: MEDIA_TYPES.ociLayerGzip, digest: kept.digest, size: kept.size },
    diffId: kept.diffId,
    blob: { file },
  };
  return buildImage({ layers: [layer], config: { Cmd: ["/bin/true"] } });
}

async function makeLayer(file: string, note: string): Promise<void> {
  const part = `${file}.${process.pid}.part`;
  try {
    const diff = createHash("sha256");
    const gzip = spawn("pigz", ["--no-name", "-6", "--stdout"], { stdio: ["pipe", "pipe", "inherit"] });
    await Promise.all([
      pipeline(Readable.from(hashed(tarChunks(benchEntries(seededRandom(20_240_101))), diff)), gzip.stdin),
      pipeline(gzip.stdout, createWriteStream(part)),
    ]);
    const whole = createHash("sha256");
    await pipeline(createReadStream(part), whole);
    const kept: Kept = {
      digest: toDigest(whole),
      diffId: toDigest(diff),
      size: statSync(part).size,
    };
    renameSync(part, file);
    writeFileSync(note, JSON.stringify(kept));
  } finally {
    rmSync(part, { force: true });
  }
}

function* hashed(chunks: Iterable<Buffer>, hash: ReturnType<typeof createHash>): Generator<Buffer> {
  for (const chunk of chunks) {
    hash.update(chunk);
    yield chunk;
  }
}

function* benchEntries(random: Random): Generator<TarEntry> {
  const pool = contentPool(random);
  const sizes = fileSizes(random);
  yield { path: "usr", type: "dir" };
  yield { path: "usr/share", type: "dir" };
  for (const [n, size] of sizes.entries()) {
    const folder = `usr/share/package-${String(Math.floor(n / 25)).padStart(4, "0")}`;
    if (n % 25 === 0) yield { path: folder, type: "dir" };
    if (n % 40 === 39) yield { path: `${folder}/link-${n}`, type: "symlink", linkTo: `file-${n - 1}` };
    yield { path: `${folder}/file-${n}`, mode: n % 10 === 0 ? 0o755 : 0o644, content: slice(pool, size, random) };
  }
}

/** Log-normal sizes that add up to TOTAL_BYTES. */
function fileSizes(random: Random): number[] {
  const raw = Array.from({ length: FILES }, () => {
    const normal = Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
    return Math.min(Math.exp(8 + 2 * normal), 2_000_000);
  });
  const scale = TOTAL_BYTES / raw.reduce((sum, size) => sum + size, 0);
  return raw.map((size) => Math.round(size * scale));
}

/** Bytes out of the pool; far more apart than gzip's window sees, so files do not compress each other. */
function slice(pool: Buffer, size: number, random: Random): Buffer {
  const parts: Buffer[] = [];
  for (let left = size; left > 0;) {
    const at = Math.floor(random() * (POOL_BYTES - 64 * 1024));
    const length = Math.min(left, 64 * 1024, POOL_BYTES - at);
    parts.push(pool.subarray(at, at + length));
    left -= length;
  }
  return Buffer.concat(parts);
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
