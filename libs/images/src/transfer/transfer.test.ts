import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { createReadStream, createWriteStream } from "node:fs";
import { cp, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { gzipSync } from "node:zlib";
import { startDockerRegistry, type DockerRegistry } from "@berth/registry/testing";
import { failureOf } from "../testing/failure.ts";
import { startTestHost, type TestHost } from "../testing/host.ts";
import { buildImage } from "../testing/image.ts";
import { buildTar } from "../testing/tar.ts";
import { amd, app, arm, blobsOf, other, sharedLayer, startWarehouse, type Warehouse } from "../testing/warehouse.ts";

const skip = spawnSync("skopeo", ["--version"]).status === 0 ? false : "skopeo is not installed";
let serial = 0;
let warehouse: Warehouse;
let source: TestHost;
let registry: DockerRegistry;

before(async () => {
  warehouse = await startWarehouse();
  ({ source, registry } = warehouse);
});
after(() => warehouse[Symbol.asyncDispose]());

const name = (repository: string): string => warehouse.name(repository);
const place = (what: string): string => warehouse.place(what);
const offline = (): Promise<TestHost> => startTestHost({ hosts: [] });

async function pull(host: TestHost, repository: string): Promise<void> {
  await host.images.pull({ namespace: "shop", image: name(repository), snapshotter: "overlayfs" });
}

function skopeo(...args: string[]): string {
  return execFileSync("skopeo", args, { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
}

/** The files at the root of an unpacked image. */
async function filesOf(host: TestHost, image: string, namespace = "shop"): Promise<string[]> {
  const { chainId } = await host.images.unpacked(namespace, image, "overlayfs");
  return await host.look(namespace, "overlayfs", chainId, (root) => readdir(root));
}

test("an OCI archive brings images to another host, byte for byte, from a file, compressed or as a stream", async () => {
  await using host = await offline();
  const path = await warehouse.exported("oci", "app", "other");
  const zipped = place("oci.tar.gz");
  await writeFile(zipped, gzipSync(await readFile(path)));
  for (const from of [
    { kind: "file", path } as const,
    { kind: "file", path: zipped } as const,
    { kind: "stream", stream: createReadStream(path) } as const,
    { kind: "stream", stream: createReadStream(zipped, { highWaterMark: 100 }) } as const,
  ]) {
    const namespace = `tenant-${++serial}`;
    const seen: string[] = [];
    const result = await host.images.transfer.import({
      namespace,
      source: from,
      snapshotter: "overlayfs",
      labels: { team: "red" },
      onProgress: ({ phase }) => void seen.push(phase),
    });
    assert.equal(result.format, "oci");
    const digests = result.images.map(({ record, unpacked }) => [record.name, record.target.digest, unpacked]);
    assert.deepEqual(digests, [
      [name("app"), app.descriptor.digest, true],
      [name("other"), other.descriptor.digest, true],
    ]);
    assert.deepEqual(result.images[0]!.record.labels, { team: "red" });
    assert.deepEqual(await filesOf(host, name("app"), namespace), ["app", "shared"]);
    assert.deepEqual(await filesOf(host, name("other"), namespace), ["other", "shared"]);
    assert.deepEqual(await host.content.listStatuses(namespace), []);
    assert.deepEqual(await host.leavings(), []);
    assert.deepEqual([seen[0], seen.at(-1)], ["copying", "done"]);
    // Once more: everything is there.
    const again = await host.images.transfer.import({ namespace, source: { kind: "file", path } });
    assert.equal(again.images.length, 2);
  }
});

test("export gives the same bytes for the same images, to a file, a stream and a directory", async () => {
  const path = await warehouse.exported("oci", "app");
  assert.deepEqual(await readFile(path), await readFile(await warehouse.exported("oci", "app")));
  const streamed = place("streamed.tar");
  const request = { namespace: "shop", images: [name("app")] };
  const stream = createWriteStream(streamed);
  const result = await source.images.transfer.export({ ...request, target: { kind: "stream", stream } });
  assert.deepEqual(await readFile(streamed), await readFile(path));
  assert.equal(result.sizeBytes, (await readFile(path)).length);
  const directory = place("layout");
  await source.images.transfer.export({ ...request, target: { kind: "directory", path: directory } });
  await using host = await offline();
  await host.images.transfer.import({ namespace: "shop", source: { kind: "directory", path: directory } });
  assert.equal((await host.images.get("shop", name("app"))).target.digest, app.descriptor.digest);
  const taken = source.images.transfer.export({ ...request, target: { kind: "directory", path: directory } });
  assert.equal((await failureOf(taken)).reason, "EXPORT_TARGET_EXISTS");
});

test("skopeo reads what export writes", { skip }, async () => {
  const oci = await warehouse.exported("oci", "app");
  const docker = await warehouse.exported("docker", "app", "other");
  for (const from of [`oci-archive:${oci}:v1`, `docker-archive:${oci}`, `docker-archive:${docker}:${name("app")}`]) {
    const config = JSON.parse(skopeo("inspect", "--config", from)) as { rootfs: { diff_ids: string[] } };
    assert.deepEqual(config.rootfs.diff_ids, app.diffIds);
    skopeo("copy", from, `dir:${place("dir")}`);
  }
});

test("import reads what skopeo writes: OCI archives and layouts, docker archives", { skip }, async () => {
  await using host = await offline();
  for (const [kind, form] of [
    ["oci-archive", "file"],
    ["oci", "directory"],
    ["docker-archive", "file"],
  ] as const) {
    const path = place(kind);
    const tag = kind === "docker-archive" ? name("app") : "v1";
    skopeo("copy", "--src-tls-verify=false", `docker://${name("app")}`, `${kind}:${path}:${tag}`);
    const request = { namespace: kind, source: { kind: form, path }, snapshotter: "overlayfs" } as const;
    if (kind !== "docker-archive") {
      assert.equal((await failureOf(host.images.transfer.import(request))).reason, "ARCHIVE_UNNAMED");
    }
    const base = kind === "docker-archive" ? {} : { baseName: `${registry.host}/app` };
    const { images } = await host.images.transfer.import({ ...request, ...base });
    assert.deepEqual(
      images.map(({ record }) => record.name),
      [name("app")],
    );
    assert.deepEqual(await filesOf(host, name("app"), kind), ["app", "shared"]);
    assert.deepEqual(await host.leavings(), []);
  }
});

test("a docker archive brings images with shared layers and their names, and the same manifest each time", async () => {
  const path = await warehouse.exported("docker", "app", "other");
  const digests = new Set<string>();
  await using host = await offline();
  for (const namespace of ["one", "two"]) {
    const { format, images } = await host.images.transfer.import({
      namespace,
      source: { kind: "file", path },
      snapshotter: "overlayfs",
    });
    assert.equal(format, "docker");
    assert.deepEqual(await filesOf(host, name("app"), namespace), ["app", "shared"]);
    assert.deepEqual(await filesOf(host, name("other"), namespace), ["other", "shared"]);
    // Config, two layers and a manifest each, one of the layers in both.
    assert.equal((await blobsOf(host, namespace)).length, 7);
    for (const { record } of images) digests.add(record.target.digest);
  }
  assert.equal(digests.size, 2);
});

test("a docker archive of old may hold links to layers, a VERSION and other files", async () => {
  const config = app.blobs[0]!;
  const [first, second] = [sharedLayer.tar, buildTar([{ name: "app", data: "app" }])];
  const entries = [
    { name: "repositories", data: "{}" },
    { name: "a/VERSION", data: "1.0" },
    { name: "a/layer.tar", data: first },
    { name: "b/layer.tar", type: "2", linkName: "../a/layer.tar" },
    { name: "c/layer.tar", data: second },
    { name: "../escape", data: "x" },
    { name: "config.json", data: config },
    {
      name: "manifest.json",
      data: JSON.stringify([
        { Config: "config.json", RepoTags: ["old:1", "old:2"], Layers: ["b/layer.tar", "c/layer.tar"] },
      ]),
    },
  ];
  const path = place("old.tar");
  await writeFile(path, buildTar(entries));
  await using host = await offline();
  const request = { namespace: "shop", source: { kind: "file", path }, snapshotter: "overlayfs" } as const;
  const { images } = await host.images.transfer.import(request);
  const names = ["docker.io/library/old:1", "docker.io/library/old:2"];
  assert.deepEqual(
    images.map(({ record }) => record.name),
    names,
  );
  assert.deepEqual(await filesOf(host, "old:2"), ["app", "shared"]);
  const only = await host.images.transfer.import({ ...request, only: ["old:2"] });
  assert.equal(only.images.length, 1);
  assert.equal((await failureOf(host.images.transfer.import({ ...request, only: ["new"] }))).code, "NOT_FOUND");
});

test("an index keeps its digest with the platforms that are here, and one platform can be taken out of it", async () => {
  const both = place("both");
  await using host = await offline();
  const pulled = await source.images.get("shop", name("multi"));
  const path = await warehouse.exported("oci", "multi");
  const { images } = await host.images.transfer.import({
    namespace: "shop",
    source: { kind: "file", path },
    snapshotter: "overlayfs",
  });
  assert.equal(images[0]!.record.target.digest, pulled.target.digest);
  assert.equal(images[0]!.unpacked, true);
  const request = { namespace: "shop", images: [name("multi")] };
  const there = process.arch === "arm64" ? arm : amd;
  const absent = process.arch === "arm64" ? amd : arm;
  const target = { kind: "directory", path: both } as const;
  const [wanted, missing] = [there, absent].map(({ descriptor }) => descriptor.platform!);
  const refused = host.images.transfer.export({ ...request, target, platform: missing! });
  assert.equal((await failureOf(refused)).reason, "PLATFORM_MISSING");
  await host.images.transfer.export({ ...request, target, platform: wanted! });
  const index = JSON.parse(await readFile(join(both, "index.json"), "utf8")) as { manifests: { digest: string }[] };
  assert.equal(index.manifests[0]!.digest, there.descriptor.digest);
});

test("an image for another platform is recorded and not unpacked", async () => {
  const foreign = buildImage({ layers: [sharedLayer], platform: { os: "linux", architecture: "s390x" } });
  const path = await warehouse.layoutOf(foreign, "registry.example/foreign:1");
  await using host = await offline();
  const request = { namespace: "shop", source: { kind: "directory", path }, snapshotter: "overlayfs" } as const;
  const { images } = await host.images.transfer.import(request);
  assert.equal(images[0]!.unpacked, false);
  const platform = { os: "linux", architecture: "amd64" };
  assert.equal((await failureOf(host.images.transfer.import({ ...request, platform }))).reason, "PLATFORM_MISSING");
});

test("push brings an image under another name and mounts what the registry has", async () => {
  const pushed = await source.images.transfer.push({
    namespace: "shop",
    image: name("app"),
    target: `${registry.host}/copy:v2`,
  });
  assert.equal(pushed.target.digest, app.descriptor.digest);
  assert.deepEqual([pushed.uploaded, pushed.mounted, pushed.existing], [0, 3, 0]);
  await using elsewhere = await startDockerRegistry();
  await using host = await startTestHost({
    hosts: [registry, elsewhere].map(({ host: at }) => ({ host: at, plainHttp: true })),
  });
  await pull(host, "app");
  const seen: number[] = [];
  const request = { namespace: "shop", image: name("app"), target: `${elsewhere.host}/team/app:v1` };
  const away = await host.images.transfer.push({
    ...request,
    onProgress: ({ offsetBytes }) => void seen.push(offsetBytes),
  });
  assert.deepEqual([away.uploaded, away.mounted, away.existing], [3, 0, 0]);
  assert.deepEqual(
    seen,
    seen.toSorted((a, b) => a - b),
  );
  assert.equal((await host.images.transfer.push(request)).existing, 3);
  const back = await host.images.pull({ namespace: "other", image: request.target, snapshotter: "overlayfs" });
  assert.equal(back.manifest, app.descriptor.digest);
  const index = { ...request, image: name("multi"), target: `${elsewhere.host}/multi:v1` };
  await pull(host, "multi");
  assert.equal((await failureOf(host.images.transfer.push(index))).reason, "BLOB_MISSING");
  const there = process.arch === "arm64" ? arm : amd;
  const one = await host.images.transfer.push({ ...index, platform: there.descriptor.platform! });
  assert.equal(one.target.digest, there.descriptor.digest);
});

test(
  "a round trip of a copied layout through umoci keeps it readable",
  { skip: skip || spawnSync("umoci", ["--version"]).status !== 0 },
  async () => {
    const layout = place("umoci");
    await source.images.transfer.export({
      namespace: "shop",
      images: [name("app")],
      target: { kind: "directory", path: layout },
    });
    execFileSync("umoci", ["config", "--image", `${layout}:v1`, "--config.env", "B=2", "--tag", "v2"], {
      stdio: "pipe",
    });
    const copy = place("copy");
    await cp(layout, copy, { recursive: true });
    await using host = await offline();
    const { images } = await host.images.transfer.import({
      namespace: "shop",
      source: { kind: "directory", path: copy },
      snapshotter: "overlayfs",
    });
    const tagged = name("app").replace(/v1$/, "v2");
    assert.deepEqual(images.map(({ record }) => record.name).sort(), [name("app"), tagged]);
    const { config } = await host.images.unpacked("shop", tagged, "overlayfs");
    assert.deepEqual(config.config?.Env, ["A=1", "B=2"]);
  },
);
