/** Mirrors: their order, their health, what they are told and what they are not. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { digestOf, StatusError, type Clock } from "@berth/base";
import { MEDIA_TYPES, parseImageReference } from "@berth/model";
import {
  createRegistryClient,
  openSession,
  type BlobStream,
  type RegistryClientDeps,
  type RegistryEndpoint,
  type RegistryRoute,
} from "./index.ts";
import { processClock } from "./process-clock.ts";
import { bytesOf, startHostileServer, type Behaviour, type HostileServer } from "./testing/index.ts";

const FAST = { backoffInitialMs: 1, backoffMaxMs: 5, maxAttempts: 2 };
const blob = randomBytes(200_000);
const blobDigest = digestOf(blob);
const manifest = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: MEDIA_TYPES.ociIndex, manifests: [] }));
const manifestDigest = digestOf(manifest);

/** A registry with one image, in few words. */
const serves: Behaviour = (seen, response) => {
  const bytes = seen.path.includes("/blobs/") ? blob : manifest;
  const range = /^bytes=(\d+)-/.exec(seen.headers.range ?? "");
  const offset = Number(range?.[1] ?? 0);
  const headers = {
    "content-type": MEDIA_TYPES.ociIndex,
    "content-length": String(bytes.length - offset),
    "docker-content-digest": digestOf(bytes),
    ...(range === null ? {} : { "content-range": `bytes ${offset}-${bytes.length - 1}/${bytes.length}` }),
  };
  response
    .writeHead(range === null ? 200 : 206, headers)
    .end(seen.method === "HEAD" ? undefined : bytes.subarray(offset));
};

/** A clock that runs, and jumps when told to. */
function jumpingClock(): Clock & { jump: (ms: number) => void } {
  let jumped = 0;
  return { ...processClock, monotonicMs: () => processClock.monotonicMs() + jumped, jump: (ms) => void (jumped += ms) };
}

async function collect(stream: BlobStream): Promise<Buffer> {
  await using _ = stream;
  return await bytesOf(stream);
}

interface World extends AsyncDisposable {
  readonly origin: HostileServer;
  readonly mirrors: readonly HostileServer[];
  readonly ref: ReturnType<typeof parseImageReference>;
  readonly deps: RegistryClientDeps;
}

async function world(
  behaviours: readonly Behaviour[],
  change: Partial<RegistryRoute> = {},
  endpoint: Partial<RegistryEndpoint> = {},
): Promise<World> {
  const origin = await startHostileServer(serves);
  const mirrors = await Promise.all(behaviours.map((behaviour) => startHostileServer(behaviour)));
  const endpoints = mirrors.map(({ host }) => ({ url: `http://${host}`, ...endpoint }));
  const route = { registry: origin.host, endpoints, source: "RegistryMirror m", ...change };
  return {
    origin,
    mirrors,
    ref: parseImageReference(`${origin.host}/team/app:v1`),
    deps: { hosts: [{ host: origin.host, plainHttp: true }], routes: () => route },
    async [Symbol.asyncDispose]() {
      for (const server of [origin, ...mirrors]) await server[Symbol.asyncDispose]();
    },
  };
}

test("mirrors are asked first, in order, with the registry's name, the mirror's path and headers", async () => {
  await using w = await world(
    [(_, response) => void response.writeHead(404).end(), serves],
    {},
    { headers: { "x-key": ["k"] } },
  );
  await using client = createRegistryClient(w.deps, FAST);
  await client.manifest(w.ref);
  await collect(await client.blob(w.ref, blobDigest));
  const [first, second] = w.mirrors;
  assert.deepEqual(
    second!.seen.map(({ path }) => path),
    [
      `/v2/team/app/manifests/v1?ns=${encodeURIComponent(w.origin.host)}`,
      `/v2/team/app/blobs/${blobDigest}?ns=${encodeURIComponent(w.origin.host)}`,
    ],
  );
  assert.ok(second!.seen.every(({ headers }) => headers["x-key"] === "k"));
  assert.equal(first!.seen.length, 2, "what a mirror has not got says nothing of its health");
  assert.equal(w.origin.seen.length, 0);
  second!.behave((_, response) => void response.writeHead(401).end());
  await client.manifest(w.ref);
  assert.equal(w.origin.seen[0]!.path, "/v2/team/app/manifests/v1");
  assert.equal(w.origin.seen[0]!.headers["x-key"], undefined);
});

