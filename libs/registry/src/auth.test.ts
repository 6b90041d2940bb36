import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test } from "node:test";
import { digestOf, ManualClock } from "@berth/base";
import { MEDIA_TYPES, parseImageReference } from "@berth/model";
import { createRegistryClient, openSession } from "./index.ts";
import {
  bytesOf,
  failureOf,
  FAST,
  sendJson,
  startHostileClient,
  startHostileServer,
  type Behaviour,
} from "./testing/index.ts";

const manifestBytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: MEDIA_TYPES.ociIndex, manifests: [] }));
const manifestDigest = digestOf(manifestBytes);
const blob = randomBytes(300_000);

test("basic credentials are sent once asked for, then at once, and never when refused", async () => {
  const credentials = { username: "ann", password: "p:ä" };
  const expected = `Basic ${Buffer.from("ann:p:ä").toString("base64")}`;
  await using h = await startHostileClient(
    (seen, response) => {
      if (seen.headers.authorization === expected) response.writeHead(200).end(manifestBytes);
      else response.writeHead(401, { "www-authenticate": 'Basic realm="x"' }).end();
    },
    { plainHttp: true, credentials },
  );
  await h.client.manifest(h.ref);
  await h.client.manifest(h.ref);
  assert.deepEqual(
    h.server.seen.map((s) => s.headers.authorization),
    [undefined, expected, expected],
  );
  h.server.behave((_, response) => void response.writeHead(401, { "www-authenticate": 'Basic realm="x"' }).end());
  const error = await failureOf(h.client.manifest(h.ref));
  assert.equal(error.code, "UNAUTHENTICATED");
  assert.equal(error.reason, "REGISTRY_DENIED");
  assert.match(error.message, /check the credentials of "ann"/);
  assert.ok(!error.message.includes("p:ä"));
  assert.equal(h.server.seen.length, 4);
});

/** A registry and its token service on one server; tokens are `t1`, `t2`, … and only the newest is taken. */
function tokenBehaviour(issued: { count: number; expiresIn?: number }): Behaviour {
  return (seen, response) => {
    if (seen.path.startsWith("/token")) {
      issued.count += 1;
      sendJson(response, 200, {
        token: `t${issued.count}`,
        ...(issued.expiresIn === undefined ? {} : { expires_in: issued.expiresIn }),
      });
    } else if (issued.count > 0 && seen.headers.authorization === `Bearer t${issued.count}`) {
      response.writeHead(200).end(seen.path.includes("/blobs/") ? blob : manifestBytes);
    } else {
      const realm = `Bearer realm="http://${seen.headers.host}/token",service="reg",scope="repository:team/app:pull"`;
      sendJson(response, 401, {}, { "www-authenticate": realm });
    }
  };
}

test("a bearer token is fetched with scope and credentials, shared by scope, and renewed when refused", async () => {
  const issued = { count: 0, expiresIn: 300 };
  await using h = await startHostileClient(tokenBehaviour(issued), {
    plainHttp: true,
    credentials: { username: "ann", password: "pw" },
  });
  await Promise.all([h.client.manifest(h.ref), h.client.manifest(h.ref), h.client.hasBlob(h.ref, manifestDigest)]);
  assert.equal(issued.count, 1);
  const asked = h.server.seen.find((s) => s.path.startsWith("/token"))!;
  assert.equal(asked.path, "/token?service=reg&scope=repository%3Ateam%2Fapp%3Apull");
  assert.equal(asked.headers.authorization, `Basic ${Buffer.from("ann:pw").toString("base64")}`);
  issued.count += 1; // The server forgets t1.
  await h.client.manifest(h.ref);
  assert.equal(issued.count, 3);
  await h.client.manifest({ ...h.ref, repository: "team/other" });
  assert.equal(issued.count, 4, "another scope needs a token of its own");
});

