/**
 * Pull and unpack from an empty root: ours against Debian's containerd, and with `--containerd DIRECTORY` against another
 * one too, from the same registry. `--cases abf` chooses cases (support/pull-cases.ts).
 *
 * All sides are treated alike: one process each, which pulls and removes the images once before it is measured, and between
 * runs. containerd's time is that of `ctr images pull`, which fetches. What the very first pull of a process of ours takes,
 * whose worker threads do not run yet and whose code is not compiled, is told beneath the table.
 */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { StatusError } from "@berth/base";
import { pushImage, startRegistry, type BuiltImage, type RegistryServer } from "@berth/testkit";
import type { PullSide } from "./children/pull.ts";
import { freshDir, runBench, type Bench } from "./support/bench.ts";
import { startChild, type Child } from "./support/child.ts";
import { startContainerd, type Containerd } from "./support/containerd.ts";
import { startCost, type Cost } from "./support/cost.ts";
import { pipelineMs, stagesOf, type Blob } from "./support/pipeline.ts";
import { PULL_CASES, type PullCase } from "./support/pull-cases.ts";
import { median, timedMs, type BenchCase } from "./support/report.ts";
import { compareTrees, settledTreeOf, treeOf, type Tree } from "./support/tree.ts";

const CACHE = join(import.meta.dirname, "../../node_modules/.cache/bench");

interface Side {
  readonly name: string;
  /** Pulls `there`, then measures the pull of `pulled`; leaves nothing. */
  pull(there: readonly string[], pulled: readonly string[]): Promise<Cost & { readonly ms: number }>;
  /** Of the first pull of the case. */
  tree: Tree | undefined;
}

await runBench(
  "pull",
  { limitMinutes: 40, needsBytes: 8 * 2 ** 30, options: { containerd: "DIRECTORY", cases: "LETTERS" } },
  async (bench) => {
    const chosen = chooseCases(bench.options["cases"]);
    const registry = bench.lifetime.own(await startRegistry({ dir: join(bench.dir, "registry") }));
    const directory = bench.options["containerd"];
    const peers = [bench.lifetime.own(await startContainerd(bench))];
    if (directory !== undefined) peers.push(bench.lifetime.own(await startContainerd(bench, directory)));
    const sides = [berthSide(bench, registry), ...peers.map(containerdSide)];
    const results: BenchCase[] = [];
    for (const each of chosen) results.push(...(await measure(bench, registry, each, sides)));
    noteTerms(bench, peers);
    return results;
  },
);

/** @throws INVALID_ARGUMENT */
function chooseCases(letters: string | undefined): readonly PullCase[] {
  if (letters === undefined) return PULL_CASES;
  const known = PULL_CASES.map(({ key }) => key);
  const unknown = letters.split("").filter((letter) => !known.includes(letter));
  if (unknown.length === 0 && letters !== "") return PULL_CASES.filter(({ key }) => letters.includes(key));
  const list = PULL_CASES.map(({ key, name }) => `${key} (${name})`).join(", ");
  throw new StatusError("INVALID_ARGUMENT", `--cases ${letters}: give letters of ${list}`);
}

async function measure(
  bench: Bench,
  registry: RegistryServer,
  { key, name, images, maxRuns = Infinity }: PullCase,
  sides: readonly Side[],
): Promise<BenchCase[]> {
  bench.progress(`case ${key}: making and pushing ${name} (layers are kept for the next time)`);
  const { there, pulled } = await images(CACHE);
  const push = (tag: string, all: readonly BuiltImage[]): Promise<string[]> =>
    Promise.all(all.map(async (image, n) => (await pushImage(registry, `bench/${key}${n}`, tag, image)).name));
  // Blobs that images share must be in the registry once before the rest asks for them.
  const before = await push("before", there);
  const names = await push("v1", pulled);
  const times = sides.map((): number[] => []);
  const costs = sides.map((): Cost[] => []);
  for (const side of sides) side.tree = undefined;
  const runs = Math.min(bench.runs, maxRuns);
  for (let run = -1; run < runs; run += 1) {
    bench.progress(`case ${key}: run ${run + 1} of ${runs}${run < 0 ? " (not counted)" : ""}`);
    for (const [index, side] of sides.entries()) {
      const { ms, ...cost } = await side.pull(before, names);
      if (run < 0) continue;
      times[index]!.push(ms);
      costs[index]!.push(cost);
    }
  }
  for (const peer of sides.slice(1)) compareTrees({ ours: sides[0]!.tree!, peers: peer.tree! });
  noteCase(bench, key, pulled, sides[0]!.tree!);
  const first: number[] = [];
  while (first.length < runs) first.push(await firstPullMs(bench, registry, before, names));
  bench.note(`${key}: the first pull of a process: ${Math.round(median(first))} ms (${spread(first)})`);
  for (const [index, side] of sides.entries()) bench.note(`${key}: ${side.name}: ${describeCost(costs[index]!)}`);
  await noteFloor(bench, key, blobsOf(registry, key, there, pulled));
  return sides.slice(1).map((peer, index) => ({
    name: `${key}: ${name}`,
    unit: "ms",
    berth: times[0]!,
    peer: times[index + 1]!,
    against: peer.name,
  }));
}

