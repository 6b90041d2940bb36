/** One request against real sockets: what is refused, what is followed, how long it is waited. */
import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { WebhookReceiver } from "../testing/webhook-receiver.ts";
import { makeAddressGuard } from "./address-guard.ts";
import { makeSender, parseRetryAfter, type Sender, type SendResult } from "./send.ts";
import { makeSecret } from "./signature.ts";

const open = { allowPrivate: true, allowCidrs: [] };
const never = new AbortController().signal;

function send(sender: Sender, url: string, timeoutMs = 5_000): Promise<SendResult> {
  const message = { body: "{}", contentType: "application/json" };
  return sender.send({ url, headers: [], timeoutMs, secrets: [makeSecret()], id: "msg_1", message }, never);
}

void test("Sender connects to nothing that the guard refuses: addresses, names, and names that change their mind", async () => {
  await using receiver = await new WebhookReceiver().listen();
  const port = new URL(receiver.url).port;
  using byAddress = makeSender({ guard: makeAddressGuard({ allowPrivate: false, allowCidrs: [] }), version: "1" });
  for (const host of ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0x7f.1", "2130706433", "localhost"]) {
    const { outcome, message } = await send(byAddress, `http://${host}:${port}/`);
    assert.equal(outcome, "Refused", host);
    assert.match(message, /webhooks\.allowPrivate/);
  }
  let asked = 0;
  const guard = makeAddressGuard(
    { allowPrivate: false, allowCidrs: ["127.0.0.2/32"] },
    {
      lookup(_name, _options, done) {
        asked += 1;
        done(null, [{ address: asked === 1 ? "127.0.0.2" : "127.0.0.1", family: 4 }]);
      },
    },
  );
  using byName = makeSender({ guard, version: "1" });
  const first = await send(byName, `http://rebind.example:${port}/`);
  assert.equal(first.outcome, "Failed", "nobody listens on 127.0.0.2: it was connected to, and looked up once");
  assert.match(first.message, /ECONNREFUSED 127\.0\.0\.2/);
  assert.equal(asked, 1);
  assert.equal((await send(byName, `http://rebind.example:${port}/`)).outcome, "Refused");
  assert.deepEqual(receiver.received, []);
});

void test("Sender follows no redirect", async () => {
  await using inner = await new WebhookReceiver().listen();
  await using outer = await new WebhookReceiver().listen();
  outer.answer = () => ({ status: 307, headers: { location: inner.url } });
  using sender = makeSender({ guard: makeAddressGuard(open), version: "1" });
  const { outcome, code, message } = await send(sender, outer.url);
  assert.deepEqual([outcome, code, message], ["Failed", 307, "answered 307: redirects are not followed"]);
  assert.equal(inner.received.length, 0);
});

void test("Sender gives up a receiver that hangs, before its answer and amid it", async () => {
  await using receiver = await new WebhookReceiver().listen();
  receiver.answer = () => "hang";
  using sender = makeSender({ guard: makeAddressGuard(open), version: "1" });
  const silent = await send(sender, receiver.url, 100);
  assert.deepEqual([silent.outcome, silent.message], ["Failed", "no answer within 100 ms"]);
  const dripping = createServer((_request, response) => void response.writeHead(200).write("."));
  await new Promise<void>((resolve) => dripping.listen(0, "127.0.0.1", resolve));
  try {
    const url = `http://127.0.0.1:${(dripping.address() as AddressInfo).port}/`;
    assert.equal((await send(sender, url, 100)).message, "no answer within 100 ms");
  } finally {
    dripping.closeAllConnections();
    dripping.close();
  }
});

void test("Sender reads no more of an answer than it shows", async () => {
  const endless = createServer((_request, response) => {
    response.writeHead(500);
    const more = (): void =>
      void (response.write("x".repeat(65_536)) ? setImmediate(more) : response.once("drain", more));
    more();
  });
  await new Promise<void>((resolve) => endless.listen(0, "127.0.0.1", resolve));
  try {
    using sender = makeSender({ guard: makeAddressGuard(open), version: "1" });
    const { outcome, code, body } = await send(sender, `http://127.0.0.1:${(endless.address() as AddressInfo).port}/`);
    assert.deepEqual([outcome, code, body.length], ["Failed", 500, 2_048]);
  } finally {
    endless.closeAllConnections();
    endless.close();
  }
});

void test("parseRetryAfter reads seconds and dates, and believes no more than an hour", () => {
  const now = Date.parse("2026-01-01T00:00:00Z");
  assert.equal(parseRetryAfter("7", now), 7_000);
  assert.equal(parseRetryAfter("Thu, 01 Jan 2026 00:00:30 GMT", now), 30_000);
  assert.equal(parseRetryAfter("Wed, 31 Dec 2025 00:00:00 GMT", now), 0);
  assert.equal(parseRetryAfter("86400", now), 3_600_000);
  assert.equal(parseRetryAfter("soon", now), undefined);
  assert.equal(parseRetryAfter(undefined, now), undefined);
});