test("a bearer token is not used beyond its life", async () => {
  const issued = { count: 0, expiresIn: 1 };
  const clock = new ManualClock();
  const server = await startHostileServer(tokenBehaviour(issued));
  await using client = createRegistryClient({ hosts: [{ host: server.host, plainHttp: true }], clock }, FAST);
  await using _ = server;
  const ref = parseImageReference(`${server.host}/team/app:v1`);
  await client.manifest(ref);
  clock.advance(2_000);
  await client.manifest(ref);
  assert.equal(issued.count, 2);
  assert.equal(server.seen.filter((s) => s.headers.authorization === "Bearer t1").length, 1);
});

test("an identity token is exchanged by POST and never sent to the registry", async () => {
  const issued = { count: 0 };
  await using h = await startHostileClient(tokenBehaviour(issued), {
    plainHttp: true,
    credentials: { username: "<token>", password: "refresh-me" },
  });
  await h.client.manifest(h.ref);
  const asked = h.server.seen.find((s) => s.path.startsWith("/token"))!;
  assert.equal(asked.method, "POST");
  assert.match(asked.body, /grant_type=refresh_token.*refresh_token=refresh-me/);
  assert.ok(h.server.seen.every((s) => s === asked || !JSON.stringify(s).includes("refresh-me")));
});

test("an identity token is not sent where basic credentials are asked for", async () => {
  await using h = await startHostileClient(
    (_, response) => void response.writeHead(401, { "www-authenticate": "Basic" }).end(),
    {
      plainHttp: true,
      credentials: { username: "<token>", password: "refresh-me" },
    },
  );
  assert.equal((await failureOf(h.client.manifest(h.ref))).code, "UNAUTHENTICATED");
  assert.deepEqual(
    h.server.seen.map(({ headers }) => headers.authorization),
    [undefined],
  );
});

test("credentials that were changed are looked up again when the old ones are refused, and at most once", async () => {
  let password = "old";
  let asked = 0;
  const basic = (secret: string): string => `Basic ${Buffer.from(`ann:${secret}`).toString("base64")}`;
  await using server = await startHostileServer((seen, response) => {
    if (seen.headers.authorization === basic(password)) response.writeHead(200).end(manifestBytes);
    else response.writeHead(401, { "www-authenticate": "Basic" }).end();
  });
  const credentials = () => ((asked += 1), { username: "ann", password });
  await using client = createRegistryClient({ hosts: [{ host: server.host, plainHttp: true }], credentials }, FAST);
  const ref = parseImageReference(`${server.host}/team/app:v1`);
  await client.manifest(ref);
  await client.manifest(ref);
  assert.equal(asked, 1);
  password = "new";
  await client.manifest(ref);
  assert.equal(asked, 2);
});

test("session carries a token into another client, which asks for none", async () => {
  const issued = { count: 0, expiresIn: 300 };
  await using h = await startHostileClient(tokenBehaviour(issued));
  await h.client.manifest(h.ref);
  await using client = openSession(structuredClone(h.client.session(h.ref)));
  await using stream = await client.blob(h.ref, digestOf(blob));
  assert.ok((await bytesOf(stream)).equals(blob));
  assert.equal(issued.count, 1);
});

test("endless 401 ends after three requests", async () => {
  let tokens = 0;
  await using h = await startHostileClient((seen, response) => {
    if (seen.path.startsWith("/token")) sendJson(response, 200, { token: `t${(tokens += 1)}` });
    else sendJson(response, 401, {}, { "www-authenticate": `Bearer realm="http://${seen.headers.host}/token"` });
  });
  const error = await failureOf(h.client.manifest(h.ref));
  assert.equal(error.code, "UNAUTHENTICATED");
  assert.match(error.message, /private or does not exist; configure credentials/);
  assert.equal(h.server.seen.filter((s) => s.path.startsWith("/v2/")).length, 3);
});

test("a token service that gives no token, or too much, is a clear error", async () => {
  await using h = await startHostileClient((seen, response) => {
    if (seen.path.startsWith("/token"))
      response.writeHead(200, { "content-type": "text/html" }).end("<html>login</html>");
    else sendJson(response, 401, {}, { "www-authenticate": `Bearer realm="http://${seen.headers.host}/token"` });
  });
  assert.match((await failureOf(h.client.manifest(h.ref))).message, /which gave no token/);
});
