/** Signs images in a registry as cosign does, and wrongly where a test asks for it. */
import { generateKeyPairSync, sign, type KeyObject } from "node:crypto";
import { digestHex, digestOf, type Digest } from "@berth/base";
import { MEDIA_TYPES } from "@berth/model";
import type { DockerRegistry } from "@berth/registry/testing";

export interface TestSigner {
  readonly privateKey: KeyObject;
  readonly pem: string;
}

export function makeSigner(kind: "ec" | "ed25519" | "rsa" = "ec"): TestSigner {
  const pair =
    kind === "ec"
      ? generateKeyPairSync("ec", { namedCurve: "P-256" })
      : kind === "rsa"
        ? generateKeyPairSync("rsa", { modulusLength: 2048 })
        : generateKeyPairSync("ed25519");
  return { privateKey: pair.privateKey, pem: pair.publicKey.export({ type: "spki", format: "pem" }).toString() };
}

export function signBytes(key: KeyObject, bytes: Uint8Array): Buffer {
  return sign(key.asymmetricKeyType === "ed25519" ? null : "sha256", bytes, key);
}

/** cosign's payload, byte for byte. */
export function payloadOf(reference: string, digest: string, optional: object | null = null): Buffer {
  const critical = {
    identity: { "docker-reference": reference },
    image: { "docker-manifest-digest": digest },
    type: "cosign container image signature",
  };
  return Buffer.from(JSON.stringify({ critical, optional }));
}

export interface SignatureLayer {
  readonly payload: Buffer;
  readonly signature: Buffer;
  readonly annotations?: Readonly<Record<string, string>>;
}

/** What cosign pushes to the tag `sha256-<hex>.sig`. */
export async function pushSignatures(
  registry: DockerRegistry,
  repository: string,
  digest: Digest,
  layers: readonly SignatureLayer[],
): Promise<void> {
  const { manifest, blobs } = signatureManifest(layers);
  for (const blob of blobs) await registry.pushBlob(repository, blob);
  await registry.pushManifest(repository, `sha256-${digestHex(digest)}.sig`, MEDIA_TYPES.ociManifest, manifest);
}

export function signatureManifest(layers: readonly SignatureLayer[]): { manifest: Buffer; blobs: Buffer[] } {
  const diffIds = layers.map(({ payload }) => digestOf(payload));
  const config = Buffer.from(
    JSON.stringify({ architecture: "", os: "", rootfs: { type: "layers", diff_ids: diffIds }, config: {} }),
  );
  const manifest = {
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.ociManifest,
    config: { mediaType: MEDIA_TYPES.ociConfig, size: config.length, digest: digestOf(config) },
    layers: layers.map(({ payload, signature, annotations }) => ({
      mediaType: "application/vnd.dev.cosign.simplesigning.v1+json",
      size: payload.length,
      digest: digestOf(payload),
      annotations: { "dev.cosignproject.cosign/signature": signature.toString("base64"), ...annotations },
    })),
  };
  return { manifest: Buffer.from(JSON.stringify(manifest)), blobs: [config, ...layers.map(({ payload }) => payload)] };
}

/** As `cosign sign --key` does it. */
export async function cosignSign(
  registry: DockerRegistry,
  repository: string,
  digest: Digest,
  signer: TestSigner,
): Promise<void> {
  const payload = payloadOf(`${registry.host}/${repository}`, digest);
  await pushSignatures(registry, repository, digest, [{ payload, signature: signBytes(signer.privateKey, payload) }]);
}

/** As newer cosigns push a bundle: a manifest that refers to the image, listed under the tag for referrers. */
export async function pushBundle(
  registry: DockerRegistry,
  repository: string,
  subject: { readonly mediaType: string; readonly digest: Digest; readonly size: number },
  bundle: object,
): Promise<void> {
  const bytes = Buffer.from(JSON.stringify(bundle));
  const empty = Buffer.from("{}");
  const artifactType = "application/vnd.dev.sigstore.bundle.v0.3+json";
  for (const blob of [empty, bytes]) await registry.pushBlob(repository, blob);
  const describe = (mediaType: string, blob: Buffer): object => ({
    mediaType,
    digest: digestOf(blob),
    size: blob.length,
  });
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MEDIA_TYPES.ociManifest,
      artifactType,
      config: describe("application/vnd.oci.empty.v1+json", empty),
      layers: [describe(artifactType, bytes)],
      subject,
    }),
  );
  await registry.pushManifest(
    repository,
    `bundle-${digestHex(digestOf(manifest)).slice(0, 12)}`,
    MEDIA_TYPES.ociManifest,
    manifest,
  );
  const index = {
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.ociIndex,
    manifests: [{ ...describe(MEDIA_TYPES.ociManifest, manifest), artifactType }],
  };
  const tag = `sha256-${digestHex(subject.digest)}`;
  await registry.pushManifest(repository, tag, MEDIA_TYPES.ociIndex, Buffer.from(JSON.stringify(index)));
}

/** An in-toto statement in a signed envelope (DSSE), as `cosign sign` makes it. */
export function envelopeOf(
  key: KeyObject,
  digest: Digest,
  predicateType = "https://sigstore.dev/cosign/sign/v1",
): object {
  const statement = {
    _type: "https://in-toto.io/Statement/v1",
    subject: [{ digest: { sha256: digestHex(digest) } }],
    predicateType,
    predicate: {},
  };
  const payload = Buffer.from(JSON.stringify(statement));
  const payloadType = "application/vnd.in-toto+json";
  const signed = Buffer.concat([
    Buffer.from(`DSSEv1 ${payloadType.length} ${payloadType} ${payload.length} `),
    payload,
  ]);
  const sig = signBytes(key, signed).toString("base64");
  return { payload: payload.toString("base64"), payloadType, signatures: [{ sig, keyid: "" }] };
}
