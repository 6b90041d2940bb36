/** A pull that is cancelled at any moment leaves nothing half-done, and the next one works (seeded). */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import { seededRandom } from "@berth/base";
import { serveImages } from "./testing/image-server.ts";
import { startTestHost } from "./testing/host.ts";
import { buildImage } from "./testing/image.ts";
import { buildTar } from "./testing/tar.ts";

const CASES = 16 * Number(process.env["BERTH_SOAK_FACTOR"] ?? 1);
const SEED = 20_261_126;

function imageOf(seed: number) {
  const layer = (name: string, bytes: number) => ({ tar: buildTar([{ name, data: randomBytes(bytes) }]) });
  return buildImage({
    layers: [layer(`base/${seed}`, 400_000), layer("base/x", 30_000), layer("top", 700_000)],
  });
}

test("a pull cancelled at any request or piece of news leaves nothing half-done", async () => {
  const random = seededRandom(SEED);
  const images = Object.fromEntries(Array.from({ length: CASES }, (_, i) => [`app${i}`, imageOf(i)]));
  let onRequest: () => void = () => {};
  await using server = await serveImages(images, () => {
    onRequest();
    return false;
  });
  await using host = await startTestHost({ hosts: [{ host: server.host, plainHttp: true }] });
  let cancelled = 0;
  for (let i = 0; i < CASES; i += 1) {
    const request = { namespace: "shop", image: `${server.host}/app${i}:v1`, snapshotter: "overlayfs" };
    const abort = new AbortController();
    // Either of the requests (manifest, config, three layers), or of what is told of progress, or some turns after it.
    let countdown = Math.floor(random() * 6);
    const turns = Math.floor(random() * 40);
    const byRequest = random() < 0.5;
    const step = (): void => {
      countdown -= 1;
      if (countdown === 0) void afterTurns(turns).then(() => abort.abort());
    };
    onRequest = byRequest ? step : () => {};
    const pulling = host.images.pull({ ...request, signal: abort.signal, ...(byRequest ? {} : { onProgress: step }) });
    if (countdown === 0) abort.abort();
    const what = `seed ${SEED}, case ${i}`;
    const outcome = await pulling.then(
      () => "done" as const,
      (error: unknown) => error,
    );
    if (outcome !== "done") {
      cancelled += 1;
      assert.equal((outcome as { code?: string }).code, "CANCELLED", what);
      // It may have been too late to be cancelled: then all of it is there.
      const recorded = (await host.images.list("shop")).some(({ name }) => name === request.image);
      if (recorded) await host.images.unpacked("shop", request.image, "overlayfs");
    }
    assert.deepEqual(await host.leavings(), [], what);
    for await (const { key } of host.snapshotters["overlayfs"]!.snapshotter.walk({ kind: "active" })) {
      assert.fail(`${what}: snapshot ${key} is left`);
    }
    onRequest = () => {};
    await host.images.pull(request);
  }
  assert.ok(cancelled > CASES / 4, `${cancelled} of ${CASES} were cancelled in time`);
});

async function afterTurns(turns: number): Promise<void> {
  for (let turn = 0; turn < turns; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}
