/**
 * Rounds of a crash test: a process works on a data root, ends at a seeded moment, and what it leaves is opened as an agent
 * opens it at start and checked.
 *
 * What must hold (A2): the database is sound; every blob that a row speaks of hashes to its digest; every image that was
 * said to be pulled, and every other that has a row, is there and looks, file by file with all its bytes, like a reference;
 * nothing half-done is left; the next pull succeeds and looks like the reference too.
 */
import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { setTimeout as delay } from "node:timers/promises";
import { seededRandom, type Random } from "@berth/base";
import { treeDifferences } from "../../doctor/trees.ts";
import { verify } from "../../doctor/verify.ts";
import { startTestHost, type TestHost } from "../host.ts";
import { serveImages, type ManyImagesServer } from "./server.ts";
import { crashImages } from "./workload.ts";

const CHILD = new URL("./child.ts", import.meta.url).pathname;
const SNAPSHOTTERS = ["overlayfs", "native"] as const;
/** About three pulls of all images. */
const LONGEST_LIFE_MS = 1_500;

export interface CrashBench extends AsyncDisposable {
  readonly server: ManyImagesServer;
  /** As images are named at this bench's registry. */
  readonly names: readonly string[];
  /** Where a reference extraction of the image lies. */
  reference(name: string): string;
}

export async function openCrashBench(): Promise<CrashBench> {
  const images = crashImages();
  const server = await serveImages(images);
  const hosts = [{ host: server.host, plainHttp: true }];
  const host = await startTestHost({ hosts });
  const references = new Map<string, string>();
  server.hurry(true);
  for (const repository of images.keys()) {
    const name = `${server.host}/${repository}:v1`;
    const { chainId } = await host.images.pull({ namespace: "shop", image: name, snapshotter: "native" });
    const [view] = await host.snapshotters["native"]!.namespace("shop").view(`reference-${repository}`, chainId);
    references.set(name, view!.source);
  }
  return {
    server,
    names: [...references.keys()],
    reference: (name) => references.get(name)!,
    async [Symbol.asyncDispose]() {
      await host[Symbol.asyncDispose]();
      await server[Symbol.asyncDispose]();
    },
  };
}

/** How a life ends; resolves when the data root can be opened again. */
export type End = (child: ChildProcess, exited: Promise<unknown>) => Promise<void>;

export interface Rounds {
  readonly root: string;
  readonly seed: number;
  readonly count: number;
  readonly end: End;
  /** Is every life a boot of its own? */
  readonly reboots: boolean;
  readonly say?: (text: string) => void;
}

export async function runRounds(bench: CrashBench, rounds: Rounds): Promise<void> {
  const random = seededRandom(rounds.seed);
  const kept = new Map<string, string>();
  for (let round = 1; round <= rounds.count; round += 1) {
    const lifeMs = random() * LONGEST_LIFE_MS;
    const bootId = rounds.reboots ? `boot-${rounds.seed}-${round}` : `boot-${rounds.seed}`;
    const where = `round ${round} of seed ${rounds.seed}, cut after ${lifeMs.toFixed(0)} ms`;
    try {
      bench.server.hurry(false);
      await live(bench, rounds, { seed: rounds.seed * 10_000 + round, bootId, lifeMs, kept });
      bench.server.hurry(true);
      const nextBoot = rounds.reboots ? `${bootId}-check` : bootId;
      await check(bench, rounds.root, nextBoot, { kept, random, thorough: round % 10 === 0 || round === rounds.count });
    } catch (error) {
      throw new Error(`${where}: ${String(error)}`, { cause: error });
    }
    rounds.say?.(`${where}: ${kept.size} images kept`);
  }
}

interface Life {
  readonly seed: number;
  readonly bootId: string;
  readonly lifeMs: number;
  /** Image to snapshotter: said to be pulled, and not known to be on its way out. */
  readonly kept: Map<string, string>;
}

async function live(bench: CrashBench, { root, end }: Rounds, { seed, bootId, lifeMs, kept }: Life): Promise<void> {
  const { server, names } = bench;
  const args = [CHILD, root, server.host, String(seed), bootId, ...names];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  const exited = once(child, "exit");
  const ready = Promise.withResolvers<void>();
  let cut = false;
  const failures: string[] = [];
  const lines = createInterface({ input: child.stdout });
  lines.on("line", (line) => {
    const [what, first, second] = line.split(" ");
    if (what === "ready") ready.resolve();
    else if (what === "pulled") kept.set(second!, first!);
    else if (what === "removing") kept.delete(first!);
    else if (!cut) failures.push(line);
  });
  const read = once(lines, "close");
  try {
    await Promise.race([ready.promise, exited.then(() => assert.fail("the child ended before it was ready"))]);
    await delay(lifeMs);
    cut = true;
  } finally {
    await end(child, exited);
    await read;
  }
  assert.deepEqual(failures, [], "before the cut");
}

interface Check {
  readonly kept: Map<string, string>;
  readonly random: Random;
  /** All images pulled again, all layers extracted again. */
  readonly thorough: boolean;
}

async function check(
  bench: CrashBench,
  root: string,
  bootId: string,
  { kept, random, thorough }: Check,
): Promise<void> {
  const hosts = [{ host: bench.server.host, plainHttp: true }];
  await using host = await startTestHost({ hosts, root, bootId });
  assert.equal(host.metadata.get("PRAGMA integrity_check")?.["integrity_check"], "ok");
  assert.deepEqual(host.recovered.lost, [], "blobs that a row speaks of are lost");
  assert.deepEqual(await host.leavings(), [], "mounts or scratch folders are left");
  for (const { snapshotter } of Object.values(host.snapshotters)) {
    for await (const { key } of snapshotter.walk({ kind: "active" })) assert.fail(`snapshot ${key} is left half-made`);
  }
  for (const [name, snapshotter] of kept) await looksRight(bench, host, name, snapshotter);
  for (const { name } of await host.images.list("shop")) await host.images.get("shop", name);
  const report = await verify({ ...host, snapshotters: Object.values(host.snapshotters) }, { layers: thorough });
  assert.deepEqual(report.problems, [], "committed bytes are damaged");
  const again = thorough ? bench.names : [bench.names[Math.floor(random() * bench.names.length)]!];
  for (const name of again) {
    const snapshotter = SNAPSHOTTERS[random() < 0.75 ? 0 : 1];
    await host.images.pull({ namespace: "shop", image: name, snapshotter });
    kept.set(name, snapshotter);
    await looksRight(bench, host, name, snapshotter);
  }
  assert.deepEqual(await host.leavings(), [], "mounts or scratch folders are left by the next pull");
}

async function looksRight(bench: CrashBench, host: TestHost, name: string, snapshotter: string): Promise<void> {
  const { chainId } = await host.images.unpacked("shop", name, snapshotter);
  const differences = await host.look("shop", snapshotter, chainId, (root) =>
    treeDifferences(root, bench.reference(name)),
  );
  assert.deepEqual(differences, [], `${name} with ${snapshotter}`);
}
