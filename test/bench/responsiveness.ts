/**
 * How long the agent's API takes to answer while ten images that share layers are pulled at once (case g of `pull`), against
 * containerd's in the same situation; and what the agent's memory comes to meanwhile, and during a pull of 1 GB and one of
 * 10 GB in one layer.
 *
 * Both are asked for their list of images over their own unix socket, by the same client, every few milliseconds.
 */
import { join } from "node:path";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { Client, credentials, Metadata } from "@grpc/grpc-js";
import {
  GcService,
  ImageService,
  ListImagesRequestSchema,
  ListImagesResponseSchema,
  PullImageRequestSchema,
} from "@berth/proto/host";
import { createGrpcClient } from "@berth/rpc";
import { benchImages, pushImage, startFleet, type BuiltImage, type Fleet } from "@berth/testkit";
import { runBench, type Bench } from "./support/bench.ts";
import { startContainerd, type Containerd } from "./support/containerd.ts";
import { startCost, type Cost } from "./support/cost.ts";
import type { BenchCase } from "./support/report.ts";

const CACHE = join(import.meta.dirname, "../../node_modules/.cache/bench");
const NAMESPACE = "bench";
const ASK_INTERVAL_MS = 5;

interface Answers extends Cost {
  readonly p50: number;
  readonly p99: number;
  readonly longest: number;
  readonly asked: number;
}

await runBench(
  "responsiveness",
  { runs: 3, limitMinutes: 25, needsBytes: 14 * 2 ** 30, options: { containerd: "DIRECTORY" } },
  async (bench) => {
    const { lifetime, dir } = bench;
    process.env["TMPDIR"] = dir; // where a fleet makes its directory
    const fleet = lifetime.own(await startFleet({ nodes: 1 }));
    const containerd = lifetime.own(await startContainerd(bench, bench.options["containerd"]));
    bench.progress("making and pushing images (layers are kept for the next time)");
    const names = await pushAll(fleet, "family", await benchImages.family(CACHE));
    const agent = hostClient(fleet);
    lifetime.defer(() => agent.close());
    const ours: Answers[] = [];
    const theirs: Answers[] = [];
    const quiet = await agent.during(new Promise((resolve) => setTimeout(resolve, 2_000)));
    for (let run = -1; run < bench.runs; run += 1) {
      bench.progress(`run ${run + 1} of ${bench.runs}${run < 0 ? " (not counted)" : ""}`);
      const mine = await agent.during(Promise.all(names.map((name) => agent.pull(name))));
      await agent.forget(names);
      const peers = await peerAnswers(fleet, containerd, names);
      if (run < 0) continue;
      ours.push(mine);
      theirs.push(peers);
    }
    bench.note(`berth with nothing else to do: ${describe(quiet)}`);
    for (const [name, answers] of [
      ["berth", ours],
      ["containerd", theirs],
    ] as const)
      for (const each of answers) bench.note(`${name}: ${describe(each)}`);
    for (const [name, image] of [
      ["a layer of 1 GB", benchImages.hugeLayer(CACHE)],
      ["a layer of 10 GB of zeros", benchImages.sparse(CACHE)],
    ] as const)
      bench.note(`berth while ${name} is pulled: ${describe(await largePull(bench, fleet, agent, await image))}`);
    const of = (name: string, key: "p50" | "p99" | "longest"): BenchCase => ({
      name,
      unit: "ms",
      berth: ours.map((each) => each[key]),
      peer: theirs.map((each) => each[key]),
      against: `containerd ${containerd.version}`,
    });
    return [
      of("API answer while ten images are pulled, median", "p50"),
      of("API answer while ten images are pulled, p99", "p99"),
      of("API answer while ten images are pulled, longest", "longest"),
    ];
  },
);

async function pushAll(fleet: Fleet, repository: string, images: readonly BuiltImage[]): Promise<string[]> {
  const names: string[] = [];
  for (const [n, image] of images.entries())
    names.push((await pushImage(fleet.registry, `bench/${repository}-${n}`, "v1", image)).name);
  return names;
}

