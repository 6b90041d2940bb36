/** Pushes that go wrong; those that go right are in docker-registry.test.ts. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { connect, createServer, type AddressInfo } from "node:net";
import { test } from "node:test";
import { digestOf, StatusError } from "@berth/base";
import { MEDIA_TYPES, parseImageReference } from "@berth/model";
import { createRegistryClient } from "./index.ts";
import {
  sendJson,
  startDockerRegistry,
  startHostileServer,
  type Behaviour,
  type SeenRequest,
} from "./testing/index.ts";

const FAST = { backoffInitialMs: 1, backoffMaxMs: 5, maxAttempts: 3 };
const bytes = randomBytes(1_000_000);
const blob = { digest: digestOf(bytes), size: bytes.length };

/** Remembers from where it was read. */
function recording(): { opened: number[]; open: (offset: number) => AsyncIterable<Uint8Array> } {
  const opened: number[] = [];
  return {
    opened,
    async *open(offset) {
      opened.push(offset);
      for (let at = offset; at < bytes.length; at += 64 * 1024) yield bytes.subarray(at, at + 64 * 1024);
    },
  };
}

interface Cutter extends AsyncDisposable {
  readonly host: string;
  cuts: number;
}

/** Passes on to `target`, but resets a connection after so many bytes of requests while there are cuts left. */
async function startCutter(target: string, afterBytes: number): Promise<Cutter> {
  const self = { cuts: 0 };
  const server = createServer((socket) => {
    const upstream = connect({ host: "127.0.0.1", port: Number(target.split(":")[1]) });
    let seen = 0;
    socket.on("data", (chunk: Buffer) => {
      seen += chunk.length;
      upstream.write(chunk);
      if (seen <= afterBytes || self.cuts === 0) return;
      self.cuts -= 1;
      socket.resetAndDestroy();
      upstream.end();
    });
    upstream.on("data", (chunk: Buffer) => socket.write(chunk));
    for (const [one, other] of [
      [socket, upstream],
      [upstream, socket],
    ] as const) {
      one.on("error", () => other.destroy());
      one.on("close", () => other.end());
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return Object.assign(self, {
    host: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    [Symbol.asyncDispose]: () => new Promise<void>((resolve) => void server.close(() => resolve())),
  });
}

test("a push in pieces to a real registry survives broken connections", async () => {
  await using registry = await startDockerRegistry();
  await using cutter = await startCutter(registry.host, 500_000);
  await using client = createRegistryClient({ hosts: [{ host: cutter.host, plainHttp: true }] }, FAST);
  cutter.cuts = 2;
  const source = recording();
  const ref = parseImageReference(`${cutter.host}/team/app:v1`);
  assert.equal(await client.pushBlob(ref, blob, source, { chunkBytes: 400_000 }), "uploaded");
  assert.equal(cutter.cuts, 0);
  assert.ok(source.opened.length > 3, "more reads than pieces");
  assert.equal(await client.hasBlob(ref, blob.digest), true);
});

test("a blob that goes up whole is sent again when the connection breaks", async () => {
  await using registry = await startDockerRegistry();
  await using cutter = await startCutter(registry.host, 500_000);
  await using client = createRegistryClient({ hosts: [{ host: cutter.host, plainHttp: true }] }, FAST);
  cutter.cuts = 1;
  const source = recording();
  const ref = parseImageReference(`${cutter.host}/team/app:v1`);
  assert.equal(await client.pushBlob(ref, blob, source), "uploaded");
  assert.deepEqual(source.opened, [0, 0]);
});

/** An upload as a distribution server does it, with a way to meddle; status 0 breaks the connection. */
function uploads(
  meddle: (seen: SeenRequest, have: { bytes: number }) => [number, Record<string, string>] | undefined,
): Behaviour {
  const have = { bytes: 0 };
  return (seen, response) => {
    const own = meddle(seen, have);
    const location = "/v2/upload/1?state=x";
    const range = { location, range: `0-${Math.max(0, have.bytes - 1)}` };
    if (own?.[0] === 0) return void response.destroy();
    if (own !== undefined) return void response.writeHead(own[0], { ...range, ...own[1] }).end();
    if (seen.method === "HEAD") return void response.writeHead(404).end();
    if (seen.method === "POST") return void response.writeHead(202, { location }).end();
    if (seen.method === "GET") return void response.writeHead(204, range).end();
    if (seen.method === "DELETE") return void response.writeHead(204).end();
    if (seen.method === "PUT") return void response.writeHead(201, { "docker-content-digest": blob.digest }).end();
    const [, first, last] = /^(\d+)-(\d+)$/.exec(seen.headers["content-range"] ?? "")!;
    assert.equal(Number(first), have.bytes);
    have.bytes = Number(last) + 1;
    response.writeHead(202, { location, range: `0-${have.bytes - 1}` }).end();
  };
}

async function pushTo(behaviour: Behaviour, chunkBytes = 300_000) {
  await using server = await startHostileServer(behaviour);
  await using client = createRegistryClient({ hosts: [{ host: server.host, plainHttp: true }] }, FAST);
  const source = recording();
  const outcome = await client
    .pushBlob(parseImageReference(`${server.host}/team/app:v1`), blob, source, { chunkBytes })
    .catch((error: unknown) => error as StatusError);
  return { outcome, opened: source.opened, seen: server.seen.map(({ method }) => method) };
}

test("an upload follows the server's word for what it has, and its wish for larger pieces", async () => {
  const plain = await pushTo(uploads(() => undefined));
  assert.deepEqual([plain.outcome, plain.opened], ["uploaded", [0, 300_000, 600_000, 900_000]]);
  let once = true;
  const counted = await pushTo(
    uploads((seen, have) => {
      if (seen.method !== "PATCH" || have.bytes !== 300_000 || !once) return undefined;
      once = false;
      have.bytes = 450_000;
      return [416, {}];
    }),
  );
  assert.deepEqual([counted.outcome, counted.opened], ["uploaded", [0, 300_000, 450_000, 750_000]]);
  let broken = 2;
  const resumed = await pushTo(
    uploads((seen, have) => {
      if (seen.method !== "PATCH" || have.bytes < 300_000 || broken === 0) return undefined;
      broken -= 1;
      // Part of it has arrived.
      have.bytes += 100_000;
      return [0, {}];
    }),
  );
  assert.deepEqual([resumed.outcome, resumed.opened], ["uploaded", [0, 300_000, 400_000, 500_000, 800_000]]);
  const larger = await pushTo(
    uploads((seen) => (seen.method === "POST" ? [202, { "oci-chunk-min-length": "600000" }] : undefined)),
  );
  assert.deepEqual([larger.outcome, larger.opened], ["uploaded", [0, 600_000]]);
});

test("a push that is refused, or gets nowhere, ends with the reason and takes its upload back", async () => {
  const cases: [name: string, Parameters<typeof uploads>[0], message: RegExp, last: string][] = [
    [
      "denied",
      (seen) => (seen.method === "POST" ? [403, {}] : undefined),
      /push of blob sha256:.* denied access/,
      "POST",
    ],
    ["read only", (seen) => (seen.method === "POST" ? [405, {}] : undefined), /answered 405/, "POST"],
    ["too large", (seen) => (seen.method === "PATCH" ? [413, {}] : undefined), /answered 413/, "DELETE"],
    [
      "wrong digest",
      (seen) => (seen.method === "PUT" ? [201, { "docker-content-digest": digestOf("else") }] : undefined),
      /stored it as/,
      "DELETE",
    ],
    ["keeps nothing", (seen) => (seen.method === "PATCH" ? [416, {}] : undefined), /without keeping them/, "DELETE"],
    [
      "too much",
      (seen, have) => (seen.method === "PATCH" ? ((have.bytes = 2_000_000), [202, {}]) : undefined),
      /says to have 2000000 bytes of 1000000/,
      "DELETE",
    ],
    [
      "no location",
      (seen) => (seen.method === "POST" ? [202, { location: "" }] : undefined),
      /without saying where/,
      "POST",
    ],
  ];
  for (const [name, meddle, message, last] of cases) {
    const { outcome, seen } = await pushTo(uploads(meddle));
    assert.ok(outcome instanceof StatusError, name);
    assert.match(outcome.message, message, name);
    assert.equal(seen.at(-1), last, name);
    assert.ok(seen.length < 40, `${name}: ${seen.length} requests`);
  }
});

test("pushManifest refuses what its digest does not name, and tells a refusal", async () => {
  await using server = await startHostileServer((_, response) =>
    sendJson(response, 400, { errors: [{ code: "MANIFEST_INVALID", message: "no config" }] }),
  );
  await using client = createRegistryClient({ hosts: [{ host: server.host, plainHttp: true }] }, FAST);
  const ref = parseImageReference(`${server.host}/team/app:v1`);
  const manifest = { mediaType: MEDIA_TYPES.ociManifest, bytes: Buffer.from("{}") };
  await assert.rejects(client.pushManifest({ ...ref, digest: digestOf("x") }, manifest), {
    reason: "MANIFEST_DIGEST_MISMATCH",
  });
  assert.equal(server.seen.length, 0);
  await assert.rejects(
    client.pushManifest(ref, manifest),
    /push of image .* answered 400: MANIFEST_INVALID: no config/,
  );
});

test("an upload that goes on at another server goes there without credentials", async () => {
  await using storage = await startHostileServer((_, response) => void response.writeHead(201).end());
  const asks: Behaviour = (seen, response) => {
    if (seen.headers.authorization === undefined) response.writeHead(401, { "www-authenticate": "Basic" }).end();
    else if (seen.method === "HEAD") response.writeHead(404).end();
    else response.writeHead(202, { location: `http://${storage.host}/upload?signed=x` }).end();
  };
  await using server = await startHostileServer(asks);
  const credentials = { username: "ann", password: "pw" };
  await using client = createRegistryClient({ hosts: [{ host: server.host, plainHttp: true, credentials }] }, FAST);
  const ref = parseImageReference(`${server.host}/team/app:v1`);
  assert.equal(await client.pushBlob(ref, blob, recording()), "uploaded");
  assert.deepEqual(
    storage.seen.map(({ method, path, headers }) => [method, path, headers.authorization]),
    [["PUT", `/upload?signed=x&digest=${encodeURIComponent(blob.digest)}`, undefined]],
  );
});