test("credentials go to the host they are configured for, mirror or registry, and nowhere else", async () => {
  const asks: Behaviour = (seen, response) => {
    if (seen.headers.authorization === undefined) response.writeHead(401, { "www-authenticate": "Basic" }).end();
    else serves(seen, response);
  };
  await using w = await world([asks, asks]);
  w.origin.behave(asks);
  const [first, second] = w.mirrors;
  const own = { username: "ann", password: "origin's" };
  const theirs = { username: "bob", password: "mirror's" };
  const hosts = [{ host: w.origin.host, plainHttp: true, credentials: own }];
  await using some = createRegistryClient({ ...w.deps, hosts }, FAST);
  await some.manifest(w.ref);
  assert.ok([...first!.seen, ...second!.seen].every(({ headers }) => headers.authorization === undefined));
  const more = [...hosts, { host: second!.host, credentials: theirs }];
  await using both = createRegistryClient({ ...w.deps, hosts: more }, FAST);
  await both.manifest(w.ref);
  const basic = (text: string): string => `Basic ${Buffer.from(text).toString("base64")}`;
  assert.equal(second!.seen.at(-1)!.headers.authorization, basic("bob:mirror's"));
  assert.ok(first!.seen.every(({ headers }) => headers.authorization === undefined));
  await using worker = openSession(structuredClone(both.session(w.ref)));
  await collect(await worker.blob(w.ref, blobDigest));
  assert.equal(second!.seen.at(-1)!.headers.authorization, basic("bob:mirror's"));
});

test("a stalled mirror costs its time once, is passed by by all clients and sessions, and is probed again later", async () => {
  await using w = await world([() => {}]);
  const clock = jumpingClock();
  const config = { ...FAST, mirrorHeadersTimeoutMs: 1_000 };
  await using client = createRegistryClient({ ...w.deps, clock }, config);
  await client.manifest(w.ref);
  const mirror = w.mirrors[0]!;
  assert.equal(mirror.seen.length, 1);
  await client.manifest(w.ref);
  await using worker = openSession(structuredClone(client.session(w.ref)), { clock });
  await collect(await worker.blob(w.ref, blobDigest));
  assert.equal(mirror.seen.length, 1, "passed by");
  clock.jump(6_000);
  mirror.behave(serves);
  await collect(await worker.blob(w.ref, blobDigest));
  await client.manifest(w.ref);
  assert.equal(mirror.seen.length, 3, "probed by the worker, and then used by all");
});

test("a mirror that trickles, and one that cannot be connected to, hand over within their own limits", async () => {
  const refusing = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => refusing.once("listening", resolve));
  const { port } = refusing.address() as AddressInfo;
  await new Promise((resolve) => refusing.close(resolve));
  const trickles: Behaviour = (_, response) => {
    response.writeHead(200, { "content-length": String(blob.length) });
    const timer = setInterval(() => response.write("."), 20);
    response.on("close", () => clearInterval(timer));
  };
  await using w = await world([trickles], { budgets: { stallMs: 400, dialMs: 300 } });
  const route = w.deps.routes!("")!;
  const endpoints = [{ url: `http://127.0.0.1:${port}` }, ...route.endpoints];
  await using client = createRegistryClient({ ...w.deps, routes: () => ({ ...route, endpoints }) }, FAST);
  await assert.rejects(client.blob(w.ref, blobDigest).then(collect), { reason: "TRANSFER_STALLED" });
  assert.ok((await collect(await client.blob(w.ref, blobDigest))).equals(blob));
  assert.equal(w.origin.seen.length, 1);
});

test("a mirror that dies amid a blob: asked again at the offset, the next endpoint answers", async () => {
  await using w = await world([
    (_, response) => {
      response.writeHead(200, { "content-length": String(blob.length) });
      response.write(blob.subarray(0, 70_000), () => setImmediate(() => response.destroy()));
    },
  ]);
  await using client = createRegistryClient(w.deps, FAST);
  const chunks: Uint8Array[] = [];
  await assert.rejects(
    async () => {
      await using stream = await client.blob(w.ref, blobDigest);
      for await (const chunk of stream.body) chunks.push(chunk);
    },
    { reason: "TRANSFER_BROKEN" },
  );
  const got = Buffer.concat(chunks);
  const rest = await collect(await client.blob(w.ref, blobDigest, { offsetBytes: got.length }));
  assert.ok(Buffer.concat([got, rest]).equals(blob));
  assert.equal(w.origin.seen[0]!.headers.range, `bytes=${got.length}-`);
});

test("wrong bytes, HTML and broken TLS of a mirror lead to the next, and are remembered", async () => {
  await using w = await world([
    (_, response) => void response.writeHead(200, { "content-type": MEDIA_TYPES.ociIndex }).end("{}"),
    (_, response) => void response.writeHead(200, { "content-type": "text/html" }).end("<html>"),
  ]);
  const pinned = { ...w.ref, digest: manifestDigest };
  await using client = createRegistryClient(w.deps, FAST);
  for (let again = 0; again < 2; again += 1)
    assert.equal((await client.manifest(pinned)).bytes.length, manifest.length);
  assert.deepEqual(
    w.mirrors.map(({ seen }) => seen.length),
    [1, 1],
  );
  assert.equal(w.origin.seen.length, 2);
});

