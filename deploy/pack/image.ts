/**
 * A release as an image for registries, in OCI's layout: one layer, which is the archive itself. Agents fetch it by the way they fetch
 * images, through the same mirrors (`berth upgrade agents --image`).
 */
import { createHash } from "node:crypto";
import { linkSync, mkdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Release } from "./release.ts";

/** @returns the digest of the manifest, by which nodes are told of it */
export function writeImage(
  archive: string,
  sha256: string,
  folder: string,
  release: Pick<Release, "version" | "arch">,
): string {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(join(folder, "blobs/sha256"), { recursive: true });
  const blob = (hex: string): string => join(folder, "blobs/sha256", hex);
  const put = (mediaType: string, content: object): { mediaType: string; digest: string; size: number } => {
    const bytes = Buffer.from(JSON.stringify(content));
    const hex = createHash("sha256").update(bytes).digest("hex");
    writeFileSync(blob(hex), bytes);
    return { mediaType, digest: `sha256:${hex}`, size: bytes.length };
  };
  linkSync(archive, blob(sha256));
  const architecture = release.arch === "x64" ? "amd64" : release.arch;
  const config = put("application/vnd.oci.image.config.v1+json", {
    architecture,
    os: "linux",
    config: {},
    // Nobody mounts it: what the layer holds is checked by its own digest.
    rootfs: { type: "layers", diff_ids: [`sha256:${sha256}`] },
  });
  const manifest = put("application/vnd.oci.image.manifest.v1+json", {
    schemaVersion: 2,
    mediaType: "application/vnd.oci.image.manifest.v1+json",
    config,
    layers: [
      {
        mediaType: "application/vnd.oci.image.layer.v1.tar+gzip",
        digest: `sha256:${sha256}`,
        size: statSync(archive).size,
      },
    ],
    annotations: { "org.opencontainers.image.version": release.version },
  });
  writeFileSync(join(folder, "oci-layout"), '{"imageLayoutVersion":"1.0.0"}\n');
  const index = { schemaVersion: 2, manifests: [{ ...manifest, platform: { architecture, os: "linux" } }] };
  writeFileSync(join(folder, "index.json"), `${JSON.stringify(index)}\n`);
  return manifest.digest;
}

/** Of an archive that is there: node deploy/pack/image.ts ARCHIVE SHA256 VERSION FOLDER; prints the digest. */
if (import.meta.main) {
  const [archive = "", sha256 = "", version = "", folder = ""] = process.argv.slice(2);
  process.stdout.write(`${writeImage(archive, sha256, folder, { version, arch: process.arch })}\n`);
}
