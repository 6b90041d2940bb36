import assert from "node:assert/strict";
import { lstatSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { digestOf } from "@berth/base";
import { startDockerRegistry, type DockerRegistry } from "@berth/registry/testing";
import type { PullProgress } from "./index.ts";
import { failureOf } from "./testing/failure.ts";
import { startTestHost, type TestHost } from "./testing/host.ts";
import { buildImage, pushImage, pushIndex } from "./testing/image.ts";
import { buildTar } from "./testing/tar.ts";

let registry: DockerRegistry;
let host: TestHost;
before(async () => {
  registry = await startDockerRegistry();
  host = await startTestHost({ hosts: [{ host: registry.host, plainHttp: true }] });
});
after(async () => {
  await host[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
});

const base = buildTar([
  { name: "etc/", type: "5" },
  { name: "etc/hosts", data: "127.0.0.1 localhost\n", mode: 0o640, uid: 12, gid: 34 },
  { name: "etc/gone", data: "x" },
  { name: "opt/", type: "5" },
  { name: "opt/old/", type: "5" },
  { name: "opt/old/a", data: "a" },
  { name: "bin", type: "2", linkName: "usr/bin" },
  { name: "usr/bin/", type: "5" },
  { name: "usr/bin/tool", data: "tool", mode: 0o4755 },
]);
const second = buildTar([
  { name: "etc/.wh.gone", data: "" },
  { name: "opt/new", data: "new" },
  { name: "opt/.wh..wh..opq", data: "" },
  { name: "bin/other", data: "other" },
  { name: "usr/bin/link", type: "1", linkName: "usr/bin/tool" },
]);
const third = buildTar([
  { name: "etc", data: "a file now" },
  { name: "opt/new/", type: "5" },
  { name: "opt/new/deep", data: "d" },
]);

for (const snapshotter of ["overlayfs", "native"]) {
  test(`pull unpacks layers over each other on ${snapshotter}, with deletions`, async () => {
    const image = buildImage({ layers: [{ tar: base }, { tar: second, stored: "plain" }], env: ["A=b"] });
    await pushImage(registry, "team/two", "v1", image);
    const name = `${registry.host}/team/two:v1`;
    const pulled = await host.images.pull({ namespace: "shop", image: name, snapshotter });
    assert.equal(pulled.image.name, name);
    assert.deepEqual(pulled.config.config?.Env, ["A=b"]);
    assert.deepEqual(await host.images.unpacked("shop", name, snapshotter), pulled);
    await host.look("shop", snapshotter, pulled.chainId, (root) => {
      assert.deepEqual(readdirSync(join(root, "etc")), ["hosts"]);
      assert.deepEqual(readdirSync(join(root, "opt")), ["new"]);
      assert.deepEqual(readdirSync(join(root, "usr/bin")).sort(), ["link", "other", "tool"]);
      assert.equal(readlinkSync(join(root, "bin")), "usr/bin");
      const hosts = lstatSync(join(root, "etc/hosts"));
      assert.deepEqual([hosts.mode & 0o7777, hosts.uid, hosts.gid, hosts.mtimeMs], [0o640, 12, 34, 1_600_000_000_000]);
      const [tool, link] = [lstatSync(join(root, "usr/bin/tool")), lstatSync(join(root, "usr/bin/link"))];
      assert.equal(tool.ino, link.ino);
      assert.equal(tool.mode & 0o7777, 0o4755);
    });
    assert.deepEqual(await host.leavings(), []);
  });

  test(`pull replaces directories by files and the reverse on ${snapshotter}`, async () => {
    const image = buildImage({ layers: [{ tar: base }, { tar: second }, { tar: third }], docker: true });
    await pushImage(registry, "team/three", "v1", image);
    const pulled = await host.images.pull({ namespace: "shop", image: `${registry.host}/team/three:v1`, snapshotter });
    await host.look("shop", snapshotter, pulled.chainId, (root) => {
      assert.equal(readFileSync(join(root, "etc"), "utf8"), "a file now");
      assert.equal(readFileSync(join(root, "opt/new/deep"), "utf8"), "d");
    });
  });
}

test("pull takes this host's platform from an index and says which there are when none fits", async () => {
  const own = buildImage({ layers: [{ tar: base }] });
  const other = buildImage({ layers: [{ tar: second }], platform: { os: "linux", architecture: "s390x" } });
  await pushIndex(registry, "team/multi", "v1", [other, own]);
  const image = `${registry.host}/team/multi:v1`;
  const pulled = await host.images.pull({ namespace: "shop", image, snapshotter: "overlayfs" });
  assert.equal(pulled.manifest, own.descriptor.digest);
  const platform = { os: "linux", architecture: "riscv64" };
  const error = await failureOf(host.images.pull({ namespace: "shop", image, snapshotter: "overlayfs", platform }));
  assert.equal(error.reason, "PLATFORM_MISSING");
  assert.match(error.message, /linux\/riscv64; it offers linux\/s390x, linux\/(amd64|arm64)/);
});

test("pull tells progress that never goes back and ends with done", async () => {
  const seen: PullProgress[] = [];
  const big = buildTar([{ name: "big", data: Buffer.alloc(3_000_000, "x") }]);
  await pushImage(registry, "team/progress", "v1", buildImage({ layers: [{ tar: big, stored: "plain" }] }));
  await host.images.pull({
    namespace: "shop",
    image: `${registry.host}/team/progress:v1`,
    snapshotter: "overlayfs",
    onProgress: (progress) => seen.push(progress),
  });
  assert.equal(seen[0]!.phase, "resolving");
  const last = seen.at(-1)!;
  assert.equal(last.phase, "done");
  assert.equal(last.offsetBytes, last.totalBytes);
  assert.equal(last.totalBytes, big.length);
  for (const [index, progress] of seen.entries()) {
    assert.ok(index === 0 || progress.offsetBytes >= seen[index - 1]!.offsetBytes);
  }
});

test("pull refuses content that its config does not describe, and keeps nothing of it", async () => {
  const image = buildImage({ layers: [{ tar: base }, { tar: third, diffId: digestOf("a lie") }] });
  await pushImage(registry, "team/lie", "v1", image);
  const name = `${registry.host}/team/lie:v1`;
  const error = await failureOf(host.images.pull({ namespace: "shop", image: name, snapshotter: "overlayfs" }));
  assert.equal(error.code, "DATA_LOSS");
  assert.equal(error.reason, "LAYER_DIFF_ID_MISMATCH");
  assert.match(
    error.message,
    new RegExp(`image ${name}: layer ${image.layers[1]!.digest} of registry ${registry.host}`),
  );
  assert.equal((await failureOf(host.images.get("shop", name))).reason, "IMAGE_MISSING");
  assert.deepEqual(await host.leavings(), []);
});
