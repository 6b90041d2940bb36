/** A node whose disk fills up during a pull: a clear error, nothing half committed, and small images still run. */
import assert from "node:assert/strict";
import { statfs } from "node:fs/promises";
import { test } from "node:test";
import { buildImage, busyboxRootfs, eventually, pushImage, startFleet } from "@berth/testkit";
import { seededRandom } from "@berth/base";
import { pushHello, tasksOf, workloadManifest } from "../support/fleet.ts";

const MIB = 1024 * 1024;

void test(
  "a disk that fills up during a pull fails that pull alone and leaves nothing of it",
  { timeout: 150_000 },
  async () => {
    await using fleet = await startFleet({ nodes: 1, dataBytes: 48 * MIB });
    const small = await pushHello(fleet);
    await fleet.berth(["ns", "create", "demo"]);
    await fleet.berth(["-n", "demo", "run", "--follow", "--rm", small, "--", "true"]);
    const before = await usedBytes(fleet.agents[0]!.root);

    const layer = { entries: [{ path: "noise", content: noise(40 * MIB) }], compression: "none" as const };
    const large = (
      await pushImage(fleet.registry, "demo/large", "v1", buildImage({ layers: [busyboxRootfs(), layer] }))
    ).name;
    await fleet.berth(
      ["apply", "-f", "-"],
      workloadManifest({ name: "large", image: large, replicas: 1, args: ["true"], restart: "never" }),
    );
    const failed = await eventually(
      "the failed task",
      async () => (await tasksOf(fleet, "large")).find((task) => task.status.phase === "Failed"),
      { timeoutMs: 60_000 },
    );
    assert.equal(failed.status.reason, "ImagePullFailed");
    assert.match(failed.status.message, /space|disk/i);
    await fleet.berth(["-n", "demo", "delete", "workload", "large", "--wait"]);
    await eventually(
      "the space to be free again",
      async () => (await usedBytes(fleet.agents[0]!.root)) < before + 8 * MIB,
      { timeoutMs: 30_000 },
    );
    const again = await fleet.cli("-n", "demo", "run", "--follow", "--rm", small, "--", "echo", "fine");
    assert.equal(again.stdout, "fine\n", again.stderr);
  },
);

function noise(sizeBytes: number): Buffer {
  const random = seededRandom(7);
  const bytes = Buffer.alloc(sizeBytes);
  for (let offset = 0; offset < sizeBytes; offset += 4) bytes.writeUInt32LE(Math.floor(random() * 2 ** 32), offset);
  return bytes;
}

async function usedBytes(path: string): Promise<number> {
  const { blocks, bfree, bsize } = await statfs(path);
  return (blocks - bfree) * bsize;
}
