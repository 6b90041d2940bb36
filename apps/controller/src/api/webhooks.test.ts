/** WebhookService over both transports: secrets are told once, what is wrong is named, a ping shows what came back. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { NamespaceService, WebhookService } from "@berth/proto";
import { getWebhook } from "@berth/store";
import { startTestServers, type TestApi, type TestServers } from "../testing/test-api.ts";
import { signaturesBy, WebhookReceiver } from "../testing/webhook-receiver.ts";
import { webhookFindings } from "../status/webhook-findings.ts";

let servers: TestServers;
let api: TestApi;
before(async () => {
  servers = await startTestServers();
  api = await servers.api();
  await api.client(NamespaceService).applyNamespace({ namespace: { metadata: { name: "shop" } } });
});
after(async () => {
  await api[Symbol.asyncDispose]();
  await servers[Symbol.asyncDispose]();
});

const PATH = "/v1/namespaces/shop/webhooks";
const metadata = (name: string) => ({ namespace: "shop", name });

void test("a secret is told in the answer that made it and in no other", async () => {
  const body = { metadata: { name: "ci" }, spec: { url: "https://ci.example/hook", topics: ["/tasks/**"] } };
  const made = await api.http("PUT", `${PATH}/ci`, body);
  assert.equal(made.status, 200, JSON.stringify(made.json));
  const secret = String(made.at("status", "secret"));
  assert.match(secret, /^whsec_/);
  const client = api.client(WebhookService);
  const again = await api.http("PUT", `${PATH}/ci`, body);
  assert.equal(again.at("metadata", "resourceVersion"), "1", "nothing is written");
  const others = [
    again.json,
    (await api.http("GET", `${PATH}/ci`)).json,
    (await api.http("GET", PATH)).json,
    (await api.http("GET", "/v1/namespaces/shop/events?tail=100")).json,
    (await api.http("PUT", `${PATH}/ci`, { ...body, spec: { ...body.spec, batch: 5 } })).json,
  ];
  const rotated = await client.rotateWebhookSecret({ namespace: "shop", name: "ci" });
  assert.notEqual(rotated.secret, secret);
  others.push((await api.http("GET", `${PATH}/ci`)).json, (await api.http("DELETE", `${PATH}/ci`)).json);
  for (const answer of others) assert.doesNotMatch(JSON.stringify(answer), /whsec_/);
  const missing = await api.http("GET", `${PATH}/ci`);
  assert.equal(missing.status, 404);
});

void test("a secret that was rotated signs for the grace by Postgres' clock", async (context) => {
  await api.http("PUT", `${PATH}/kept`, { metadata: { name: "kept" }, spec: { url: "https://ci.example/hook" } });
  context.mock.timers.enable({ apis: ["Date"], now: Date.now() + 7_200_000 });
  await api.client(WebhookService).rotateWebhookSecret({ ...metadata("kept"), grace: { seconds: 60n } });
  context.mock.timers.reset();
  const [row] = await api.store.db.execute<{ soon: boolean }>(
    "select previous_secret_until < clock_timestamp() + interval '61 seconds' as soon from webhooks where name = 'kept'",
  );
  assert.equal(row!.soon, true);
  await api.http("DELETE", `${PATH}/kept`);
});

void test("what is wrong in a webhook is named by its field", async () => {
  const fieldsOf = async (spec: object): Promise<string> => {
    const { status, json } = await api.http("PUT", `${PATH}/bad`, { metadata: { name: "bad" }, spec });
    assert.equal(status, 400, JSON.stringify(json));
    return JSON.stringify(json);
  };
  const url = "https://ci.example/";
  assert.match(await fieldsOf({ url: "ftp://ci.example" }), /spec\.url.*write https:/);
  assert.match(await fieldsOf({ url: "https://me:pass@ci.example" }), /spec\.url.*check the signature/);
  assert.match(await fieldsOf({ url, topics: ["tasks"] }), /spec\.topics\[0\].*is no topic/);
  assert.match(await fieldsOf({ url, filters: ["topic~"] }), /spec\.filters\[0\]/);
  assert.match(await fieldsOf({ url, selector: "a=b=c" }), /spec\.selector/);
  assert.match(await fieldsOf({ url, headers: [{ name: "Webhook-Id", value: "x" }] }), /spec\.headers\[0\]\.name.*written by Berth/); // prettier-ignore
  assert.match(await fieldsOf({ url, headers: [{ name: "Authorization", value: "x" }] }), /spec\.headers\[0\]\.name.*carries credentials/); // prettier-ignore
  assert.match(await fieldsOf({ url, headers: [{ name: "x", value: "a\nb" }] }), /spec\.headers\[0\]\.value/);
  assert.match(await fieldsOf({ url, timeout: "90s", maxAge: "1s" }), /spec\.timeout.*spec\.maxAge/);
  assert.match(await fieldsOf({ url, batch: 501 }), /spec\.batch/);
  await assert.rejects(
    api
      .client(WebhookService)
      .applyWebhook({ webhook: { metadata: { name: "x", namespace: "nowhere" }, spec: { url } } }),
    /namespace "nowhere" does not exist/,
  );
});

void test("a ping is sent at once, signed, and what came back is shown; where it may not go it does not", async () => {
  await using receiver = await new WebhookReceiver().listen();
  const client = api.client(WebhookService);
  const made = await client.applyWebhook({ webhook: { metadata: metadata("ping"), spec: { url: receiver.url } } });
  const taken = await client.testWebhook(metadata("ping"));
  assert.partialDeepStrictEqual(taken.delivery, { outcome: "Delivered", code: 204 });
  const [ping] = receiver.received;
  assert.equal(ping!.events[0]!.type, "io.berth.webhook.ping");
  assert.deepEqual(ping!.events[0]!.data, { by: "admin" });
  assert.equal(signaturesBy(made.status!.secret, ping!), 1);
  const { secret } = await client.rotateWebhookSecret({ ...metadata("ping"), grace: { seconds: 60n } });
  receiver.answer = () => 503;
  const refused = await client.testWebhook(metadata("ping"));
  assert.partialDeepStrictEqual(refused, {
    delivery: { outcome: "Failed", code: 503, message: "answered 503: no thanks" },
    body: "no thanks",
  });
  const signatures = [secret, made.status!.secret].map((each) => signaturesBy(each, receiver.received[1]!));
  assert.deepEqual(signatures, [1, 1]);
  const inward = { url: "http://169.254.169.254/latest/meta-data/" };
  await client.applyWebhook({ webhook: { metadata: metadata("inward"), spec: inward } });
  const { delivery } = await client.testWebhook(metadata("inward"));
  assert.equal(delivery!.outcome, "Refused");
  assert.match(delivery!.message, /^169\.254\.169\.254 is not of the public internet/);
});

void test("webhookFindings name those that have failed for a while or are gone", async () => {
  const client = api.client(WebhookService);
  await client.applyWebhook({ webhook: { metadata: metadata("sad"), spec: { url: "https://sad.example" } } });
  const row = (await getWebhook(api.store.db, "shop", "sad"))!;
  const now = new Date();
  const before = (ms: number): Date => new Date(now.getTime() - ms);
  const of = (patch: Partial<typeof row>): string[] =>
    webhookFindings({ webhooks: [{ ...row, failures: 7, lastError: "answered 500", ...patch }], now }).map(
      ({ reason, subject, message, hint }) => [reason, subject, message, hint].join("; "),
    );
  assert.deepEqual(of({ failingSince: before(30_000) }), []);
  assert.deepEqual(of({ failingSince: before(61_000), givenUp: 3 }), [
    "WebhookFailing; webhook/shop/sad; 7 requests failed in a row: answered 500; 3 events given up so far; berth -n shop webhook deliveries sad",
  ]);
  assert.deepEqual(of({ failingSince: before(1), goneAt: now }), [
    "WebhookGone; webhook/shop/sad; its receiver answered 410: nothing is sent any more; berth -n shop webhook resume sad",
  ]);
});
