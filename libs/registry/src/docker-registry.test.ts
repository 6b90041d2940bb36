/** The client against Debian's docker-registry in every way it can be set up: TLS, credentials, tokens, mirrors, pushes. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { digestOf } from "@berth/base";
import { MEDIA_TYPES, parseImageReference, type ImageReference } from "@berth/model";
import { createRegistryClient, createRegistryClients, openSession, type RegistryClient } from "./index.ts";
import {
  createTestAuthority,
  HTPASSWD,
  missingOpenssl,
  startDockerRegistry,
  startHostileServer,
  startTokenIssuer,
} from "./testing/index.ts";

const skip = missingOpenssl();
const FAST = { backoffInitialMs: 1, backoffMaxMs: 5, maxAttempts: 3 };
const layer = randomBytes(700_000);
const layerDigest = digestOf(layer);
const emptyConfig = Buffer.from("{}");

function manifestOf(extra: object = {}): Buffer {
  const config = { mediaType: MEDIA_TYPES.ociConfig, digest: digestOf(emptyConfig), size: emptyConfig.length };
  const layers = [{ mediaType: MEDIA_TYPES.ociLayer, digest: layerDigest, size: layer.length }];
  return Buffer.from(
    JSON.stringify({ schemaVersion: 2, mediaType: MEDIA_TYPES.ociManifest, config, layers, ...extra }),
  );
}

const manifest = manifestOf();

async function* pieces(bytes: Buffer, offset: number): AsyncGenerator<Uint8Array> {
  for (let at = offset; at < bytes.length; at += 50_000) yield bytes.subarray(at, at + 50_000);
}

const source = (bytes: Buffer) => ({ open: (offset: number) => pieces(bytes, offset) });

async function pushImage(client: RegistryClient, ref: ImageReference): Promise<void> {
  const config = { digest: digestOf(emptyConfig), size: emptyConfig.length };
  await client.pushBlob(ref, config, source(emptyConfig));
  await client.pushBlob(ref, { digest: layerDigest, size: layer.length }, source(layer));
  await client.pushManifest(ref, { mediaType: MEDIA_TYPES.ociManifest, bytes: manifest });
}

async function pulls(client: RegistryClient, ref: ImageReference): Promise<void> {
  assert.equal(await client.resolve(ref), digestOf(manifest));
  assert.deepEqual(Buffer.from((await client.manifest(ref)).bytes), manifest);
  await using stream = await client.blob(ref, layerDigest, { offsetBytes: 100 });
  const chunks: Uint8Array[] = [];
  for await (const chunk of stream.body) chunks.push(chunk);
  assert.ok(Buffer.concat(chunks).equals(layer.subarray(100)));
}

test("push: blobs whole, in pieces, from a file and by mount; manifests by tag and digest; then pull", async () => {
  await using registry = await startDockerRegistry();
  const hosts = [{ host: registry.host, plainHttp: true }];
  await using client = createRegistryClient({ hosts }, FAST);
  const ref = parseImageReference(`${registry.host}/team/app:v1`);
  const blob = { digest: layerDigest, size: layer.length };
  assert.equal(await client.pushBlob(ref, blob, source(layer)), "uploaded");
  assert.equal(await client.pushBlob(ref, blob, source(layer)), "exists");
  const other = parseImageReference(`${registry.host}/team/other:v1`);
  assert.equal(await client.pushBlob(other, blob, source(layer), { mountFrom: "team/app" }), "mounted");
  const folder = await mkdtemp(join(tmpdir(), "berth-push-"));
  try {
    const path = join(folder, "blob");
    const bytes = randomBytes(250_001);
    await writeFile(path, bytes);
    const progress: number[] = [];
    const options = { chunkBytes: 100_000, onProgress: (done: number) => void progress.push(done) };
    const outcome = await client.pushBlob(ref, { digest: digestOf(bytes), size: bytes.length }, { path }, options);
    assert.equal(outcome, "uploaded");
    assert.deepEqual(progress, [100_000, 200_000, 250_001, 250_001]);
    const wrong = { digest: digestOf("else"), size: bytes.length };
    await assert.rejects(client.pushBlob(ref, wrong, { path }), /DIGEST_INVALID/);
    const long = { digest: digestOf("long"), size: bytes.length + 1 };
    await assert.rejects(client.pushBlob(ref, long, { path }), { reason: "BLOB_SOURCE_CHANGED" });
  } finally {
    await rm(folder, { recursive: true });
  }
  await pushImage(client, ref);
  await pulls(client, ref);
  const pinned = { ...ref, tag: undefined, digest: digestOf(manifest) };
  await pulls(client, pinned);
  await pulls(client, { ...pinned, tag: "no-such-tag" });
  const bytes = manifestOf({ annotations: { a: "b" } });
  const byDigest = { ...ref, tag: undefined, digest: digestOf(bytes) };
  assert.equal(await client.pushManifest(byDigest, { mediaType: MEDIA_TYPES.ociManifest, bytes }), digestOf(bytes));
  assert.equal(await client.resolve(byDigest), digestOf(bytes));
});

test("referrers: docker-registry has no API for them, so the tag stands in", async () => {
  await using registry = await startDockerRegistry();
  await using client = createRegistryClient({ hosts: [{ host: registry.host, plainHttp: true }] }, FAST);
  const ref = parseImageReference(`${registry.host}/team/app:v1`);
  await pushImage(client, ref);
  const subject = digestOf(manifest);
  assert.deepEqual(await client.referrers(ref, subject), []);
  const entry = { mediaType: MEDIA_TYPES.ociManifest, digest: subject, size: manifest.length, artifactType: "x/sig" };
  const index = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: MEDIA_TYPES.ociIndex, manifests: [entry] }));
  const tag = subject.replace(":", "-");
  await client.pushManifest({ ...ref, tag }, { mediaType: MEDIA_TYPES.ociIndex, bytes: index });
  assert.deepEqual(await client.referrers(ref, subject), [entry]);
  assert.deepEqual(await client.referrers(ref, subject, { artifactType: "x/sbom" }), []);
});

test("TLS with a private CA, with a client certificate, and without verification", { skip }, async () => {
  const authority = createTestAuthority();
  const tls = { ...authority.issue("registry"), clientCa: authority.cert };
  await using registry = await startDockerRegistry(undefined, { tls });
  const ref = parseImageReference(`${registry.host}/team/app:v1`);
  const url = `https://${registry.host}`;
  const route = (origin: object) => ({
    hosts: [],
    routes: () => ({ registry: registry.host, endpoints: [], origin: { url, ...origin } }),
  });
  const client = [authority.issue("node")];
  await using trusted = createRegistryClient(route({ ca: [authority.cert], client }), FAST);
  await pushImage(trusted, ref);
  await pulls(trusted, ref);
  await using careless = createRegistryClient(route({ skipVerify: true, client }), FAST);
  await pulls(careless, ref);
  await using worker = openSession(structuredClone(trusted.session(ref)));
  await pulls(worker, ref);
  await using nobody = createRegistryClient(route({ ca: [authority.cert] }), FAST);
  await assert.rejects(nobody.manifest(ref), /client certificate/);
  await using untrusting = createRegistryClient(route({ client }), FAST);
  await assert.rejects(untrusting.manifest(ref), { reason: "REGISTRY_TLS" });
});

test("basic credentials: right, wrong and none", async () => {
  await using registry = await startDockerRegistry(undefined, { htpasswd: true });
  const { username, password } = HTPASSWD;
  const host = { host: registry.host, plainHttp: true };
  const ref = parseImageReference(`${registry.host}/team/app:v1`);
  await using client = createRegistryClient({ hosts: [{ ...host, credentials: { username, password } }] }, FAST);
  await pushImage(client, ref);
  await pulls(client, ref);
  await using worker = openSession(structuredClone(client.session(ref)));
  await pulls(worker, ref);
  await using wrong = createRegistryClient(
    { hosts: [{ ...host, credentials: { username, password: "guess" } }] },
    FAST,
  );
  await assert.rejects(wrong.manifest(ref), { code: "UNAUTHENTICATED", message: /check the credentials of "ann"/ });
  await using anonymous = createRegistryClient({ hosts: [host] }, FAST);
  await assert.rejects(anonymous.manifest(ref), { code: "UNAUTHENTICATED", message: /configure credentials/ });
});

test("tokens of an own issuer: per namespace, by scope, renewed, mounted, by identity token", { skip }, async () => {
  const certificate = createTestAuthority();
  await using issuer = await startTokenIssuer({
    certificate,
    users: { ann: "a", bob: "b" },
    identityTokens: { "refresh-ann": "ann" },
    allows: (user, repository) => user === "ann" || (user === "bob" && repository.startsWith("bob/")),
  });
  const { realm, service, issuer: name, cert } = issuer;
  await using registry = await startDockerRegistry(undefined, { token: { realm, service, issuer: name, cert } });
  const credentials = { tenantA: { username: "ann", password: "a" }, tenantB: { username: "bob", password: "b" } };
  await using clients = createRegistryClients(
    {
      hosts: [{ host: registry.host, plainHttp: true }],
      credentials: async ({ namespace, host }) =>
        host === registry.host ? credentials[namespace as keyof typeof credentials] : undefined,
    },
    FAST,
  );
  const ref = parseImageReference(`${registry.host}/ann/app:v1`);
  const ann = clients.namespace("tenantA");
  await pushImage(ann, ref);
  const tokens = issuer.seen.length;
  assert.ok(tokens <= 2, `${tokens} tokens for one push`);
  await pulls(ann, ref);
  await pulls(ann, ref);
  assert.ok(issuer.seen.length <= tokens + 1, "a token is kept for its scope");
  const elsewhere = parseImageReference(`${registry.host}/ann/copy:v1`);
  const blob = { digest: layerDigest, size: layer.length };
  assert.equal(await ann.pushBlob(elsewhere, blob, source(layer), { mountFrom: "ann/app" }), "mounted");

  const bob = clients.namespace("tenantB");
  await assert.rejects(bob.manifest(ref), { reason: "REGISTRY_DENIED", message: /credentials of "bob"/ });
  await assert.rejects(bob.hasBlob(ref, layerDigest), { reason: "REGISTRY_DENIED" });
  await assert.rejects(
    bob.pushBlob(ref, { digest: digestOf("x"), size: 1 }, source(Buffer.from("x"))),
    /denied access.*DENIED|UNAUTHORIZED/,
  );
  await assert.rejects(clients.namespace("nobody").manifest(ref), { reason: "REGISTRY_DENIED" });
  await pushImage(bob, parseImageReference(`${registry.host}/bob/app:v1`));

  const before = issuer.seen.length;
  await using worker = openSession(structuredClone(ann.session(ref)));
  await pulls(worker, ref);
  assert.equal(issuer.seen.length, before, "a session takes its token along");
  await using later = openSession(structuredClone({ ...ann.session(ref), authorisations: [] }));
  await pulls(later, ref);
  assert.equal(issuer.seen.length, before + 1, "and its credentials, for when the token runs out");

  const identity = { username: "<token>", password: "refresh-ann" };
  await using refreshed = createRegistryClient(
    { hosts: [{ host: registry.host, plainHttp: true, credentials: identity }] },
    FAST,
  );
  await pulls(refreshed, ref);
});

test("a pull-through mirror serves what the registry has, and a mirror that dies amid a layer hands over", async () => {
  await using registry = await startDockerRegistry();
  await using pusher = createRegistryClient({ hosts: [{ host: registry.host, plainHttp: true }] }, FAST);
  const ref = parseImageReference(`${registry.host}/team/app:v1`);
  await pushImage(pusher, ref);
  await using mirror = await startDockerRegistry(undefined, { proxy: `http://${registry.host}` });
  let died = 0;
  await using dying = await startHostileServer((seen, response) => {
    died += 1;
    if (!seen.path.includes("/blobs/")) return void response.writeHead(404).end();
    response.writeHead(200, { "content-length": String(layer.length) });
    response.write(layer.subarray(0, 300_000), () => response.destroy());
  });
  const urls = [`http://${dying.host}`, `http://${mirror.host}`];
  await using client = createRegistryClient(
    {
      hosts: [],
      routes: (name) => ({ registry: name, endpoints: urls.map((url) => ({ url })), fallbackToOrigin: false }),
    },
    FAST,
  );
  assert.deepEqual(Buffer.from((await client.manifest(ref)).bytes), manifest);
  let got = Buffer.alloc(0);
  for (let tries = 0; got.length < layer.length && tries < 3; tries += 1) {
    await using stream = await client.blob(ref, layerDigest, { offsetBytes: got.length });
    // docker-registry as a mirror ignores ranges of what it has not got yet.
    let skip = got.length - stream.offsetBytes;
    try {
      for await (const chunk of stream.body) {
        got = Buffer.concat([got, chunk.subarray(Math.min(skip, chunk.length))]);
        skip = Math.max(0, skip - chunk.length);
      }
    } catch (error) {
      assert.equal((error as { reason?: string }).reason, "TRANSFER_BROKEN");
      assert.ok(got.length > 0);
    }
  }
  assert.ok(got.equals(layer));
  await client.hasBlob(ref, layerDigest);
  assert.equal(died, 2, "the dead mirror was asked for the manifest and the layer, once each");
});
