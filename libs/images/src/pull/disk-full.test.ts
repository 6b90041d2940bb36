/**
 * Pulls on a disk with every amount of space left, in steps, so that it is full at each stage in turn: while a manifest is
 * stored, while a layer is written, extracted, committed, recorded. Either way the pull fails with `DISK_FULL`, naming the
 * image, and gives back what it took; and once there is space, the next one succeeds.
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtemp, open, rm, statfs } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { StatusError } from "@berth/base";
import { mount, unmountUnder } from "@berth/linux";
import { withoutRoot } from "@berth/linux/testing";
import { failureOf } from "../testing/failure.ts";
import { startTestHost, type TestHost } from "../testing/host.ts";
import { serveImage, type ImageServer } from "../testing/image-server.ts";
import { buildImage } from "../testing/image.ts";
import { buildTar, type TarInput } from "../testing/tar.ts";

const FACTOR = Number(process.env["BERTH_SOAK_FACTOR"] ?? 1);
const KIB = 1024;
const MIB = 1024 * KIB;
/** As the agent: without space for rows, the rows of what is given back could not be deleted. */
const HEADROOM_BYTES = 4 * MIB;
const DISK_BYTES = 48 * MIB;
/** The database's log may have grown by what was written to it, within what it keeps for that. */
const SLACK_BYTES = 64 * KIB;

function files(folder: string, count: number, bytes: number): TarInput[] {
  const entries: TarInput[] = [{ name: `${folder}/`, type: "5" }];
  for (let n = 0; n < count; n += 1) entries.push({ name: `${folder}/f${n}`, data: randomBytes(bytes) });
  return entries;
}

/** Of about 3 MiB as it is stored, and as much unpacked. */
const image = buildImage({
  layers: [
    { tar: buildTar(files("base", 40, 20_000)) },
    { tar: buildTar(files("app", 10, 100_000)) },
    { tar: buildTar([...files("app", 20, 40_000), { name: "base/.wh.f1", data: "" }]) },
  ],
});

interface Disk extends AsyncDisposable {
  readonly root: string;
  /** Takes all space but this; undefined gives it back. */
  leave(bytes: number | undefined): Promise<void>;
  usedBytes(): Promise<number>;
}

async function openDisk(options: readonly string[] = []): Promise<Disk> {
  const root = await mkdtemp(join(tmpdir(), "berth-full-"));
  mount({ type: "tmpfs", source: "tmpfs", target: root, options: [`size=${DISK_BYTES}`, "mode=755", ...options] });
  const ballast = await open(join(root, "ballast"), "w");
  let ballastBytes = 0;
  const free = async (): Promise<number> => {
    const { bavail, bsize } = await statfs(root);
    return bavail * bsize;
  };
  return {
    root,
    async leave(bytes) {
      await ballast.truncate(0);
      ballastBytes = bytes === undefined ? 0 : Math.max(0, (await free()) - bytes);
      const chunk = Buffer.alloc(MIB);
      for (let at = 0; at < ballastBytes; at += MIB) {
        await ballast.write(chunk, 0, Math.min(MIB, ballastBytes - at), at);
      }
    },
    async usedBytes() {
      const { blocks, bfree, bsize } = await statfs(root);
      return (blocks - bfree) * bsize - Math.ceil(ballastBytes / bsize) * bsize;
    },
    async [Symbol.asyncDispose]() {
      await ballast.close();
      unmountUnder(root, { detach: true });
      await rm(root, { recursive: true });
    },
  };
}

async function startHost(server: ImageServer, root: string, headroomBytes: number): Promise<TestHost> {
  const hosts = [{ host: server.host, plainHttp: true }];
  return await startTestHost({ hosts, root, headroomBytes, registry: { maxAttempts: 1 } });
}

