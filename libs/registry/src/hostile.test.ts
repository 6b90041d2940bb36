/**
 * A server that means ill or is broken: every case ends in a clear error, in bounded time and memory. What the bytes hash to
 * is the reader's to check; wrong lengths are noticed here.
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import type { ServerResponse } from "node:http";
import { createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { test } from "node:test";
import { digestOf, StatusError } from "@berth/base";
import { MEDIA_TYPES, parseImageReference } from "@berth/model";
import { createRegistryClient, type BlobStream, type RegistryClientConfig, type RegistryHost } from "./index.ts";
import { failureOf, sendJson, startHostileClient, startHostileServer, type Behaviour } from "./testing/index.ts";

const SHORT: RegistryClientConfig = {
  backoffInitialMs: 1,
  backoffMaxMs: 5,
  maxAttempts: 2,
  headersTimeoutMs: 1_000,
  stallWindowMs: 400,
};
const MIB = 1024 * 1024;
const blob = randomBytes(300_000);
const blobDigest = digestOf(blob);

const startHostile = (behaviour: Behaviour, host: Omit<RegistryHost, "host"> = {}) =>
  startHostileClient(behaviour, host, SHORT);

async function drain(stream: BlobStream): Promise<number> {
  await using _ = stream;
  let bytes = 0;
  for await (const chunk of stream.body) bytes += chunk.length;
  return bytes;
}

/** Writes until nobody reads any more. */
function pourForever(response: ServerResponse, written: { bytes: number }): void {
  const chunk = Buffer.alloc(64 * 1024, 0x20);
  const more = (): void => {
    while (!response.destroyed) {
      written.bytes += chunk.length;
      if (!response.write(chunk)) return void response.once("drain", more);
    }
  };
  more();
}

test("a 50 MB manifest, announced or endless, is refused after 4 MB", async () => {
  const written = { bytes: 0 };
  await using h = await startHostile((_, response) => {
    response.writeHead(200, { "content-type": MEDIA_TYPES.ociManifest, "content-length": String(50 * MIB) });
    pourForever(response, written);
  });
  const error = await failureOf(h.client.manifest(h.ref));
  assert.match(error.message, /sent a manifest of more than 4194304 bytes/);
  assert.ok(written.bytes < 16 * MIB, `${written.bytes} bytes were taken`);
  h.server.behave((_, response) => {
    response.writeHead(200, { "content-type": MEDIA_TYPES.ociManifest });
    pourForever(response, written);
  });
  assert.equal((await failureOf(h.client.manifest(h.ref))).reason, "MANIFEST_UNSUPPORTED");
  assert.ok(written.bytes < 32 * MIB, `${written.bytes} bytes were taken`);
});

test("endless errors, endless tokens and endless redirects' bodies are cut off", async () => {
  const written = { bytes: 0 };
  await using h = await startHostile((_, response) => {
    response.writeHead(403);
    pourForever(response, written);
  });
  assert.equal((await failureOf(h.client.manifest(h.ref))).reason, "REGISTRY_DENIED");
  h.server.behave((seen, response) => {
    if (seen.path.startsWith("/token")) return pourForever(response.writeHead(200), written);
    sendJson(response, 401, {}, { "www-authenticate": `Bearer realm="http://${h.server.host}/token"` });
  });
  assert.match((await failureOf(h.client.manifest(h.ref))).message, /gave no token/);
  h.server.behave((_, response) => {
    response.writeHead(302, { location: "/again" });
    pourForever(response, written);
  });
  assert.equal((await failureOf(h.client.manifest(h.ref))).reason, "REGISTRY_REDIRECTS");
  assert.ok(written.bytes < 64 * MIB, `${written.bytes} bytes were taken`);
});

test("an endless or too long blob ends where the server said it would, or where the reader stops", async () => {
  const written = { bytes: 0 };
  await using h = await startHostile((_, response) => {
    response.writeHead(206, { "content-range": `bytes 0-99999/${blob.length}`, "transfer-encoding": "chunked" });
    pourForever(response, written);
  });
  const options = { lengthBytes: 100_000 };
  const error = await failureOf(h.client.blob(h.ref, blobDigest, options).then(drain));
  assert.match(error.message, /sent more than the 100000 bytes announced/);
  h.server.behave((_, response) => pourForever(response.writeHead(200), written));
  await using stream = await h.client.blob(h.ref, blobDigest);
  assert.equal(stream.totalBytes, undefined);
  let bytes = 0;
  for await (const chunk of stream.body) if ((bytes += chunk.length) > blob.length) break;
  await stream[Symbol.asyncDispose]();
  assert.ok(written.bytes < 32 * MIB, `${written.bytes} bytes were taken`);
});

