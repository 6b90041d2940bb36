import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { mkdir, readdir, readFile, rm, symlink, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { PassThrough, Readable } from "node:stream";
import { after, before, test } from "node:test";
import { gzipSync } from "node:zlib";
import { digestOf, StatusError } from "@berth/base";
import { type DockerRegistry } from "@berth/registry/testing";
import { failureOf } from "../testing/failure.ts";
import { startTestHost, type TestHost } from "../testing/host.ts";
import { buildTar } from "../testing/tar.ts";
import { app, blobsOf, other, startWarehouse, type Warehouse } from "../testing/warehouse.ts";

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

async function assertNothing(host: TestHost): Promise<void> {
  assert.deepEqual(await host.images.list("shop"), []);
  assert.deepEqual(await blobsOf(host, "shop"), []);
  assert.deepEqual(await host.content.listStatuses("shop"), []);
  assert.deepEqual(await host.leavings(), []);
}

test("import refuses what is damaged or hostile, and leaves nothing", async (t) => {
  const blob = (root: string, bytes: Buffer): string => join(root, "blobs", digestOf(bytes).replace(":", "/"));
  const layer = app.blobs[2]!;
  const cases: [what: string, reason: string, spoil: (root: string) => Promise<void>][] = [
    [
      "a layer's bytes are others",
      "ARCHIVE_DIGEST_MISMATCH",
      (root) => writeFile(blob(root, layer), Buffer.alloc(layer.length, 1)),
    ],
    ["a layer is cut", "ARCHIVE_INVALID", (root) => truncate(blob(root, layer), 10)],
    ["a layer is missing", "ARCHIVE_INVALID", (root) => rm(blob(root, layer))],
    ["a config is another", "ARCHIVE_INVALID", (root) => writeFile(blob(root, app.blobs[0]!), "{}")],
    ["the manifest is missing", "ARCHIVE_INVALID", (root) => rm(blob(root, app.manifest))],
    ["the manifest is another", "ARCHIVE_INVALID", (root) => writeFile(blob(root, app.manifest), other.manifest)],
    [
      "a blob is a link",
      "ARCHIVE_INVALID",
      async (root) => {
        await rm(blob(root, layer));
        await writeFile(`${root}.secret`, layer);
        await symlink(`${root}.secret`, blob(root, layer));
      },
    ],
    ["the index is garbage", "MANIFEST_INVALID", (root) => writeFile(join(root, "index.json"), "\0garbage")],
    ["the layout is of another version", "ARCHIVE_INVALID", (root) => writeFile(join(root, "oci-layout"), "{}")],
    ["there is no index", "ARCHIVE_INVALID", (root) => rm(join(root, "index.json"))],
  ];
  await using host = await offline();
  for (const [what, reason, spoil] of cases) {
    await t.test(what, async () => {
      const root = await warehouse.layoutOf(app, "registry.example/app:1");
      await spoil(root);
      for (const form of ["directory", "file"] as const) {
        const tar = `${root}.tar`;
        if (form === "file" && what === "a blob is a link") continue;
        if (form === "file") execFileSync("tar", ["-cf", tar, "-C", root, "."]);
        const path = form === "file" ? tar : root;
        const importing = host.images.transfer.import({
          namespace: "shop",
          source: { kind: form, path },
          snapshotter: "overlayfs",
        });
        const error = await failureOf(importing);
        assert.equal(error.reason, reason, error.message);
        await assertNothing(host);
      }
    });
  }
});

test("import refuses tar files that are cut, no archives, or of unsafe names, and streams that break off", async () => {
  await using host = await offline();
  const whole = await readFile(await warehouse.exported("oci", "app"));
  const importing = async (bytes: Buffer, how: "file" | "stream"): Promise<StatusError> => {
    const path = place("bad.tar");
    await writeFile(path, bytes);
    const from =
      how === "file"
        ? ({ kind: "file", path } as const)
        : ({ kind: "stream", stream: Readable.from([bytes]) } as const);
    return await failureOf(host.images.transfer.import({ namespace: "shop", source: from })).catch((error: unknown) => {
      throw new Error(`${how} of ${bytes.length} bytes was taken`, { cause: error });
    });
  };
  for (const how of ["file", "stream"] as const) {
    for (const bytes of [
      whole.subarray(0, whole.length - 3000),
      whole.subarray(0, 700),
      Buffer.from("no archive at all"),
      Buffer.alloc(0),
      Buffer.alloc(5000, "x"),
      gzipSync(whole).subarray(0, 600),
      buildTar([
        { name: "../../index.json", data: "{}" },
        { name: "/../oci-layout", data: "{}" },
      ]),
      buildTar([{ name: "manifest.json", data: '[{"Config":"../../etc/passwd","Layers":[]}]' }]),
      buildTar([{ name: "manifest.json", type: "2", linkName: "manifest.json" }]),
    ]) {
      const error = await importing(bytes, how);
      assert.ok(["ARCHIVE_INVALID", "LAYER_INVALID"].includes(error.reason), `${bytes.length} bytes: ${error.message}`);
      await assertNothing(host);
    }
  }
  const broken = new PassThrough();
  broken.write(whole.subarray(0, 5000));
  const failing = failureOf(
    host.images.transfer.import({ namespace: "shop", source: { kind: "stream", stream: broken } }),
  );
  broken.destroy(new Error("connection lost"));
  assert.equal((await failing).reason, "ARCHIVE_TRUNCATED");
  await assertNothing(host);
});

test("import and export end when called off, and leave nothing", async () => {
  await using host = await offline();
  const path = await warehouse.exported("oci", "app");
  const abort = new AbortController();
  const endless = new PassThrough();
  endless.write((await readFile(path)).subarray(0, 5000));
  const importing = failureOf(
    host.images.transfer.import({
      namespace: "shop",
      source: { kind: "stream", stream: endless },
      signal: abort.signal,
    }),
  );
  const unread = new PassThrough({ highWaterMark: 10 });
  const exporting = failureOf(
    source.images.transfer.export({
      namespace: "shop",
      images: [name("app")],
      target: { kind: "stream", stream: unread },
      signal: abort.signal,
    }),
  );
  abort.abort(new StatusError("CANCELLED", "enough"));
  assert.equal((await importing).code, "CANCELLED");
  assert.equal((await exporting).code, "CANCELLED");
  assert.ok(unread.destroyed);
  await assertNothing(host);
});

test("export says which blob is damaged or gone, and leaves no file", async () => {
  await using host = await startTestHost({ hosts: [{ host: registry.host, plainHttp: true }] });
  await pull(host, "app");
  const damaged = app.layers[0]!.digest;
  const blobPath = await host.content.path("shop", damaged);
  const bytes = await readFile(blobPath);
  bytes[20]! ^= 1;
  await rm(blobPath);
  await writeFile(blobPath, bytes);
  const directory = place("out");
  await mkdir(directory);
  for (const format of ["oci", "docker"] as const) {
    const exporting = host.images.transfer.export({
      namespace: "shop",
      images: [name("app")],
      format,
      target: { kind: "file", path: join(directory, "out.tar") },
    });
    const error = await failureOf(exporting);
    assert.ok(["BLOB_DAMAGED", "LAYER_INVALID"].includes(error.reason), error.message);
    assert.deepEqual(await readdir(directory), []);
  }
  await host.content.delete("shop", damaged);
  const gone = host.images.transfer.export({
    namespace: "shop",
    images: [name("app")],
    target: { kind: "file", path: join(directory, "out.tar") },
  });
  assert.equal((await failureOf(gone)).reason, "BLOB_MISSING");
});
