import assert from "node:assert/strict";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { hasCode, silentLogger } from "@berth/base";
import { openMetadata, type Metadata } from "@berth/metadata";
import { RegistryMirrorSchema, type RegistryMirror, type RegistryMirrorSpecSchema } from "@berth/proto";
import { scratchDir } from "@berth/testkit";
import { engineMigrations } from "./engine/migrations.ts";
import { RegistryRoutes } from "./registry-routes.ts";

function mirror(registry: string, spec: MessageInitShape<typeof RegistryMirrorSpecSchema> = {}): RegistryMirror {
  const endpoints = [{ url: "https://mirror.test" }];
  return create(RegistryMirrorSchema, { metadata: { name: `m-${registry}` }, spec: { registry, endpoints, ...spec } });
}

async function open(dir: string): Promise<{ metadata: Metadata; routes: RegistryRoutes }> {
  const metadata = await openMetadata({ path: join(dir, "m.db"), migrations: engineMigrations });
  return { metadata, routes: new RegistryRoutes(metadata, silentLogger) };
}

test("RegistryRoutes keeps the newest set over a restart, and refuses an older one of the same store", async () => {
  using dir = scratchDir("berth-routes");
  const first = await open(dir.dir);
  assert.equal(first.routes.route("docker.io"), undefined);
  assert.equal(first.routes.isBehind({ storeEpoch: "e1", revision: 0 }), false, "nothing to tell");
  assert.equal(first.routes.isBehind({ storeEpoch: "e1", revision: 2 }), true);
  const set = {
    storeEpoch: "e1",
    revision: 2,
    mirrors: [mirror("docker.io", { maxBytesPerSecond: 5n }), mirror("_default")],
  };
  assert.equal(await first.routes.take(set), "taken");
  assert.equal(await first.routes.take({ storeEpoch: "e1", revision: 1, mirrors: [] }), "refused");
  assert.equal(first.routes.route("docker.io"), first.routes.route("docker.io"), "the same object until it changes");
  await first.metadata[Symbol.asyncDispose]();

  const { metadata, routes } = await open(dir.dir);
  await using _ = metadata;
  assert.deepEqual(routes.applied(), { storeEpoch: "e1", revision: 2 });
  assert.equal(routes.route("docker.io")?.source, "RegistryMirror m-docker.io");
  assert.equal(routes.route("quay.io")?.registry, "_default");
  assert.deepEqual([routes.rate("docker.io"), routes.rate("quay.io")], [5, undefined]);
  assert.equal(routes.isBehind({ storeEpoch: "e1", revision: 2 }), false);
  assert.equal(routes.isBehind({ storeEpoch: "e2", revision: 0 }), true, "a restored store");
  assert.equal(await routes.take({ storeEpoch: "e2", revision: 0, mirrors: [] }), "taken");
  assert.equal(routes.route("docker.io"), undefined);
});

test("RegistryRoutes fails pulls by a mirror whose files this node lacks, and takes them once they are there", async () => {
  using dir = scratchDir("berth-routes");
  const { metadata, routes } = await open(dir.dir);
  await using _ = metadata;
  const [certFile, keyFile] = [join(dir.dir, "c.pem"), join(dir.dir, "k.pem")];
  const endpoints = [{ url: "https://mirror.test", client: [{ certFile, keyFile }] }];
  await routes.take({ storeEpoch: "e1", revision: 1, mirrors: [mirror("docker.io", { endpoints })] });
  assert.throws(
    () => routes.route("docker.io"),
    (error) =>
      hasCode(error, "FAILED_PRECONDITION") && /mirror "m-docker.io": .*c.pem cannot be read/.test(error.message),
  );
  for (const file of [certFile, keyFile]) writeFileSync(file, "PEM");
  assert.deepEqual(routes.route("docker.io")?.endpoints[0]?.client, [{ cert: "PEM", key: "PEM" }]);
  rmSync(certFile);
  assert.ok(routes.route("docker.io"), "read once");
});
