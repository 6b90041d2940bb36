import assert from "node:assert/strict";
import { test } from "node:test";
import type { TLSSocket } from "node:tls";
import { StatusError } from "@berth/base";
import { parseImageReference } from "@berth/model";
import { createRegistryClient } from "./index.ts";
import { createTestAuthority, missingOpenssl, startHostileServer, type Behaviour } from "./testing/index.ts";

const manifest: Behaviour = (_, response) => void response.writeHead(200).end('{"schemaVersion":2,"manifests":[]}');

test(
  "a private CA is trusted where it is configured, and named as the way out where it is not",
  { skip: missingOpenssl() },
  async () => {
    const authority = createTestAuthority();
    const tls = authority.issue("registry");
    await using server = await startHostileServer(manifest, tls);
    const ref = parseImageReference(`${server.host}/a:v1`);
    await using trusting = createRegistryClient({ hosts: [{ host: server.host, ca: authority.cert }] });
    assert.equal((await trusting.manifest(ref)).bytes.length, 34);
    await using other = createRegistryClient({ hosts: [] });
    await assert.rejects(other.manifest(ref), (error: unknown) => {
      assert.ok(error instanceof StatusError);
      assert.equal(error.reason, "REGISTRY_TLS");
      assert.match(error.message, /not trusted .*set registries\.127\.0\.0\.1:\d+\.ca/);
      return true;
    });
  },
);

test(
  "HTTPS is never left for plain HTTP by a redirect, nor by a token service",
  { skip: missingOpenssl() },
  async () => {
    const authority = createTestAuthority();
    const tls = authority.issue("registry");
    await using plain = await startHostileServer((_, response) => void response.writeHead(200).end("{}"));
    await using server = await startHostileServer((seen, response) => {
      if (seen.path.includes("redirect")) response.writeHead(307, { location: `http://${plain.host}/x` }).end();
      else response.writeHead(401, { "www-authenticate": `Bearer realm="http://${plain.host}/token"` }).end();
    }, tls);
    const credentials = { username: "ann", password: "pw" };
    await using client = createRegistryClient({ hosts: [{ host: server.host, ca: authority.cert, credentials }] });
    for (const [repository, reason] of [
      ["redirect", "REGISTRY_REDIRECTS"],
      ["token", "REGISTRY_DENIED"],
    ]) {
      const ref = parseImageReference(`${server.host}/${repository}:v1`);
      await assert.rejects(client.manifest(ref), { reason });
    }
    assert.deepEqual(plain.seen, []);
  },
);

test(
  "a client certificate and an endpoint's headers are not shown to whom it redirects",
  { skip: missingOpenssl() },
  async () => {
    const authority = createTestAuthority();
    const tls = { ...authority.issue("server"), ca: authority.cert, requestCert: true, rejectUnauthorized: false };
    const shown: Record<string, unknown> = {};
    const serve =
      (name: string, answer: Behaviour): Behaviour =>
      (seen, response) => {
        shown[name] = [(response.socket as TLSSocket).getPeerCertificate().subject?.CN, seen.headers["x-key"]];
        answer(seen, response);
      };
    await using other = await startHostileServer(serve("other", manifest), tls);
    const redirects = serve(
      "own",
      (_, response) => void response.writeHead(307, { location: `https://${other.host}/x` }).end(),
    );
    await using server = await startHostileServer(redirects, tls);
    const url = `https://${server.host}`;
    const origin = { url, ca: [authority.cert], client: [authority.issue("node")], headers: { "x-key": ["k"] } };
    await using client = createRegistryClient({
      hosts: [],
      routes: (registry) => ({ registry, endpoints: [], origin }),
    });
    await client.manifest(parseImageReference(`${server.host}/a:v1`));
    assert.deepEqual(shown, { own: ["node", "k"], other: [undefined, undefined] });
  },
);
