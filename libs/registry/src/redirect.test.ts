import assert from "node:assert/strict";
import { test } from "node:test";
import { addressKind, hostKind } from "./address.ts";
import type { Subject } from "./errors.ts";
import { guardedLookup, targetOf } from "./redirect.ts";
import { endpointsOf } from "./routes/endpoint.ts";

function subjectOf(url: string): Subject {
  const [endpoint] = endpointsOf("r.example", { registry: "r.example", endpoints: [{ url }] }, () => undefined);
  return { endpoint: endpoint!, what: "image x", missing: { reason: "X" }, username: () => undefined };
}

test("targetOf follows the rule for redirects", () => {
  const cases: [from: string, to: string, fine: boolean][] = [
    ["https://r.example", "/other", true],
    ["https://r.example", "https://cdn.example/x?signature=1", true],
    ["https://r.example", "https://10.1.2.3/x", true],
    ["https://r.example", "http://r.example/x", false],
    ["http://r.example", "https://cdn.example/x", true],
    ["https://r.example", "file:///etc/passwd", false],
    ["https://r.example", "ftp://r.example/x", false],
    ["https://r.example", "https://169.254.169.254/latest", false],
    ["http://r.example", "http://169.254.1.1/", false],
    ["http://r.example", "http://2852039166/", false],
    ["http://r.example", "http://0xA9.254.0xA9FE/", false],
    ["http://r.example", "http://[::ffff:169.254.169.254]/", false],
    ["http://r.example", "http://[64:ff9b::a9fe:a9fe]/", false],
    ["http://r.example", "http://[fd00:ec2::254]/", false],
    ["http://r.example", "http://[fe80::1]/", false],
    ["http://r.example", "http://100.100.100.200/", false],
    ["http://r.example", "http://127.0.0.1/", false],
    ["http://r.example", "http://127.1/", false],
    ["http://r.example", "http://0.0.0.0/", false],
    ["http://r.example", "http://localhost./", false],
    ["http://r.example", "http://x.localhost/", false],
    ["http://r.example", "http://[::1]/", false],
    ["http://r.example", "http://[::]/", false],
    ["http://127.0.0.1:5000", "http://127.0.0.1:9000/x", true],
    ["http://localhost:5000", "http://[::1]:9000/x", true],
    ["http://127.0.0.1:5000", "http://169.254.169.254/", false],
    ["http://169.254.169.254", "/x", true],
    ["http://169.254.169.254", "http://169.254.169.254:81/", false],
    ["https://r.example", "http://[", false],
  ];
  for (const [from, to, fine] of cases) {
    const run = (): URL => targetOf(to, new URL(from), subjectOf(from));
    if (fine) assert.doesNotThrow(run, `${from} → ${to}`);
    else assert.throws(run, { reason: "REGISTRY_REDIRECTS" }, `${from} → ${to}`);
  }
});

test("guardedLookup refuses names of this host's own addresses", async () => {
  const resolve = (loopBack: boolean, all: boolean): Promise<unknown> =>
    new Promise((settle, reject) => {
      guardedLookup(loopBack)("localhost", { all }, (error, address) =>
        error === null ? settle(address) : reject(error),
      );
    });
  await assert.rejects(
    resolve(false, true),
    /localhost is an address of this host itself; redirects there are refused/,
  );
  assert.ok(Array.isArray(await resolve(true, true)));
  assert.equal(hostKind(String(await resolve(true, false))), "loopback");
  assert.equal(addressKind("8.8.8.8"), "other");
  assert.equal(addressKind("2001:db8::1"), "other");
});