/** A process that goes on from run to run, as a daemon does. */
function berthSide(bench: Bench, registry: RegistryServer): Side {
  const root = freshDir(bench, "berth");
  const snapshots = join(root, "snapshots", "snapshots");
  let starting: Promise<Child<PullSide>> | undefined;
  const start = async (): Promise<Child<PullSide>> =>
    bench.lifetime.own(await startChild<PullSide>("pull", { root, registry: registry.address }, bench));
  const side: Side = {
    name: "berth",
    tree: undefined,
    async pull(there, pulled) {
      const child = await (starting ??= start());
      if (there.length > 0) await child.run({ verb: "pull", images: there });
      const cost = startCost(child.pid);
      const ms = await child.run({ verb: "pull", images: pulled });
      const spent = cost();
      side.tree ??= treeOf(snapshots);
      await child.run({ verb: "remove", images: [...there, ...pulled] });
      const left = readdirSync(snapshots);
      if (left.length > 0) throw new StatusError("INTERNAL", `berth kept snapshots: ${left.join(", ")}`);
      return { ms, ...spent };
    },
  };
  return side;
}

/** The first pull of a process, from an empty root. */
async function firstPullMs(
  bench: Bench,
  registry: RegistryServer,
  there: readonly string[],
  pulled: readonly string[],
): Promise<number> {
  const root = freshDir(bench, "berth-first");
  await using child = await startChild<PullSide>("pull", { root, registry: registry.address }, bench);
  if (there.length > 0) await child.run({ verb: "pull", images: there });
  return await child.run({ verb: "pull", images: pulled });
}

function containerdSide(containerd: Containerd): Side {
  const get = (name: string): Promise<string> => containerd.ctr("images", "pull", "--plain-http", name);
  const side: Side = {
    name: `containerd ${containerd.version}`,
    tree: undefined,
    async pull(there, pulled) {
      await Promise.all(there.map(get));
      const cost = startCost(containerd.pid);
      const ms = await timedMs(() => Promise.all(pulled.map(get)));
      const spent = cost();
      side.tree ??= await settledTreeOf(containerd.snapshots);
      await containerd.removeImages([...there, ...pulled]);
      return { ms, ...spent };
    },
  };
  return side;
}

/** The blobs that a pull has to fetch, each once. */
function blobsOf(
  registry: RegistryServer,
  key: string,
  there: readonly BuiltImage[],
  pulled: readonly BuiltImage[],
): Blob[] {
  const seen = new Set(there.flatMap(({ layers }) => layers.map(({ descriptor }) => descriptor.digest)));
  const blobs: Blob[] = [];
  for (const [n, image] of pulled.entries()) {
    for (const { descriptor } of image.layers) {
      if (seen.has(descriptor.digest)) continue;
      seen.add(descriptor.digest);
      const decompress = descriptor.mediaType.endsWith("zstd") ? "zstd -dcq" : "igzip -dc";
      blobs.push({ url: `${registry.api}/v2/bench/${key}${n}/blobs/${descriptor.digest}`, decompress });
    }
  }
  return blobs;
}

/** What no runtime can beat that does the same steps with the same tools one layer after the other. */
async function noteFloor(bench: Bench, key: string, blobs: readonly Blob[]): Promise<void> {
  const times: number[] = [];
  for (let run = 0; run < Math.min(3, bench.runs); run += 1) {
    const ms = await pipelineMs(blobs, freshDir(bench, "pipeline"));
    if (ms === undefined) return bench.note("no bare pipeline to compare with: curl is not installed");
    times.push(ms);
  }
  const stages = await stagesOf(blobs, freshDir(bench, "pipeline"));
  freshDir(bench, "pipeline");
  const each = Object.entries(stages ?? {}).map(([stage, ms]) => `${stage} ${Math.round(ms)}`);
  bench.note(
    `${key}: bare pipeline "curl | tee blob | sha256sum, igzip | tar", layer by layer: ${Math.round(median(times))} ms (${times.length} runs); its steps alone, ms: ${each.join(", ")}`,
  );
}

function noteCase(bench: Bench, key: string, pulled: readonly BuiltImage[], tree: Tree): void {
  const layers = new Map(pulled.flatMap((image) => image.layers.map(({ descriptor: d }) => [d.digest, d.size])));
  const bytes = [...layers.values()].reduce((sum, size) => sum + size, 0);
  bench.note(
    `${key}: ${layers.size} layers of ${megabytes(bytes)}; unpacked ${megabytes(tree.bytes)} in ${tree.files} files`,
  );
}

function describeCost(costs: readonly Cost[]): string {
  const cpu = median(costs.map(({ cpuMs }) => cpuMs));
  const peak = Math.max(...costs.map(({ peakBytes }) => peakBytes));
  return `${Math.round(cpu)} ms of processor time (with decompression programs), ${megabytes(peak)} resident at most`;
}

function noteTerms(bench: Bench, peers: readonly Containerd[]): void {
  for (const { version, decompressor } of peers)
    bench.note(
      `decompression: ISA-L (the library of igzip) for berth, ${decompressor} for containerd ${version} (igzip since its 2.0)`,
    );
  bench.note("nothing of the images is there before a run; all sides were seen to unpack the same files");
  bench.note("berth: from the call to the recorded image");
  bench.note("peer: `ctr images pull --plain-http` with the daemon running; some 20 ms of it are the start of ctr");
  bench.note(
    "durability: all fsync blobs; berth also syncs the unpacked files (syncfs) before it records the image, containerd does not by default. On a tmpfs neither costs anything",
  );
}

function spread(values: readonly number[]): string {
  return `${Math.round(Math.min(...values))} to ${Math.round(Math.max(...values))}, ${values.length} runs`;
}

function megabytes(bytes: number): string {
  return `${(bytes / 1e6).toFixed(0)} MB`;
}
