/**
 * Layers of bench images, made once and kept: making the large ones takes half a minute. A kept layer is named by what it
 * was made of, so a changed specification makes a new one.
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
import { seededRandom, toDigest, type Digest } from "@berth/base";
import { MEDIA_TYPES } from "@berth/model";
import type { BuiltLayer } from "../build.ts";
import { tarChunks } from "../tar.ts";
import { benchEntries, type BenchFiles } from "./content.ts";

export interface BenchLayer extends BenchFiles {
  readonly seed: number;
  readonly compression: "gzip" | "zstd";
}

/** Part of the names of kept layers: raise it when the same specification gives other bytes. */
const VERSION = 2;

const COMPRESSORS = {
  gzip: { argv: ["pigz", "--no-name", "-6", "--stdout"], mediaType: MEDIA_TYPES.ociLayerGzip },
  // Several threads write one frame of several jobs; blocks of a frame are no frames.
  zstd: { argv: ["zstd", "-3", "-q", "-c"], mediaType: MEDIA_TYPES.ociLayerZstd },
} as const;

interface Kept {
  readonly digest: Digest;
  readonly diffId: Digest;
  readonly size: number;
}

/** Makes the layer, or takes it from `dir`. Needs pigz or zstd. */
export async function benchLayer(dir: string, spec: BenchLayer): Promise<BuiltLayer> {
  mkdirSync(dir, { recursive: true });
  const name = createHash("sha256")
    .update(JSON.stringify([VERSION, spec]))
    .digest("hex")
    .slice(0, 16);
  const file = join(dir, `layer-${name}`);
  const note = `${file}.json`;
  if (!existsSync(note) || !existsSync(file)) await make(spec, file, note);
  const { digest, diffId, size } = JSON.parse(readFileSync(note, "utf8")) as Kept;
  const { mediaType } = COMPRESSORS[spec.compression];
  return { descriptor: { mediaType, digest, size }, diffId, blob: { file } };
}

async function make(spec: BenchLayer, file: string, note: string): Promise<void> {
  const part = `${file}.${process.pid}.part`;
  try {
    const diff = createHash("sha256");
    const [program, ...options] = COMPRESSORS[spec.compression].argv;
    const compressor = spawn(program, options, { stdio: ["pipe", "pipe", "inherit"] });
    const entries = benchEntries(spec, seededRandom(spec.seed));
    await Promise.all([
      pipeline(Readable.from(hashed(tarChunks(entries), diff)), compressor.stdin),
      pipeline(compressor.stdout, createWriteStream(part)),
    ]);
    const whole = createHash("sha256");
    await pipeline(createReadStream(part), whole);
    const kept: Kept = { digest: toDigest(whole), diffId: toDigest(diff), size: statSync(part).size };
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