test("a mirror that may only pull is not asked what a tag means", async () => {
  await using w = await world([serves], {}, { capabilities: ["pull"] });
  await using client = createRegistryClient(w.deps, FAST);
  assert.equal((await client.manifest(w.ref)).descriptor.digest, manifestDigest);
  assert.equal(await client.resolve(w.ref), manifestDigest);
  const asked = (server: HostileServer): string[] =>
    server.seen.map(({ method, path }) => `${method} ${path.split("?", 1)[0]}`);
  assert.deepEqual(asked(w.origin), ["HEAD /v2/team/app/manifests/v1", "HEAD /v2/team/app/manifests/v1"]);
  assert.deepEqual(asked(w.mirrors[0]!), [`GET /v2/team/app/manifests/${manifestDigest}`]);
  await using w2 = await world([serves], { fallbackToOrigin: false }, { capabilities: ["pull"] });
  await using lonely = createRegistryClient(w2.deps, FAST);
  await assert.rejects(lonely.manifest(w2.ref), {
    reason: "REGISTRY_CAPABILITY",
    message: /no endpoint of registry .* may resolve.*RegistryMirror m/,
  });
});

test("fallbackToOrigin: false is kept to, and the error says so with what every mirror said", async () => {
  await using w = await world(
    [(_, response) => void response.writeHead(503).end(), (_, response) => void response.writeHead(404).end()],
    {
      fallbackToOrigin: false,
    },
  );
  await using client = createRegistryClient(w.deps, FAST);
  await assert.rejects(client.manifest(w.ref), (error: unknown) => {
    assert.ok(error instanceof StatusError);
    assert.equal(error.code, "UNAVAILABLE", "one that is down might have it");
    const [first, second] = w.mirrors.map(({ host }) => host);
    assert.match(
      error.message,
      new RegExp(`mirror http://${first} of registry .* answered 503; not found in mirror http://${second}`),
    );
    assert.match(error.message, /falling back to the registry itself is switched off in RegistryMirror m/);
    return true;
  });
  w.mirrors[0]!.behave((_, response) => void response.writeHead(404).end());
  await assert.rejects(client.manifest(w.ref), { code: "NOT_FOUND", reason: "IMAGE_MISSING" });
  assert.equal(await client.hasBlob(w.ref, blobDigest), false);
  assert.equal(w.origin.seen.length, 0);
});

test("the registry's own word is final, and a rate-limited mirror is left alone as long as it asks", async () => {
  await using w = await world([(_, response) => void response.writeHead(429, { "retry-after": "30" }).end()]);
  const clock = jumpingClock();
  await using client = createRegistryClient({ ...w.deps, clock }, FAST);
  w.origin.behave((_, response) => void response.writeHead(404).end());
  await assert.rejects(client.manifest(w.ref), { code: "NOT_FOUND", message: /limits the rate/ });
  clock.jump(29_000);
  await assert.rejects(client.manifest(w.ref), { code: "NOT_FOUND" });
  assert.equal(w.mirrors[0]!.seen.length, 1);
  clock.jump(2_000);
  await assert.rejects(client.manifest(w.ref), { code: "NOT_FOUND" });
  assert.equal(w.mirrors[0]!.seen.length, 2);
});

test("certs.d takes effect without a restart, and a broken file stops pulls instead of leaving the mirrors out", async () => {
  await using w = await world([serves, serves]);
  const root = mkdtempSync(join(tmpdir(), "berth-certs-"));
  try {
    const folder = join(root, w.origin.host.replace(/:(\d+)$/, "_$1_"));
    await using client = createRegistryClient({ ...w.deps, certsDir: root }, FAST);
    await client.manifest(w.ref);
    const [controllers, operators] = w.mirrors;
    assert.equal(controllers!.seen.length, 1);
    mkdirSync(folder);
    writeFileSync(join(folder, "hosts.toml"), `[host."http://${operators!.host}"]\n`);
    await client.manifest(w.ref);
    assert.deepEqual([controllers!.seen.length, operators!.seen.length], [1, 1]);
    writeFileSync(join(folder, "hosts.toml"), `[host."http://${operators!.host}"]\nskip-verify = true\n`);
    await assert.rejects(client.manifest(w.ref), {
      reason: "REGISTRY_CONFIG_INVALID",
      message: /hosts\.toml:2: .*skip-verify/,
    });
    assert.throws(() => client.session(w.ref), { reason: "REGISTRY_CONFIG_INVALID" });
    assert.equal(w.origin.seen.length, 0);
  } finally {
    rmSync(root, { recursive: true });
  }
});
