import assert from "node:assert/strict";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { mount, unmount } from "@berth/linux";
import { hostNameservers, readSpec, removeBundle, writeEtcFiles, writeSpec } from "./bundle.ts";
import type { OciSpec } from "./spec/oci-spec.ts";

function scratch(): Disposable & { path: string } {
  const path = mkdtempSync(join(tmpdir(), "berth-bundle-"));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true }) };
}

test("writeSpec and writeEtcFiles make a bundle that keeps secrets from other users", async () => {
  using directory = scratch();
  const bundle = join(directory.path, "b");
  const files = await writeEtcFiles(bundle, {
    hostname: "web",
    addresses: ["10.1.2.3/24"],
    nameservers: ["192.0.2.1"],
    searches: ["shop.example"],
    options: ["ndots:5"],
  });
  assert.match(readFileSync(files.hosts, "utf8"), /^127\.0\.0\.1\tlocalhost\n[^]*10\.1\.2\.3\tweb\n$/);
  assert.equal(readFileSync(files.resolvConf, "utf8"), "search shop.example\nnameserver 192.0.2.1\noptions ndots:5\n");
  assert.equal(statSync(files.hostname).mode & 0o777, 0o644);
  const spec = { hostname: "web" } as OciSpec;
  await writeSpec(bundle, spec);
  assert.deepEqual([statSync(bundle).mode & 0o777, statSync(join(bundle, "config.json")).mode & 0o777], [0o700, 0o600]);
  assert.deepEqual(await readSpec(bundle), spec);
  writeFileSync(join(bundle, "config.json"), "{");
  await assert.rejects(readSpec(bundle), { code: "DATA_LOSS" });
  await removeBundle(bundle);
  await removeBundle(bundle);
  await assert.rejects(readSpec(bundle), { code: "NOT_FOUND" });
});

test("removeBundle refuses to reach into a mount", async () => {
  using directory = scratch();
  const [bundle, data] = [join(directory.path, "b"), join(directory.path, "data")];
  mkdirSync(join(bundle, "rootfs"), { recursive: true });
  mkdirSync(data);
  writeFileSync(join(data, "precious"), "");
  mount({ type: "bind", source: data, target: join(bundle, "rootfs"), options: ["bind"] });
  try {
    await assert.rejects(removeBundle(bundle), { code: "FAILED_PRECONDITION", reason: "BUNDLE_BUSY" });
  } finally {
    unmount(join(bundle, "rootfs"));
  }
  await removeBundle(bundle);
  assert.deepEqual([existsSync(bundle), existsSync(join(data, "precious"))], [false, true]);
});

test("hostNameservers looks past loopback resolvers", async () => {
  using directory = scratch();
  const [stub, real] = [join(directory.path, "stub"), join(directory.path, "real")];
  writeFileSync(stub, "nameserver 127.0.0.53\nsearch a.example\n");
  writeFileSync(real, "# comment\nnameserver 192.0.2.7 \nsearch b.example c.example\noptions edns0\n");
  assert.deepEqual(await hostNameservers([stub, real]), {
    nameservers: ["192.0.2.7"],
    searches: ["b.example", "c.example"],
    options: ["edns0"],
  });
  assert.deepEqual((await hostNameservers([stub])).nameservers, []);
});
