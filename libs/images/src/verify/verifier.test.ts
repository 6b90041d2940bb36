import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { digestOf, type Digest } from "@berth/base";
import { openMetadata, type Metadata } from "@berth/metadata";
import { parseImageReference } from "@berth/model";
import { createRegistryClient, type RegistryClient } from "@berth/registry";
import { startDockerRegistry, type DockerRegistry } from "@berth/registry/testing";
import { imageMigrations } from "../migrations.ts";
import type { VerificationCandidate } from "../pull/verification.ts";
import { failureOf } from "../testing/failure.ts";
import { buildImage, pushImage, pushIndex } from "../testing/image.ts";
import {
  cosignSign,
  envelopeOf,
  makeSigner,
  payloadOf,
  pushBundle,
  pushSignatures,
  signBytes,
} from "../testing/sign.ts";
import { startTestSigstore } from "../testing/sigstore.ts";
import { buildTar } from "../testing/tar.ts";
import type { NamespacePolicy, Requirement } from "./policy.ts";
import { createVerifier, type PolicyVerifier } from "./verifier.ts";

let folder: string;
let metadata: Metadata;
let registry: DockerRegistry;
let client: RegistryClient;
let serial = 0;
const never = new AbortController().signal;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "berth-verify-"));
  metadata = await openMetadata({ path: join(folder, "metadata.db"), migrations: imageMigrations });
  registry = await startDockerRegistry();
  client = createRegistryClient({ hosts: [{ host: registry.host, plainHttp: true }] }, { backoffInitialMs: 5 });
});

