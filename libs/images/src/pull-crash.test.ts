import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { mkdir, mkdtemp, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { monitorEventLoopDelay } from "node:perf_hooks";
import { setTimeout as delay } from "node:timers/promises";
import { test } from "node:test";
import { unmountUnder } from "@berth/linux";
import { startDockerRegistry } from "@berth/registry/testing";
import { startTestHost } from "./testing/host.ts";
import { buildImage, pushImage } from "./testing/image.ts";
import { serveImage } from "./testing/image-server.ts";
import { buildTar } from "./testing/tar.ts";

const small = buildTar([{ name: "small", data: "small" }]);
const large = buildTar([
  { name: "first", data: "first" },
  { name: "big", data: randomBytes(3_000_000) },
]);

/** Waits until a file has grown to a size; the ingest that a killed process wrote to. */
async function grown(folder: string, bytes: number): Promise<void> {
  await mkdir(folder, { recursive: true });
  const deadline = performance.now() + 20_000;
  while (performance.now() < deadline) {
    try {
      const files = readdirSync(folder, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith("data"));
      for (const name of files) if ((await stat(join(folder, name))).size >= bytes) return;
    } catch (error) {
      // An ingest that was committed between the list and the look.
      if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    }
    await delay(10);
  }
  throw new Error(`nothing in ${folder} grew to ${bytes} bytes`);
}

for (const layers of [[{ tar: large }], [{ tar: small }, { tar: large }]]) {
  test(`a pull killed in layer ${layers.length} is resumed by the next process from the bytes that are there`, async () => {
    const image = buildImage({ layers });
    await using server = await serveImage(image, (seen, response, blob) => {
      if (blob === undefined || blob.length < 1_000_000 || seen.method !== "GET") return false;
      response.writeHead(200, { "content-length": String(blob.length) });
      response.write(blob.subarray(0, 2_000_000));
      return true;
    });
    const root = await mkdtemp(join(tmpdir(), "berth-crash-"));
    const name = `${server.host}/a:v1`;
    const script = join(import.meta.dirname, "testing/pull-child.ts");
    const child = spawn(process.execPath, [script, root, server.host, name], { stdio: "ignore" });
    const exited = once(child, "exit");
    try {
      await grown(join(root, "content"), 2_000_000);
      child.kill("SIGKILL");
      await exited;
      server.mischief(undefined);
      const before = server.seen.length;
      await using host = await startTestHost({ hosts: [{ host: server.host, plainHttp: true }], root });
      assert.deepEqual(await host.leavings(), []);
      const pulled = await host.images.pull({ namespace: "shop", image: name, snapshotter: "overlayfs" });
      const last = image.layers.at(-1)!.digest;
      const fetched = server.seen.slice(before).filter((seen) => seen.method === "GET" && seen.path.endsWith(last));
      assert.deepEqual(
        fetched.map((seen) => seen.headers.range),
        ["bytes=2000000-"],
      );
      await host.look("shop", "overlayfs", pulled.chainId, (folder) => {
        assert.equal(readFileSync(join(folder, "first"), "utf8"), "first");
      });
      assert.deepEqual(await host.leavings(), []);
    } finally {
      child.kill("SIGKILL");
      await exited;
      unmountUnder(root, { detach: true });
      await rm(root, { recursive: true });
    }
  });
}

test("the main event loop stays responsive during a pull of 100 MB in 4,000 files", async () => {
  const piece = randomBytes(25_000);
  const tar = buildTar(Array.from({ length: 4_000 }, (_, i) => ({ name: `d${i % 200}/f${i}`, data: piece })));
  await using registry = await startDockerRegistry();
  await pushImage(registry, "a", "v1", buildImage({ layers: [{ tar, stored: "plain" }] }));
  await using host = await startTestHost({ hosts: [{ host: registry.host, plainHttp: true }] });
  const request = { namespace: "shop", image: `${registry.host}/a:v1`, snapshotter: "overlayfs" };
  const histogram = monitorEventLoopDelay({ resolution: 2 });
  histogram.enable();
  await host.images.pull(request);
  histogram.disable();
  const p99 = histogram.percentile(99) / 1e6;
  assert.ok(p99 < 50, `p99 of the event loop's delay was ${p99} ms`);
});
