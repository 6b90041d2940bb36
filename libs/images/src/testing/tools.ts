/** Unpacks an image with umoci, for a second opinion on what it should look like. */
import { spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { BuiltImage } from "./image.ts";
import { digestOf } from "@berth/base";

export const hasUmoci = spawnSync("umoci", ["--version"]).status === 0;

/** @returns the root file system, beneath `dir` */
export function unpackWithUmoci(image: BuiltImage, dir: string): string {
  const layout = join(dir, "layout");
  mkdirSync(join(layout, "blobs/sha256"), { recursive: true });
  for (const bytes of [...image.blobs, image.manifest]) {
    writeFileSync(join(layout, "blobs", digestOf(bytes).replace(":", "/")), bytes);
  }
  const { platform: _, ...descriptor } = image.descriptor;
  const manifests = [{ ...descriptor, annotations: { "org.opencontainers.image.ref.name": "v1" } }];
  writeFileSync(join(layout, "oci-layout"), JSON.stringify({ imageLayoutVersion: "1.0.0" }));
  writeFileSync(join(layout, "index.json"), JSON.stringify({ schemaVersion: 2, manifests }));
  const rootfs = join(dir, "rootfs");
  const { status, stderr } = spawnSync("umoci", ["raw", "unpack", "--image", `${layout}:v1`, rootfs], {
    encoding: "utf8",
  });
  if (status !== 0) throw new Error(`umoci: ${stderr}`);
  return rootfs;
}