after(async () => {
  await client[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
  await metadata[Symbol.asyncDispose]();
  await rm(folder, { recursive: true });
});

interface Pushed {
  readonly repository: string;
  readonly digest: Digest;
  readonly candidate: VerificationCandidate;
}

/** An image of its own in a repository of its own. */
async function push(namespace = "shop"): Promise<Pushed> {
  const repository = `app-${++serial}`;
  const built = buildImage({ layers: [{ tar: buildTar([{ name: "id", data: repository }]) }] });
  await pushImage(registry, repository, "v1", built);
  const image = `${registry.host}/${repository}:v1`;
  const document = { descriptor: built.descriptor, bytes: built.manifest };
  const ref = parseImageReference(image);
  const candidate = { namespace, image, ref, target: document, manifest: document, registry: client };
  return { repository, digest: built.descriptor.digest, candidate };
}

function policed(...require: Requirement[]): PolicyVerifier {
  const policy: NamespacePolicy = { rules: [], default: require };
  return createVerifier({ metadata, policies: () => policy });
}

const offline = (candidate: VerificationCandidate): VerificationCandidate => ({ ...candidate, registry: undefined });

test("check allows anything where there is no policy, and nothing that is rejected", async () => {
  const { candidate } = await push();
  await createVerifier({ metadata, policies: () => undefined }).check(candidate, never);
  await policed({ kind: "none" }).check(candidate, never);
  const error = await failureOf(policed({ kind: "reject" }).check(candidate, never));
  assert.equal(error.code, "PERMISSION_DENIED");
});

test("check wants references by digest where the policy says so", async () => {
  const { candidate, digest } = await push();
  const verifier = policed({ kind: "digest-only" });
  const error = await failureOf(verifier.check(candidate, never));
  assert.equal(error.reason, "IMAGE_NOT_BY_DIGEST");
  assert.match(error.message, new RegExp(`@${digest}`));
  await verifier.check({ ...candidate, ref: { ...candidate.ref, digest } }, never);
});

for (const kind of ["ec", "ed25519", "rsa"] as const) {
  test(`check takes a signature by a key of kind ${kind}, and no other key's`, async () => {
    const { candidate, repository, digest } = await push();
    const signer = makeSigner(kind);
    const verifier = policed({ kind: "key", keys: [makeSigner().pem, signer.pem], repository: "same" });
    assert.equal((await failureOf(verifier.check(candidate, never))).reason, "IMAGE_UNSIGNED");
    await cosignSign(registry, repository, digest, signer);
    await verifier.check(candidate, never);
    const stranger = policed({ kind: "key", keys: [makeSigner(kind).pem] });
    const error = await failureOf(stranger.check(candidate, never));
    assert.equal(error.reason, "IMAGE_SIGNATURE_INVALID");
    assert.match(error.message, /none of the policy's keys/);
  });
}

test("check refuses payloads that were changed, that speak of other images, repositories or things", async () => {
  const signer = makeSigner();
  const other = digestOf("other");
  for (const [payload, signed, wanted] of [
    [(d: string) => payloadOf("x/y", d), (d: string) => payloadOf("x/z", d), /was changed/],
    [() => payloadOf("x/y", other), () => payloadOf("x/y", other), new RegExp(`signs ${other}`)],
    [(d: string) => payloadOf("x.y/z", d), (d: string) => payloadOf("x.y/z", d), /speaks of repository "x.y\/z"/],
    [() => Buffer.from("{}"), () => Buffer.from("{}"), /payload is not cosign's/],
    [() => Buffer.from("]["), () => Buffer.from("]["), /payload is not cosign's/],
  ] as const) {
    const { candidate, repository, digest } = await push();
    const signature = signBytes(signer.privateKey, signed(digest));
    await pushSignatures(registry, repository, digest, [{ payload: payload(digest), signature }]);
    const verifier = policed({ kind: "key", keys: [signer.pem], repository: "same" });
    const error = await failureOf(verifier.check(candidate, never));
    assert.equal(error.reason, "IMAGE_SIGNATURE_INVALID");
    assert.match(error.message, wanted);
  }
});

test("check wants the annotations that the policy names", async () => {
  const { candidate, repository, digest } = await push();
  const signer = makeSigner();
  const payload = payloadOf("", digest, { stage: "release" });
  await pushSignatures(registry, repository, digest, [{ payload, signature: signBytes(signer.privateKey, payload) }]);
  await policed({ kind: "key", keys: [signer.pem], annotations: { stage: "release" } }).check(candidate, never);
  const strict = policed({ kind: "key", keys: [signer.pem], annotations: { stage: "final" } });
  assert.match((await failureOf(strict.check(candidate, never))).message, /lacks the annotation stage=final/);
});

test("check takes a signature of the index for its manifests, and of the chosen manifest alone", async () => {
  const signer = makeSigner();
  const built = buildImage({ layers: [{ tar: buildTar([{ name: "of-index" }]) }] });
  await pushIndex(registry, "index", "v1", [built]);
  const ref = parseImageReference(`${registry.host}/index:v1`);
  const index = await client.manifest(ref);
  const manifest = { descriptor: built.descriptor, bytes: built.manifest };
  const image = `${registry.host}/index:v1`;
  const candidate = { namespace: "shop", image, ref, target: index, manifest, registry: client };
  const verifier = policed({ kind: "key", keys: [signer.pem] });
  assert.equal((await failureOf(verifier.check(candidate, never))).reason, "IMAGE_UNSIGNED");
  await cosignSign(registry, "index", built.descriptor.digest, signer);
  await verifier.check(candidate, never);
});

test("check remembers what it allowed, offline, until the policy is another; and judges kept signatures by it", async () => {
  const { candidate, repository, digest } = await push();
  const [first, second] = [makeSigner(), makeSigner()];
  const payload = payloadOf("", digest);
  const layers = [first, second].map(({ privateKey }) => ({ payload, signature: signBytes(privateKey, payload) }));
  await pushSignatures(registry, repository, digest, layers);
  let policy: NamespacePolicy = { rules: [], default: [{ kind: "key", keys: [first.pem] }] };
  const verifier = createVerifier({ metadata, policies: () => policy });
  const subject = { ...candidate, target: digest, manifest: digest };
  assert.equal(await verifier.allows(subject), false);
  await verifier.check(candidate, never);
  assert.equal(await verifier.allows(subject), true);
  await verifier.check(offline(candidate), never);
  assert.deepEqual(
    verifier.verifiedBy(subject).map(({ kind, current }) => ({ kind, current })),
    [{ kind: "key", current: true }],
  );
  // Another tenant has not verified it.
  assert.equal(await verifier.allows({ ...subject, namespace: "other" }), false);

  policy = { rules: [], default: [{ kind: "key", keys: [first.pem], annotations: {} }] };
  assert.equal(await verifier.allows(subject), false);
  await verifier.check(offline(candidate), never);

  policy = { rules: [], default: [{ kind: "key", keys: [makeSigner().pem] }] };
  const error = await failureOf(verifier.check(candidate, never));
  assert.equal(error.code, "FAILED_PRECONDITION");
  assert.match(error.message, /refused by the image policy of namespace "shop"/);
  assert.ok(verifier.verifiedBy(subject).every(({ current }) => !current));
});

test("check applies the first rule whose pattern fits", async () => {
  const { candidate } = await push();
  const rules = [
    { pattern: `${registry.host}/team/*`, require: [{ kind: "none" } as const] },
    { pattern: `${registry.host}/*`, require: [{ kind: "none" } as const] },
    { pattern: "**", require: [{ kind: "reject" } as const] },
  ];
  const verifier = createVerifier({ metadata, policies: () => ({ rules, default: [] }) });
  await verifier.check(candidate, never);
  const deeper = parseImageReference(`${registry.host}/other/app`);
  assert.equal((await failureOf(verifier.check({ ...candidate, ref: deeper }, never))).reason, "IMAGE_REFUSED");
});

test("check does not take an unreachable registry for an unsigned image", async () => {
  const { candidate } = await push();
  const ref = parseImageReference("127.0.0.1:1/app:v1");
  const away = createRegistryClient(
    { hosts: [{ host: "127.0.0.1:1", plainHttp: true }] },
    { backoffInitialMs: 1, backoffMaxMs: 2 },
  );
  const verifier = policed({ kind: "key", keys: [makeSigner().pem] });
  const error = await failureOf(verifier.check({ ...candidate, ref, registry: away }, never));
  await away[Symbol.asyncDispose]();
  assert.equal(error.reason, "IMAGE_SIGNATURES_UNREADABLE");
  assert.equal(error.code, "UNAVAILABLE");
});

const SUBJECT = "https://github.com/acme/app/.github/workflows/release.yml@refs/tags/v1";
const ISSUER = "https://token.actions.githubusercontent.com";

test("check takes keyless signatures of the identities it names, in cosign's older form and as bundles", async () => {
  const sigstore = startTestSigstore();
  const signer = sigstore.certificate(SUBJECT, ISSUER);
  const wants = (subject: string, issuer = ISSUER, trustRoot = sigstore.trustRoot): PolicyVerifier =>
    policed({ kind: "keyless", trustRoot, identities: [{ subject, issuer }], ctlogThreshold: 0 });
  const older = await push();
  const layer = sigstore.layer(payloadOf("", older.digest), signer);
  await pushSignatures(registry, older.repository, older.digest, [layer]);
  const newer = await push();
  const bundle = sigstore.bundle(envelopeOf(signer.key, newer.digest), signer);
  await pushBundle(registry, newer.repository, newer.candidate.target.descriptor, bundle);
  for (const { candidate } of [older, newer]) {
    await wants(SUBJECT).check(candidate, never);
    await wants("https://github.com/acme/**").check(candidate, never);
    for (const [verifier, why] of [
      // A library that takes subjects for patterns would let these through.
      [wants("https://github.com/acme"), /may not sign/],
      [wants("https://github.com/*"), /may not sign/],
      [wants(SUBJECT, "https://accounts.example"), /may not sign/],
      [wants(SUBJECT, ISSUER, startTestSigstore().trustRoot), /does not hold/],
    ] as const) {
      assert.match((await failureOf(verifier.check(candidate, never))).message, why);
    }
    const logged = policed({
      kind: "keyless",
      trustRoot: sigstore.trustRoot,
      identities: [{ subject: SUBJECT, issuer: ISSUER }],
    });
    assert.match((await failureOf(logged.check(candidate, never))).message, /expected 1 SCTs/);
  }
});

test("check refuses bundles that are attestations, of another image, or changed", async () => {
  const sigstore = startTestSigstore();
  const signer = sigstore.certificate(SUBJECT, ISSUER);
  const identities = [{ subject: SUBJECT, issuer: ISSUER }];
  const verifier = policed({ kind: "keyless", trustRoot: sigstore.trustRoot, identities, ctlogThreshold: 0 });
  for (const [envelope, why] of [
    [(d: Digest) => envelopeOf(signer.key, d, "https://slsa.dev/provenance/v1"), /is an attestation/],
    [() => envelopeOf(signer.key, digestOf("other")), /not this image/],
    [(d: Digest) => envelopeOf(makeSigner().privateKey, d), /does not hold/],
  ] as const) {
    const { candidate, repository, digest } = await push();
    await pushBundle(registry, repository, candidate.target.descriptor, sigstore.bundle(envelope(digest), signer));
    assert.match((await failureOf(verifier.check(candidate, never))).message, why);
  }
});

test("check takes a bundle by a key", async () => {
  const { candidate, repository, digest } = await push();
  const signer = makeSigner();
  const bundle = { verificationMaterial: { publicKey: {} }, dsseEnvelope: envelopeOf(signer.privateKey, digest) };
  await pushBundle(registry, repository, candidate.target.descriptor, bundle);
  await policed({ kind: "key", keys: [signer.pem] }).check(candidate, never);
});

test("createVerifier forgets verdicts of images that are gone", async () => {
  const { candidate, digest } = await push();
  const signer = makeSigner();
  const repository = candidate.ref.repository;
  await cosignSign(registry, repository, digest, signer);
  const policy: NamespacePolicy = { rules: [], default: [{ kind: "key", keys: [signer.pem] }] };
  let nowMs = 1_000_000;
  const clock = { nowMs: () => nowMs, monotonicMs: () => nowMs, sleep: async () => {} };
  const verifier = createVerifier({ metadata, policies: () => policy, clock });
  await verifier.check(candidate, never);
  const subject = { ...candidate, target: digest, manifest: digest };
  await verifier.sweep();
  assert.equal(await verifier.allows(subject), true, "a pull may be under way");
  nowMs += 2 * 3_600_000;
  await verifier.sweep();
  assert.equal(await verifier.allows(subject), false);
});
