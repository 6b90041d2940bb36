/** What a failed pull gives back of its ingests: its own of every kind, and nobody else's. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { digestOf, KeyedLock, silentLogger, type Digest } from "@berth/base";
import { giveBack, type GiveBackDeps } from "./give-back.ts";
import { blobPin, Pins } from "./pins.ts";
import { ingestRef } from "./pull/blobs.ts";
import { startTestHost } from "./testing/host.ts";

test("giveBack aborts a failed pull's manifest, config and layer, and leaves what others hold or began", async () => {
  await using host = await startTestHost({ hosts: [] });
  const pins = new Pins();
  const begin = async (ref: (digest: Digest) => string, text: string): Promise<string> => {
    const expected = digestOf(Buffer.from(text));
    await using writer = await host.content.writer("shop", { ref: ref(expected), totalBytes: 8, expected });
    return writer.ref;
  };
  const own = pins.set();
  for (const what of ["manifest", "config", "layer"] as const) {
    await begin((digest) => ingestRef(what, digest), what);
    own.add(blobPin("shop", digestOf(Buffer.from(what))));
  }
  const foreign = await begin(() => "a build's own", "foreign");
  own.add(blobPin("shop", digestOf(Buffer.from("foreign"))));
  const resumed = await begin((digest) => ingestRef("layer", digest), "resumed");
  own.add(blobPin("shop", digestOf(Buffer.from("resumed"))));
  using other = pins.set();
  other.add(blobPin("shop", digestOf(Buffer.from("resumed"))));

  const shared = { content: host.content, locks: new KeyedLock(), pins, logger: silentLogger };
  const deps = { shared, gc: { runFor: async () => undefined } } as unknown as GiveBackDeps;
  await giveBack(deps, "shop", own, "the pull");
  const left = await host.content.listStatuses("shop");
  assert.deepEqual(left.map(({ ref }) => ref).sort(), [foreign, resumed].sort()); // prettier-ignore
});
