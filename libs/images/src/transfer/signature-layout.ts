/** Signatures as a manifest in an OCI layout, marked as `cosign save` marks them: what an import reads again. */
import { digestOf, type Digest } from "@berth/base";
import { MEDIA_TYPES, type Descriptor } from "@berth/model";
import { layerOf, type SignatureMaterial } from "../verify/material.ts";

export interface SignatureLayout {
  readonly descriptor: Descriptor;
  readonly blobs: readonly { readonly digest: Digest; readonly bytes: Buffer }[];
}

export function signatureLayout(materials: readonly SignatureMaterial[]): SignatureLayout | undefined {
  if (materials.length === 0) return undefined;
  const layers = materials.map(layerOf);
  const config = Buffer.from("{}");
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MEDIA_TYPES.ociManifest,
      config: { mediaType: "application/vnd.oci.empty.v1+json", digest: digestOf(config), size: config.length },
      layers: layers.map(({ mediaType, bytes, annotations }) => {
        return { mediaType, digest: digestOf(bytes), size: bytes.length, annotations };
      }),
    }),
  );
  const blobs = [config, ...layers.map(({ bytes }) => bytes), manifest].map((bytes) => ({
    digest: digestOf(bytes),
    bytes,
  }));
  return {
    descriptor: {
      mediaType: MEDIA_TYPES.ociManifest,
      digest: digestOf(manifest),
      size: manifest.length,
      annotations: { kind: "dev.cosignproject.cosign/sigs" },
    },
    blobs,
  };
}
