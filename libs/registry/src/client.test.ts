import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, before, test } from "node:test";
import { digestOf, type Digest } from "@berth/base";
import { MEDIA_TYPES, parseImageReference, type ImageReference } from "@berth/model";
import { createRegistryClient, type RegistryClient } from "./index.ts";
import {
  bytesOf,
  failureOf,
  FAST,
  sendJson,
  startDockerRegistry,
  startHostileClient,
  startHostileServer,
  type DockerRegistry,
} from "./testing/index.ts";

const manifestBytes = Buffer.from(
  JSON.stringify({
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.ociManifest,
    config: { mediaType: MEDIA_TYPES.ociConfig, digest: digestOf("c"), size: 1 },
    layers: [],
  }),
);
const manifestDigest = digestOf(manifestBytes);
const blob = randomBytes(300_000);

async function collect(client: RegistryClient, ref: ImageReference, digest: Digest, offsetBytes = 0): Promise<Buffer> {
  await using stream = await client.blob(ref, digest, { offsetBytes });
  return await bytesOf(stream);
}

let registry: DockerRegistry;
let real: RegistryClient;
before(async () => {
  registry = await startDockerRegistry();
  real = createRegistryClient({ hosts: [{ host: registry.host, plainHttp: true }] }, FAST);
});
after(async () => {
  await real[Symbol.asyncDispose]();
  await registry[Symbol.asyncDispose]();
});

test("RegistryClient reads manifests and blobs of a real registry, and resumes by range", async () => {
  const config = await registry.pushBlob("team/app", Buffer.from("{}"));
  const digest = await registry.pushBlob("team/app", blob);
  const bytes = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: MEDIA_TYPES.ociManifest,
      config: { mediaType: MEDIA_TYPES.ociConfig, digest: config, size: 2 },
      layers: [{ mediaType: MEDIA_TYPES.ociLayer, digest, size: blob.length }],
    }),
  );
  await registry.pushManifest("team/app", "v1", MEDIA_TYPES.ociManifest, bytes);
  const ref = parseImageReference(`${registry.host}/team/app:v1`);
  const manifest = await real.manifest(ref);
  assert.deepEqual(manifest.descriptor, {
    mediaType: MEDIA_TYPES.ociManifest,
    digest: digestOf(bytes),
    size: bytes.length,
  });
  assert.deepEqual(Buffer.from(manifest.bytes), bytes);
  assert.equal(await real.resolve(ref), digestOf(bytes));
  assert.equal(await real.hasBlob(ref, digest), true);
  assert.equal(await real.hasBlob(ref, digestOf("nothing")), false);
  assert.equal(await real.hasBlob(parseImageReference(`${registry.host}/other/app`), digest), false);
  assert.ok((await collect(real, ref, digest)).equals(blob));
  assert.ok((await collect(real, ref, digest, 200_000)).equals(blob.subarray(200_000)));
});

test("RegistryClient names registry and image when a real registry lacks it", async () => {
  const error = await failureOf(real.manifest(parseImageReference(`${registry.host}/no/such:tag`)));
  assert.equal(error.code, "NOT_FOUND");
  assert.equal(error.reason, "IMAGE_MISSING");
  assert.match(error.message, new RegExp(`${registry.host}/no/such:tag.*not found.*credentials`));
});

test("RegistryClient tells plain HTTP from TLS and says which setting mends it", async () => {
  await using client = createRegistryClient({ hosts: [] }, FAST);
  const error = await failureOf(client.manifest(parseImageReference(`${registry.host}/team/app:v1`)));
  assert.equal(error.reason, "REGISTRY_TLS");
  assert.match(error.message, new RegExp(`set registries\\.${registry.host}\\.plainHttp`));
});