test("slow-loris: headers, manifests, errors and blobs that trickle are given up", async () => {
  const trickle = (to: NodeJS.EventEmitter, write: () => void): void => {
    const timer = setInterval(write, 30);
    to.on("close", () => clearInterval(timer));
  };
  const raw = await rawServer((socket) => {
    socket.write("HTTP/1.1 200 OK\r\n");
    trickle(socket, () => socket.write("x-slow: 1\r\n"));
  });
  try {
    await using client = createRegistryClient(
      { hosts: [{ host: raw.host, plainHttp: true }] },
      { ...SHORT, maxAttempts: 1 },
    );
    const error = await failureOf(client.manifest(parseImageReference(`${raw.host}/a:v1`)));
    assert.equal(error.reason, "REGISTRY_UNREACHABLE");
  } finally {
    await raw.close();
  }
  await using h = await startHostile((_, response) => {
    response.writeHead(200, { "content-length": "100000" });
    trickle(response, () => response.write("."));
  });
  assert.equal((await failureOf(h.client.blob(h.ref, blobDigest).then(drain))).reason, "TRANSFER_STALLED");
});

test("a short answer that trickles is given up, by the clock", async () => {
  // A clock on which the bounded seconds of short answers are over at once, the pauses between tries as well.
  const clock = {
    nowMs: () => Date.now(),
    monotonicMs: () => performance.now(),
    sleep: (_: number, signal?: AbortSignal) =>
      new Promise<void>((resolve, reject) => {
        const timer = setTimeout(resolve, 100);
        signal?.addEventListener("abort", () => (clearTimeout(timer), reject(new StatusError("CANCELLED", "x"))));
      }),
  };
  for (const [status, reason] of [
    [200, "TRANSFER_STALLED"],
    [403, "REGISTRY_DENIED"],
  ] as const) {
    await using server = await startHostileServer((_, response) => void response.writeHead(status).write("{"));
    await using client = createRegistryClient({ hosts: [{ host: server.host, plainHttp: true }], clock }, SHORT);
    const error = await failureOf(client.manifest(parseImageReference(`${server.host}/a:v1`)));
    assert.equal(error.reason, reason);
  }
});

test("redirects to files, metadata services and other schemes are refused, also by uploads and token services", async () => {
  await using h = await startHostile(() => {});
  const targets = [
    "file:///etc/shadow",
    "http://169.254.169.254/latest/meta-data/iam",
    "http://[fd00:ec2::254]/latest",
    "http://[::ffff:a9fe:a9fe]/",
    "gopher://127.0.0.1:70/",
    "//169.254.169.254/x",
    "data:text/plain,x",
  ];
  for (const location of targets) {
    h.server.behave((_, response) => void response.writeHead(307, { location }).end());
    const error = await failureOf(h.client.blob(h.ref, blobDigest));
    assert.equal(error.reason, "REGISTRY_REDIRECTS", location);
    assert.equal(error.code, "FAILED_PRECONDITION", location);
  }
  h.server.behave((seen, response) => {
    if (seen.method === "HEAD") return void response.writeHead(404).end();
    response.writeHead(202, { location: "http://169.254.169.254/upload" }).end();
  });
  const push = h.client.pushBlob(h.ref, { digest: blobDigest, size: 1 }, { open: () => assert.fail("was read") });
  assert.equal((await failureOf(push)).reason, "REGISTRY_REDIRECTS");
  h.server.behave((_, response) =>
    sendJson(response, 401, {}, { "www-authenticate": 'Bearer realm="http://169.254.169.254/token"' }),
  );
  assert.equal((await failureOf(h.client.manifest(h.ref))).reason, "REGISTRY_REDIRECTS");
});

test("what somebody says to whom a registry redirected us is not told in errors", async () => {
  await using inner = await startHostileServer((_, response) => void response.writeHead(500).end("internal secret"));
  await using h = await startHostile(
    (_, response) => void response.writeHead(307, { location: `http://${inner.host}/` }).end(),
  );
  const error = await failureOf(h.client.blob(h.ref, blobDigest));
  assert.equal(error.code, "UNAVAILABLE");
  assert.ok(!error.message.includes("secret"));
  assert.ok(error.message.includes(inner.host));
});

