/**
 * Pull and unpack of an image of one large layer from an empty root: ours against Debian's containerd, the same registry.
 *
 * Ours runs in a process that has loaded its libraries and opened its parts; the layer's worker thread begins with the pull,
 * as it does in an agent that has been idle. containerd runs already; its time is that of `ctr images pull`, which fetches.
 */
import { join } from "node:path";
import { benchImage, pushImage, startRegistry } from "@berth/testkit";
import type { PullSetup, PullSide } from "./children/pull.ts";
import { freshDir, runBench, type Bench } from "./support/bench.ts";
import { startChild } from "./support/child.ts";
import { startContainerd, type Containerd } from "./support/containerd.ts";
import { pipelineMs } from "./support/pipeline.ts";
import { inPairs, median, timedMs } from "./support/report.ts";
import { compareTrees, treeOf, type Tree } from "./support/tree.ts";

const CACHE = join(import.meta.dirname, "../../node_modules/.cache/bench");

await runBench("pull", { limitMinutes: 10, needsBytes: 2 * 2 ** 30 }, async (bench) => {
  const { lifetime, dir } = bench;
  bench.progress("making the image (kept for the next time)");
  const image = await benchImage(CACHE);
  const registry = lifetime.own(await startRegistry({ dir: join(dir, "registry") }));
  const { name } = await pushImage(registry, "bench/large", "v1", image);
  const containerd = lifetime.own(await startContainerd(bench));
  const trees: { ours?: Tree; peers?: Tree } = {};

  const ours = async (run: number): Promise<number> => {
    bench.progress(`run ${run + 1} of ${bench.runs}${run < 0 ? " (not counted)" : ""}`);
    const root = freshDir(bench, "berth");
    const setup: PullSetup = { root, registry: registry.address };
    await using child = await startChild<PullSide>("pull", setup, bench);
    const { ms } = await child.run(name);
    trees.ours ??= treeOf(join(root, "snapshots"));
    return ms;
  };
  const peers = async (): Promise<number> => {
    const ms = await timedMs(() => containerd.ctr("images", "pull", "--plain-http", name));
    trees.peers ??= treeOf(containerd.snapshots);
    await containerd.removeImage(name);
    return ms;
  };
  const result = await inPairs({ runs: bench.runs }, ours, peers);
  freshDir(bench, "berth");
  compareTrees(trees);
  await noteFloor(bench, `${registry.api}/v2/bench/large/blobs/${image.layers[0]!.descriptor.digest}`);
  noteTerms(bench, containerd, trees.ours!, image.layers[0]!.descriptor.size);
  return [
    { name: "pull and unpack, one large layer", unit: "ms", ...result, against: `containerd ${containerd.version}` },
  ];
});

/** What no runtime can beat that does the same steps with the same tools. */
async function noteFloor(bench: Bench, url: string): Promise<void> {
  const times: number[] = [];
  for (let run = 0; run < Math.min(2, bench.runs); run += 1) {
    const ms = await pipelineMs(url, freshDir(bench, "pipeline"));
    if (ms === undefined) return bench.note("no bare pipeline to compare with: curl is not installed");
    times.push(ms);
  }
  bench.note(
    `bare pipeline "curl | tee blob | sha256sum, igzip | tar": ${Math.round(median(times))} ms (${times.length} runs)`,
  );
}

function noteTerms(bench: Bench, { version, decompressor }: Containerd, tree: Tree, layerBytes: number): void {
  const [layer, whole] = [layerBytes, tree.bytes].map((bytes) => `${(bytes / 1e6).toFixed(0)} MB`);
  bench.note(`the layer: ${layer} of gzip, ${whole} in ${tree.files} files`);
  bench.note(`decompression: igzip for berth, ${decompressor} for containerd ${version} (igzip since its 2.0)`);
  bench.note("both roots are empty before each run; both sides were seen to unpack the same files");
  bench.note(
    "berth: from the call to the recorded image, in a process that has its libraries loaded; its worker thread starts within",
  );
  bench.note("peer: `ctr images pull --plain-http` with the daemon running; some 20 ms of it are the start of ctr");
  bench.note(
    `durability: both fsync the blob; berth also syncs the unpacked files (syncfs) before it records the image, containerd ${version} does not. On a tmpfs neither costs anything`,
  );
}