/** What a failed pull may not leave: ingests, blobs, layers, mounts, an image. */
async function assertNothingLeft(host: TestHost, name: string): Promise<void> {
  assert.deepEqual(await host.leavings(), []);
  assert.deepEqual(await host.content.listStatuses("shop"), []);
  assert.deepEqual(await host.content.totals(), { blobs: 0, sizeBytes: 0 });
  for (const { snapshotter } of Object.values(host.snapshotters)) {
    for await (const { key } of snapshotter.walk()) assert.fail(`snapshot ${key} is left`);
    await snapshotter.cleanup();
  }
  assert.equal((await failureOf(host.images.get("shop", name))).reason, "IMAGE_MISSING");
}

interface Outcome {
  readonly failures: number;
  readonly messages: readonly string[];
}

/** One pull at each amount of space left. */
async function pullAtEach(
  disk: Disk,
  host: TestHost,
  name: string,
  snapshotter: string,
  levels: readonly number[],
): Promise<Outcome> {
  const request = { namespace: "shop", image: name, snapshotter };
  const messages: string[] = [];
  await host.images.pull(request);
  await empty(host, name);
  for (const level of levels) {
    const before = await disk.usedBytes();
    await disk.leave(level);
    const failure = await host.images.pull(request).then(
      () => undefined,
      (error: unknown) => StatusError.from(error),
    );
    if (failure === undefined) await empty(host, name);
    else {
      assert.deepEqual([failure.code, failure.reason], ["RESOURCE_EXHAUSTED", "DISK_FULL"], failure.message);
      assert.ok(failure.message.includes(name), failure.message);
      messages.push(failure.message);
    }
    await assertNothingLeft(host, name);
    await settled(disk, before, `with ${level} bytes left`);
    await disk.leave(undefined);
    await host.images.pull(request);
    await empty(host, name);
  }
  return { failures: messages.length, messages };
}

async function empty(host: TestHost, name: string): Promise<void> {
  await host.images.remove("shop", name);
  await host.images.collect();
}

/** Removed layers are deleted in the background. */
async function settled(disk: Disk, before: number, when: string): Promise<void> {
  const deadline = performance.now() + 20_000;
  for (;;) {
    const leaked = (await disk.usedBytes()) - before;
    if (leaked <= SLACK_BYTES) return;
    if (performance.now() > deadline) assert.fail(`${leaked} bytes are not given back ${when}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

function steps(from: number, to: number, count: number): number[] {
  return Array.from({ length: count }, (_, n) => Math.round(from + ((to - from) * n) / (count - 1)));
}

for (const [snapshotter, most, count] of [
  ["overlayfs", 6.5 * MIB, 10],
  ["native", 12 * MIB, 4],
] as const) {
  test(
    `pull with ${snapshotter} says so at whatever stage the disk is full, and leaves nothing`,
    { skip: withoutRoot },
    async () => {
      await using server = await serveImage(image);
      await using disk = await openDisk();
      await using host = await startHost(server, disk.root, HEADROOM_BYTES);
      const levels = [0, 4 * KIB, 16 * KIB, ...steps(64 * KIB, most, count * FACTOR)];
      const outcome = await pullAtEach(disk, host, `${server.host}/team/app:v1`, snapshotter, levels);
      assert.ok(
        outcome.failures > levels.length / 3,
        `only ${outcome.failures} of ${levels.length} pulls met a full disk`,
      );
      assert.ok(outcome.failures < levels.length, "with enough space a pull succeeds");
    },
  );
}

test("pull says so when the disk has no more inodes, and leaves nothing", { skip: withoutRoot }, async () => {
  await using server = await serveImage(image);
  await using disk = await openDisk(["nr_inodes=90"]);
  await using host = await startHost(server, disk.root, 0);
  const name = `${server.host}/team/app:v1`;
  const request = { namespace: "shop", image: name, snapshotter: "overlayfs" };
  const failure = await failureOf(host.images.pull(request));
  assert.deepEqual([failure.code, failure.reason], ["RESOURCE_EXHAUSTED", "DISK_FULL"], failure.message);
  await assertNothingLeft(host, name);
  mount({ target: disk.root, type: "", source: "", options: ["remount", "nr_inodes=2000", `size=${DISK_BYTES}`] });
  await host.images.pull(request);
});