test("401 loops end, whatever is asked and whatever tokens are given", async () => {
  let tokens = 0;
  await using h = await startHostile(
    (seen, response) => {
      if (seen.path.startsWith("/token")) return sendJson(response, 200, { token: `t${(tokens += 1)}`, expires_in: 0 });
      const challenge = `Basic realm="x", Bearer realm="http://${h.server.host}/token"`;
      sendJson(response, 401, {}, { "www-authenticate": challenge });
    },
    { credentials: { username: "ann", password: "pw" } },
  );
  const asks: [string, () => Promise<unknown>][] = [
    ["manifest", () => h.client.manifest(h.ref)],
    ["resolve", () => h.client.resolve(h.ref)],
    ["hasBlob", () => h.client.hasBlob(h.ref, blobDigest)],
    ["blob", () => h.client.blob(h.ref, blobDigest)],
    ["referrers", () => h.client.referrers(h.ref, blobDigest)],
    ["pushManifest", () => h.client.pushManifest(h.ref, { mediaType: MEDIA_TYPES.ociIndex, bytes: Buffer.from("{}") })],
  ];
  for (const [name, ask] of asks) {
    const before = h.server.seen.length;
    assert.equal((await failureOf(ask())).code, "UNAUTHENTICATED", name);
    assert.ok(h.server.seen.length - before <= 6, `${name}: ${h.server.seen.length - before} requests`);
  }
  h.server.behave((seen, response) => {
    const location = seen.path.startsWith("/token") ? "/token/x" : undefined;
    if (location !== undefined) return void response.writeHead(307, { location }).end();
    sendJson(response, 401, {}, { "www-authenticate": `Bearer realm="http://${h.server.host}/token"` });
  });
  assert.equal((await failureOf(h.client.manifest({ ...h.ref, repository: "other" }))).reason, "REGISTRY_REDIRECTS");
});

test("429 waits as long as Retry-After says, in seconds or as a date, and not for hours", async () => {
  for (const retryAfter of ["1", () => new Date(Date.now() + 1_500).toUTCString()]) {
    let refusals = 1;
    await using h = await startHostile((_, response) => {
      const value = typeof retryAfter === "string" ? retryAfter : retryAfter();
      if (refusals-- > 0) sendJson(response, 429, {}, { "retry-after": value });
      else response.writeHead(200, { "docker-content-digest": blobDigest }).end();
    });
    assert.equal(await h.client.resolve(h.ref), blobDigest);
  }
  for (const value of ["86400", new Date(Date.now() + 86_400_000).toUTCString()]) {
    await using h = await startHostile((_, response) => sendJson(response, 503, {}, { "retry-after": value }));
    const error = await failureOf(h.client.manifest(h.ref));
    assert.ok(Math.abs(error.retryAfterMs! - 86_400_000) < 10_000);
    assert.equal(h.server.seen.length, 1);
  }
});

test("HTML in place of JSON is named as such, for manifests, blobs and tokens", async () => {
  await using h = await startHostile(
    (_, response) => void response.writeHead(200, { "content-type": "text/html" }).end("<html>login"),
  );
  assert.match((await failureOf(h.client.manifest(h.ref))).message, /HTML page; is this a registry/);
  assert.match((await failureOf(h.client.blob(h.ref, blobDigest))).message, /HTML page; is this a registry/);
  assert.match((await failureOf(h.client.resolve(h.ref))).message, /HTML page; is this a registry/);
  assert.match((await failureOf(h.client.referrers(h.ref, blobDigest))).message, /no JSON|HTML/);
});

