/** What is pulled in each case of `bench pull`. Names of cases stay: results are compared over time by them. */
import { benchImages, type BuiltImage } from "@berth/testkit";

export interface PullCase {
  /** A letter, for `--cases`. */
  readonly key: string;
  readonly name: string;
  /** How many pairs at most, for those that take long. */
  readonly maxRuns?: number;
  /** `there` is pulled before and not measured; `pulled` are pulled at once. */
  readonly images: (dir: string) => Promise<{ there: readonly BuiltImage[]; pulled: readonly BuiltImage[] }>;
}

const only = async (image: Promise<BuiltImage>) => ({ there: [], pulled: [await image] });

export const PULL_CASES: readonly PullCase[] = [
  { key: "a", name: "one layer, 12,000 files", images: (dir) => only(benchImages.oneLayer(dir)) },
  { key: "b", name: "eight layers of the same sum", images: (dir) => only(benchImages.eightLayers(dir)) },
  { key: "c", name: "60,000 small files", images: (dir) => only(benchImages.smallFiles(dir)) },
  { key: "d", name: "one layer of 1 GB, eight files", images: (dir) => only(benchImages.hugeLayer(dir)) },
  { key: "e", name: "one zstd layer, 12,000 files", images: (dir) => only(benchImages.zstd(dir)) },
  {
    key: "f",
    name: "again, the last of eight layers changed",
    images: async (dir) => ({
      there: [await benchImages.eightLayers(dir)],
      pulled: [await benchImages.oneChanged(dir)],
    }),
  },
  {
    key: "g",
    name: "ten images with four shared layers, at once",
    images: async (dir) => ({ there: [], pulled: await benchImages.family(dir) }),
  },
];
