import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, test } from "node:test";
import { createTestAuthority, missingOpenssl } from "../testing/certificates.ts";
import { CertsDir } from "./certs-dir.ts";
import { Router } from "./router.ts";

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "berth-certs-"));
});
afterEach(() => rmSync(root, { recursive: true }));

function put(path: string, text: string): void {
  mkdirSync(join(root, path, ".."), { recursive: true });
  writeFileSync(join(root, path), text);
}

const mirror = (name: string): string => `[host."https://${name}.example"]\n`;

test("CertsDir looks for host_port_, host:port and _default, in this order", () => {
  const certs = new CertsDir(root);
  const found = (registry: string): string | undefined => certs.route(registry)?.endpoints[0]?.url;
  assert.equal(found("a.example:5000"), undefined);
  put("_default/hosts.toml", mirror("default"));
  assert.equal(found("a.example:5000"), "https://default.example");
  put("a.example:5000/hosts.toml", mirror("colon"));
  assert.equal(found("a.example:5000"), "https://colon.example");
  put("a.example_5000_/hosts.toml", mirror("underscore"));
  assert.equal(found("a.example:5000"), "https://underscore.example");
  put("a.example/hosts.toml", mirror("plain"));
  assert.equal(found("a.example:5000"), "https://underscore.example");
  assert.equal(found("a.example"), "https://plain.example");
  assert.equal(found("other.example"), "https://default.example");
  assert.equal(new CertsDir(join(root, "none")).route("a.example"), undefined);
});

test("CertsDir reads a file again when it has changed, and only then", () => {
  const certs = new CertsDir(root);
  put("a.example/hosts.toml", mirror("one"));
  const first = certs.route("a.example");
  assert.equal(certs.route("a.example"), first);
  put("a.example/hosts.toml", mirror("two"));
  // Same size; the kernel's coarse clock might give the same time, too.
  utimesSync(join(root, "a.example/hosts.toml"), 1, 1);
  assert.equal(certs.route("a.example")!.endpoints[0]!.url, "https://two.example");
  put("a.example/hosts.toml", "nonsense");
  for (let again = 0; again < 2; again += 1) {
    assert.throws(() => certs.route("a.example"), { reason: "REGISTRY_CONFIG_INVALID" });
  }
  put("a.example/hosts.toml", mirror("mended"));
  assert.equal(certs.route("a.example")!.endpoints[0]!.url, "https://mended.example");
  rmSync(join(root, "a.example"), { recursive: true });
  assert.equal(certs.route("a.example"), undefined);
});

test("CertsDir takes certificates in Docker's layout, and not beside a hosts.toml", { skip: missingOpenssl() }, () => {
  const { cert, key } = createTestAuthority();
  const certs = new CertsDir(root);
  put("a.example/ca.crt", cert);
  put("a.example/node.cert", cert);
  assert.throws(() => certs.route("a.example"), /there is no node\.key beside it/);
  put("a.example/node.key", key);
  const route = certs.route("a.example")!;
  assert.deepEqual([route.endpoints, route.origin], [[], { ca: [cert], client: [{ cert, key }] }]);
  put("a.example/ca.crt", "not PEM");
  assert.throws(() => certs.route("a.example"), /a\.example\/ca\.crt: is not a PEM certificate/);
  put("a.example/hosts.toml", mirror("m"));
  assert.equal(certs.route("a.example")!.origin!.ca, undefined);
});

test("Router: certs.d wins over the controller's route, and that over nothing; a wrong route is an error", () => {
  const routes = (registry: string) => ({ registry, endpoints: [{ url: "https://controller.example" }] });
  const router = new Router({ hosts: [], certs: new CertsDir(root), routes });
  const first = (registry: string): string => router.endpoints(registry)[0]!.origin;
  put("a.example/hosts.toml", mirror("operator"));
  assert.equal(first("a.example"), "https://operator.example");
  assert.equal(first("b.example"), "https://controller.example");
  const none = new Router({ hosts: [], certs: undefined, routes: undefined });
  assert.deepEqual(
    none.endpoints("docker.io").map(({ origin, isOrigin }) => [origin, isOrigin]),
    [["https://registry-1.docker.io", true]],
  );
  const wrong = new Router({
    hosts: [],
    certs: undefined,
    routes: () => ({ registry: "x", endpoints: [{ url: "x" }], source: "RegistryMirror x" }),
  });
  assert.throws(() => wrong.endpoints("x"), /RegistryMirror x\): endpoints\[0\]\.url: is not a URL/);
});