test("a connection that is reset, at whichever byte, is a clear and transient error", async () => {
  const head = "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n";
  const cases: [name: string, sent: string, bytes: number, reason: string][] = [
    ["before the headers", "", 0, "REGISTRY_UNREACHABLE"],
    ["amid the headers", head.slice(0, 25), 0, "REGISTRY_UNREACHABLE"],
    ["before the first byte", head, 0, "TRANSFER_BROKEN"],
    ["after the first byte", head, 1, "TRANSFER_BROKEN"],
    ["amid the body", head, 500, "TRANSFER_BROKEN"],
    ["before the last byte", head, 999, "TRANSFER_BROKEN"],
    ["amid a chunked body", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n400\r\n", 300, "TRANSFER_BROKEN"],
  ];
  for (const how of ["reset", "end"] as const) {
    for (const [name, sent, bytes, reason] of cases) {
      const raw = await rawServer((socket) => {
        socket.write(sent + "x".repeat(bytes), () =>
          setTimeout(() => (how === "reset" ? socket.resetAndDestroy() : socket.end()), 20),
        );
      });
      try {
        await using client = createRegistryClient({ hosts: [{ host: raw.host, plainHttp: true }] }, SHORT);
        const ref = parseImageReference(`${raw.host}/a:v1`);
        const error = await failureOf(client.blob(ref, blobDigest).then(drain));
        assert.equal(error.reason, reason, `${how} ${name}`);
        assert.equal(error.code, "UNAVAILABLE", `${how} ${name}`);
        // A manifest is asked for again, and then given up.
        const again = await failureOf(client.manifest(ref));
        assert.equal(again.code, "UNAVAILABLE", `${how} ${name}`);
      } finally {
        await raw.close();
      }
    }
  }
});

test("answers that are no HTTP, or HTTP with contradictions, are errors", async () => {
  const answers = [
    "SSH-2.0-OpenSSH_9.2\r\n",
    "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
    "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    `HTTP/1.1 200 OK\r\nx: ${"y".repeat(100_000)}\r\n\r\n`,
    "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
  ];
  for (const answer of answers) {
    const raw = await rawServer((socket) => void socket.end(answer));
    try {
      await using client = createRegistryClient({ hosts: [{ host: raw.host, plainHttp: true }] }, SHORT);
      await failureOf(client.blob(parseImageReference(`${raw.host}/a:v1`), blobDigest).then(drain));
    } finally {
      await raw.close();
    }
  }
});

test("referrers: pages are followed within bounds, on the same server, and checked", async () => {
  const entry = (index: number) => ({
    mediaType: MEDIA_TYPES.ociManifest,
    digest: digestOf(String(index)),
    size: 1,
    artifactType: index % 2 === 0 ? "even" : "odd",
  });
  const page = (response: ServerResponse, manifests: unknown, link?: string): void =>
    sendJson(response, 200, { schemaVersion: 2, manifests }, link === undefined ? {} : { link });
  await using h = await startHostile((seen, response) => {
    const index = Number(new URL(seen.path, "http://x").searchParams.get("page") ?? 0);
    page(response, [entry(index)], index < 4 ? `</v2/team/app/referrers/x?page=${index + 1}>; rel="next"` : undefined);
  });
  assert.deepEqual(await h.client.referrers(h.ref, blobDigest), [0, 1, 2, 3, 4].map(entry));
  assert.equal(h.server.seen.length, 5);
  const even = await h.client.referrers(h.ref, blobDigest, { artifactType: "even" });
  assert.deepEqual(even, [0, 2, 4].map(entry));
  assert.match(h.server.seen[5]!.path, /\?artifactType=even$/);
  const wrong: [string, Behaviour][] = [
    ["a loop", (_, response) => page(response, [], '</v2/x>; rel="next"')],
    ["another server", (_, response) => page(response, [], '<http://127.0.0.1:1/x>; rel="next"')],
    ["no list", (_, response) => page(response, {})],
    [
      "too many",
      (_, response) =>
        page(
          response,
          Array.from({ length: 2_001 }, (__, index) => entry(index)),
        ),
    ],
    ["no descriptor", (_, response) => page(response, [{ ...entry(0), digest: "x" }])],
    ["no JSON", (_, response) => void response.writeHead(200).end("{")],
  ];
  for (const [name, behaviour] of wrong) {
    h.server.behave(behaviour);
    const before = h.server.seen.length;
    assert.equal((await failureOf(h.client.referrers(h.ref, blobDigest))).reason, "REFERRERS_INVALID", name);
    assert.ok(h.server.seen.length - before <= 3, `${name}: ${h.server.seen.length - before} requests`);
  }
});

test("resolve falls back to GET where HEAD is not known or says no digest", async () => {
  const manifest = JSON.stringify({ schemaVersion: 2, mediaType: MEDIA_TYPES.ociIndex, manifests: [] });
  for (const status of [405, 501, 200]) {
    await using h = await startHostile((seen, response) => {
      if (seen.method === "HEAD") response.writeHead(status).end();
      else response.writeHead(200).end(manifest);
    });
    assert.equal(await h.client.resolve(h.ref), digestOf(manifest));
    assert.deepEqual(
      h.server.seen.map(({ method }) => method),
      ["HEAD", "GET"],
    );
  }
});

interface RawServer {
  readonly host: string;
  close(): Promise<void>;
}

/** Speaks whatever `answer` writes, once the first bytes of a request have come. */
async function rawServer(answer: (socket: Socket) => void): Promise<RawServer> {
  const sockets = new Set<Socket>();
  const server: Server = createServer((socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.once("data", () => answer(socket));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    host: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    async close() {
      sockets.forEach((socket) => socket.destroy());
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