async function largePull(bench: Bench, fleet: Fleet, agent: HostClient, image: BuiltImage): Promise<Answers> {
  const names = await pushAll(fleet, `large-${image.layers[0]!.descriptor.size}`, [image]);
  bench.progress(`pulling ${names[0]}`);
  const answers = await agent.during(agent.pull(names[0]!));
  await agent.forget(names);
  return answers;
}

type HostClient = ReturnType<typeof hostClient>;

/** The host door of the fleet's one node. */
function hostClient(fleet: Fleet) {
  const [node] = fleet.agents;
  const endpoint = `unix:${join(node!.state, "berthd.sock")}`;
  const images = createGrpcClient(ImageService, { endpoint });
  const collections = createGrpcClient(GcService, { endpoint });
  const asker = new Client(endpoint, credentials.createInsecure());
  const request = toBinary(ListImagesRequestSchema, create(ListImagesRequestSchema, { namespace: NAMESPACE }));
  const ask = async (): Promise<void> => {
    const answer = await unary(asker, "/berth.host.v1.ImageService/ListImages", request);
    fromBinary(ListImagesResponseSchema, answer);
  };
  return {
    async pull(image: string): Promise<void> {
      const news = images.pullImage(create(PullImageRequestSchema, { namespace: NAMESPACE, image }));
      for await (const _ of news);
    },
    /** The next pull finds nothing. */
    async forget(names: readonly string[]): Promise<void> {
      for (const image of names) await images.removeImage({ namespace: NAMESPACE, image });
      await collections.runGc({});
    },
    during: (work: Promise<unknown>) => answersDuring(work, ask, node!.pid!),
    close(): void {
      asker.close();
      images[Symbol.dispose]();
      collections[Symbol.dispose]();
    },
  };
}

async function peerAnswers(fleet: Fleet, containerd: Containerd, names: readonly string[]): Promise<Answers> {
  const { username, password } = fleet.registry.credentials!;
  const asker = new Client(`unix:${containerd.address}`, credentials.createInsecure());
  const metadata = new Metadata();
  metadata.set("containerd-namespace", NAMESPACE);
  try {
    const pulls = names.map((name) =>
      containerd.ctr("images", "pull", "--plain-http", "--user", `${username}:${password}`, name),
    );
    // An empty request asks for all images.
    const ask = (): Promise<unknown> =>
      unary(asker, "/containerd.services.images.v1.Images/List", new Uint8Array(), metadata);
    return await answersDuring(Promise.all(pulls), ask, containerd.pid);
  } finally {
    asker.close();
    await containerd.removeImages(names);
  }
}

function unary(client: Client, path: string, request: Uint8Array, metadata = new Metadata()): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(
      path,
      (bytes: Uint8Array) => Buffer.from(bytes),
      (bytes: Buffer) => bytes,
      request,
      metadata,
      (error, answer) => (error === null ? resolve(answer!) : reject(error)),
    );
  });
}

/** Asks one question after the other until the work is done. */
async function answersDuring(work: Promise<unknown>, ask: () => Promise<unknown>, pid: number): Promise<Answers> {
  const times: number[] = [];
  let done = false;
  const working = work.finally(() => (done = true));
  working.catch(() => {});
  await ask();
  const cost = startCost(pid);
  while (!done) {
    const begun = performance.now();
    await ask();
    times.push(performance.now() - begun);
    await new Promise((resolve) => setTimeout(resolve, ASK_INTERVAL_MS));
  }
  await working;
  const sorted = times.toSorted((a, b) => a - b);
  const at = (share: number): number => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))]!;
  return { ...cost(), p50: at(0.5), p99: at(0.99), longest: sorted.at(-1)!, asked: sorted.length };
}

function describe({ p50, p99, longest, asked, cpuMs, peakBytes }: Answers): string {
  const times = [p50, p99, longest].map((ms) => ms.toFixed(1)).join(", ");
  return `median, p99, longest of ${asked} answers ${times} ms; ${cpuMs} ms of processor time; ${(peakBytes / 1e6).toFixed(0)} MB resident at most`;
}
