/** Images in a registry and on a host, to be moved to other hosts. */
import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { digestOf } from "@berth/base";
import { startDockerRegistry, type DockerRegistry } from "@berth/registry/testing";
import { startTestHost, type TestHost } from "./host.ts";
import { buildImage, pushImage, pushIndex, type BuiltImage } from "./image.ts";
import { buildTar } from "./tar.ts";

export interface Warehouse extends AsyncDisposable {
  readonly registry: DockerRegistry;
  /** Has pulled `app`, `other` and `multi` into `shop`. */
  readonly source: TestHost;
  name(repository: string): string;
  /** A path that nothing is at. */
  place(what: string): string;
  exported(format: "oci" | "docker", ...repositories: string[]): Promise<string>;
  /** An OCI layout as a directory, which a test can spoil. */
  layoutOf(image: BuiltImage, reference: string): Promise<string>;
}

export const sharedLayer = { tar: buildTar([{ name: "shared", data: "both images have this" }]) };
export const app = buildImage({
  layers: [sharedLayer, { tar: buildTar([{ name: "app", data: "app" }]) }],
  env: ["A=1"],
});
export const other = buildImage({
  layers: [sharedLayer, { tar: buildTar([{ name: "other", data: "other" }]), stored: "plain" }],
});
export const arm = buildImage({ layers: [sharedLayer], platform: { os: "linux", architecture: "arm64" } });
export const amd = buildImage({ layers: [sharedLayer], platform: { os: "linux", architecture: "amd64" } });

export async function startWarehouse(): Promise<Warehouse> {
  const folder = await mkdtemp(join(tmpdir(), "berth-transfer-"));
  const registry = await startDockerRegistry();
  await pushImage(registry, "app", "v1", app);
  await pushImage(registry, "other", "v1", other);
  await pushIndex(registry, "multi", "v1", [amd, arm]);
  const source = await startTestHost({ hosts: [{ host: registry.host, plainHttp: true }] });
  const name = (repository: string): string => `${registry.host}/${repository}:v1`;
  for (const repository of ["app", "other", "multi"]) {
    await source.images.pull({ namespace: "shop", image: name(repository), snapshotter: "overlayfs" });
  }
  let serial = 0;
  const place = (what: string): string => join(folder, `${++serial}-${what}`);
  return {
    registry,
    source,
    name,
    place,
    async exported(format, ...repositories) {
      const path = place(`${format}.tar`);
      const images = repositories.map(name);
      await source.images.transfer.export({ namespace: "shop", images, format, target: { kind: "file", path } });
      return path;
    },
    async layoutOf(image, reference) {
      const root = place("layout");
      await mkdir(join(root, "blobs/sha256"), { recursive: true });
      for (const bytes of [...image.blobs, image.manifest]) {
        await writeFile(join(root, "blobs", digestOf(bytes).replace(":", "/")), bytes);
      }
      const manifests = [{ ...image.descriptor, annotations: { "io.containerd.image.name": reference } }];
      await writeFile(join(root, "oci-layout"), JSON.stringify({ imageLayoutVersion: "1.0.0" }));
      await writeFile(join(root, "index.json"), JSON.stringify({ schemaVersion: 2, manifests }));
      return root;
    },
    async [Symbol.asyncDispose]() {
      await source[Symbol.asyncDispose]();
      await registry[Symbol.asyncDispose]();
      await rm(folder, { recursive: true });
    },
  };
}

export async function blobsOf(host: TestHost, namespace: string): Promise<string[]> {
  const digests: string[] = [];
  for await (const { digest } of host.content.walk(namespace)) digests.push(digest);
  return digests;
}