test("RegistryClient says that a registry is down after trying again", async () => {
  const gone = await startHostileServer(() => {});
  await gone[Symbol.asyncDispose]();
  await using client = createRegistryClient({ hosts: [{ host: gone.host, plainHttp: true }] }, FAST);
  const error = await failureOf(client.manifest(parseImageReference(`${gone.host}/team/app:v1`)));
  assert.equal(error.code, "UNAVAILABLE");
  assert.equal(error.reason, "REGISTRY_UNREACHABLE");
  assert.match(error.message, /cannot reach registry 127\.0\.0\.1:\d+ \(.*ECONNREFUSED/);
});

test("manifest hashes what it got, whatever Docker-Content-Digest claims", async () => {
  const headers = { "content-type": MEDIA_TYPES.ociManifest, "docker-content-digest": digestOf("lie") };
  await using h = await startHostileClient((_, response) => void response.writeHead(200, headers).end(manifestBytes));
  assert.equal((await h.client.manifest(h.ref)).descriptor.digest, manifestDigest);
  const pinned = { ...h.ref, digest: digestOf("other") };
  const error = await failureOf(h.client.manifest(pinned));
  assert.equal(error.code, "DATA_LOSS");
  assert.equal(error.reason, "MANIFEST_DIGEST_MISMATCH");
});

test("manifest waits as long as Retry-After says, and not at all when that is too long", async () => {
  let refusals = 1;
  await using h = await startHostileClient((_, response) => {
    if (refusals-- > 0) sendJson(response, 429, { errors: [{ code: "TOOMANYREQUESTS" }] }, { "retry-after": "1" });
    else response.writeHead(200).end(manifestBytes);
  });
  const startMs = performance.now();
  await h.client.manifest(h.ref);
  assert.ok(performance.now() - startMs >= 990);
  h.server.behave((_, response) => sendJson(response, 429, {}, { "retry-after": "3600" }));
  const error = await failureOf(h.client.manifest(h.ref));
  assert.equal(error.reason, "REGISTRY_RATE_LIMITED");
  assert.equal(error.retryAfterMs, 3_600_000);
  assert.equal(h.server.seen.length, 3);
});

test("manifest tries again after 5xx and gives up with the server's words", async () => {
  await using h = await startHostileClient((_, response) =>
    sendJson(response, 503, { errors: [{ code: "UNAVAILABLE", message: "maintenance" }] }),
  );
  const error = await failureOf(h.client.manifest(h.ref));
  assert.equal(error.code, "UNAVAILABLE");
  assert.match(error.message, /answered 503: UNAVAILABLE: maintenance/);
  assert.equal(h.server.seen.length, 3);
});

test("manifest refuses HTML, schema 1, oversized bodies and what is no JSON", async () => {
  await using h = await startHostileClient(
    (_, response) => void response.writeHead(200, { "content-type": "text/html" }).end("<html>"),
  );
  const html = await failureOf(h.client.manifest(h.ref));
  assert.equal(html.reason, "MANIFEST_UNSUPPORTED");
  assert.match(html.message, /HTML page; is this a registry/);
  h.server.behave((_, response) => void response.writeHead(200).end(JSON.stringify({ schemaVersion: 1 })));
  assert.equal((await failureOf(h.client.manifest(h.ref))).reason, "MANIFEST_UNSUPPORTED");
  h.server.behave((_, response) => void response.writeHead(200).end(Buffer.alloc(5 * 1024 * 1024)));
  assert.match((await failureOf(h.client.manifest(h.ref))).message, /more than 4194304 bytes/);
  h.server.behave((_, response) => void response.writeHead(200).end("nonsense"));
  assert.equal((await failureOf(h.client.manifest(h.ref))).reason, "MANIFEST_INVALID");
});

test("a redirect to another origin is followed without credentials, and that origin's 401 gets none", async () => {
  await using other = await startHostileServer((_, response) => void response.writeHead(200).end(blob));
  await using h = await startHostileClient(
    (seen, response) => {
      if (seen.headers.authorization === undefined) response.writeHead(401, { "www-authenticate": "Basic" }).end();
      else response.writeHead(307, { location: `http://${other.host}/data?signature=secret` }).end();
    },
    { plainHttp: true, credentials: { username: "ann", password: "pw" } },
  );
  assert.ok((await collect(h.client, h.ref, digestOf(blob))).equals(blob));
  assert.equal(other.seen[0]!.headers.authorization, undefined);
  other.behave((_, response) => void response.writeHead(401, { "www-authenticate": "Basic" }).end());
  const error = await failureOf(h.client.blob(h.ref, digestOf(blob)));
  assert.equal(error.code, "UNAUTHENTICATED");
  assert.ok(!error.message.includes("secret"));
  assert.ok(other.seen.every((s) => s.headers.authorization === undefined));
});

test("redirects are bounded", async () => {
  await using h = await startHostileClient(
    (seen, response) => void response.writeHead(302, { location: `${seen.path}x` }).end(),
  );
  assert.equal((await failureOf(h.client.manifest(h.ref))).reason, "REGISTRY_REDIRECTS");
  assert.equal(h.server.seen.length, 6);
});

test("HEAD keeps its connection", async () => {
  const sockets = new Set<unknown>();
  await using h = await startHostileClient((_, response) => {
    sockets.add(response.socket);
    response.writeHead(200, { "content-length": "1000000", "docker-content-digest": manifestDigest }).end();
  });
  for (let times = 0; times < 5; times += 1) {
    await h.client.resolve(h.ref);
    await h.client.hasBlob(h.ref, manifestDigest);
  }
  // A connection rests for a moment after each request, and another takes its turn.
  assert.ok(sockets.size <= 3, `${sockets.size} connections for 10 requests`);
});

test("blob fails when the body breaks off", async () => {
  await using h = await startHostileClient((_, response) => {
    response.writeHead(200, { "content-length": String(blob.length) });
    response.write(blob.subarray(0, 1000), () => response.destroy());
  });
  const error = await failureOf(collect(h.client, h.ref, digestOf(blob)));
  assert.equal(error.code, "UNAVAILABLE");
  assert.equal(error.reason, "TRANSFER_BROKEN");
  assert.match(error.message, /blob sha256:.* of 127/);
});

test("blob starts at 0 when the server ignores the range", async () => {
  await using h = await startHostileClient((_, response) => void response.writeHead(200).end(blob));
  await using stream = await h.client.blob(h.ref, digestOf(blob), { offsetBytes: 100 });
  assert.equal(stream.offsetBytes, 0);
  assert.equal(stream.rangeHonoured, false);
});

test("blob gives a bounded range of a real registry, and says what it is part of", async () => {
  const digest = await registry.pushBlob("team/app", blob);
  const ref = parseImageReference(`${registry.host}/team/app:v1`);
  for (const [offsetBytes, lengthBytes] of [
    [0, 1000],
    [1000, 5000],
    [299_000, 5000],
  ] as const) {
    await using stream = await real.blob(ref, digest, { offsetBytes, lengthBytes });
    assert.deepEqual([stream.offsetBytes, stream.totalBytes, stream.rangeHonoured], [offsetBytes, blob.length, true]);
    const bytes = await bytesOf(stream);
    assert.ok(bytes.equals(blob.subarray(offsetBytes, offsetBytes + lengthBytes)));
  }
  assert.equal((await failureOf(real.blob(ref, digest, { lengthBytes: 0 }))).reason, "RANGE_INVALID");
});

test("blob refuses a range that was not asked for, and a body that is not as long as announced", async () => {
  let headers: Record<string, string> = {};
  await using h = await startHostileClient(
    (_, response) => void response.writeHead(206, headers).end(blob.subarray(0, 10)),
  );
  for (const range of [
    "bytes 0-9/300000",
    "bytes 100-119/300000",
    "bytes 100-109/50",
    "bytes 109-100/*",
    "nonsense",
    "",
  ]) {
    headers = range === "" ? {} : { "content-range": range };
    const error = await failureOf(h.client.blob(h.ref, digestOf(blob), { offsetBytes: 100, lengthBytes: 10 }));
    assert.equal(error.reason, "REGISTRY_ANSWER_INVALID", range);
  }
  // Chunked, so that HTTP itself does not notice.
  for (const [size, reason] of [
    [9, "TRANSFER_BROKEN"],
    [11, "REGISTRY_ANSWER_INVALID"],
  ] as const) {
    h.server.behave((_, response) => {
      response.writeHead(206, { "content-range": "bytes 100-109/300000", "transfer-encoding": "chunked" });
      response.end(blob.subarray(0, size));
    });
    await using stream = await h.client.blob(h.ref, digestOf(blob), { offsetBytes: 100, lengthBytes: 10 });
    assert.equal((await failureOf(bytesOf(stream))).reason, reason);
  }
});

test("blob gives up a transfer that trickles", async () => {
  const config = { ...FAST, stallWindowMs: 200, stallMinBytes: 1000 };
  await using h = await startHostileClient(
    (_, response) => {
      response.writeHead(200, { "content-length": String(blob.length) });
      const timer = setInterval(() => response.write("."), 20);
      response.on("close", () => clearInterval(timer));
    },
    { plainHttp: true },
    config,
  );
  const error = await failureOf(collect(h.client, h.ref, digestOf(blob)));
  assert.equal(error.code, "DEADLINE_EXCEEDED");
  assert.equal(error.reason, "TRANSFER_STALLED");
});

test("an aborted signal ends a request and a body as CANCELLED", async () => {
  await using h = await startHostileClient((_, response) => {
    response.writeHead(200, { "content-length": String(blob.length) });
    response.write(blob.subarray(0, 1000));
  });
  const abort = new AbortController();
  await using stream = await h.client.blob(h.ref, digestOf(blob), { signal: abort.signal });
  const reading = failureOf(
    (async () => {
      for await (const _ of stream.body) abort.abort();
    })(),
  );
  assert.equal((await reading).code, "CANCELLED");
  h.server.behave(() => {});
  const later = new AbortController();
  const asking = failureOf(h.client.manifest(h.ref, { signal: later.signal }));
  later.abort();
  assert.equal((await asking).code, "CANCELLED");
});
