/**
 * The images that pulls are measured with. Sums are the same where cases are to be compared: one layer, eight layers and
 * zstd hold the same 12,000 files of 352 MB, about 130 MB of gzip.
 */
import { buildImage, type BuiltImage, type BuiltLayer } from "../build.ts";
import { benchLayer, type BenchLayer } from "./layer.ts";

const SEED = 20_240_101;
const FILES = 12_000;
const TOTAL_BYTES = 352_000_000;
const LAYERS = 8;
const MEMBERS = 10;
const MEMBER_BASE_LAYERS = 4;

/** Each takes the folder where layers are kept. */
export const benchImages = {
  /** One gzip layer of a system image's files. */
  oneLayer: (dir: string): Promise<BuiltImage> => one(dir, { ...SYSTEM }),
  /** The same sum in eight layers. */
  eightLayers: async (dir: string): Promise<BuiltImage> => image(await parts(dir)),
  /** Eight layers, of which the last is another than {@link eightLayers}'s. */
  oneChanged: async (dir: string): Promise<BuiltImage> => {
    const layers = (await parts(dir)).slice(0, -1);
    return image([...layers, await benchLayer(dir, part(LAYERS - 1, SEED + 1_000))]);
  },
  /** 60,000 files of a kilobyte. */
  smallFiles: (dir: string): Promise<BuiltImage> =>
    one(dir, { ...SYSTEM, files: 60_000, totalBytes: 61_440_000, sizes: "equal" }),
  /** Eight files, a layer of about 1 GB: three quarters of them are noise, as media and archives are. */
  hugeLayer: (dir: string): Promise<BuiltImage> =>
    one(dir, { ...SYSTEM, files: 8, totalBytes: 1_220_000_000, sizes: "equal", noise: 0.75 }),
  /** {@link oneLayer}'s files, compressed by zstd. */
  zstd: (dir: string): Promise<BuiltImage> => one(dir, { ...SYSTEM, compression: "zstd" }),
  /** Ten files of a gigabyte of zeros: 10 GB that are 10 MB on the wire. */
  sparse: (dir: string): Promise<BuiltImage> =>
    one(dir, { ...SYSTEM, files: 10, totalBytes: 10_000_000_000, sizes: "equal", zeros: true }),
  /** Ten images that share four layers and have one small layer of their own each. */
  family: async (dir: string): Promise<readonly BuiltImage[]> => {
    const base = (await parts(dir)).slice(0, MEMBER_BASE_LAYERS);
    const members: BuiltImage[] = [];
    for (let n = 0; n < MEMBERS; n += 1) {
      const own = { ...SYSTEM, seed: SEED + 2_000 + n, files: 400, totalBytes: 11_000_000, first: FILES + n * 400 };
      members.push(image([...base, await benchLayer(dir, own)]));
    }
    return members;
  },
} as const;

const SYSTEM: BenchLayer = {
  seed: SEED,
  files: FILES,
  totalBytes: TOTAL_BYTES,
  sizes: "system",
  compression: "gzip",
};

async function one(dir: string, spec: BenchLayer): Promise<BuiltImage> {
  return image([await benchLayer(dir, spec)]);
}

async function parts(dir: string): Promise<BuiltLayer[]> {
  const layers: BuiltLayer[] = [];
  for (let n = 0; n < LAYERS; n += 1) layers.push(await benchLayer(dir, part(n, SEED + n)));
  return layers;
}

function part(n: number, seed: number): BenchLayer {
  const files = FILES / LAYERS;
  return { ...SYSTEM, seed, files, totalBytes: TOTAL_BYTES / LAYERS, first: n * files };
}

function image(layers: readonly BuiltLayer[]): BuiltImage {
  return buildImage({ layers, config: { Cmd: ["/bin/true"] } });
}
