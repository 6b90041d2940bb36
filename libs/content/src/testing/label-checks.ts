/** Labels and filters, leases of ingests, limits, and reading in pieces. */
import assert from "node:assert/strict";
import { digestOf } from "@berth/base";
import type { ContentStore, ReadRange } from "../content.ts";
import { digests, fails, put, type Suite } from "./checks.ts";

async function walked(store: ContentStore, ...filters: string[]): Promise<string[]> {
  const found: string[] = [];
  for await (const { digest } of store.walk("a", filters)) found.push(digest);
  return found.sort();
}

async function leave(store: ContentStore, ref: string, lease?: string, labels = {}): Promise<void> {
  await using writer = await store.writer("a", { ref, labels, ...(lease === undefined ? {} : { lease }) });
  await writer.write(Buffer.from(ref));
}

export const LABELS: Suite = {
  async "changes only the labels that field paths name, and removes what is empty"(store) {
    const { digest } = await put(store, "a", "x", { keep: "1", change: "2", "with.dots/and-more": "3" });
    const changed = await store.update("a", digest, { change: "two", "with.dots/and-more": "", other: "not named" }, [
      "labels.change",
      "labels.with.dots/and-more",
      "labels.absent",
    ]);
    assert.deepEqual(changed.labels, { keep: "1", change: "two" });
    assert.deepEqual((await store.update("a", digest, { new: "1", none: "" }, ["labels"])).labels, { new: "1" });
    assert.deepEqual((await store.info("a", digest)).labels, { new: "1" });
  },

  async "refuses field paths that are not of labels, and labels that are too long"(store) {
    const { digest } = await put(store, "a", "x", { keep: "1" });
    const invalid = fails("INVALID_ARGUMENT", "FIELD_INVALID");
    for (const path of ["size", "labels.", "digest", ""]) {
      await assert.rejects(store.update("a", digest, {}, [path]), invalid);
    }
    await assert.rejects(store.update("a", digest, { k: "v".repeat(4_096) }), invalid);
    await assert.rejects(store.update("a", digest, { "": "v" }), invalid);
    await assert.rejects(store.writer("a", { ref: "r", labels: { k: "v".repeat(4_096) } }), invalid);
    assert.deepEqual((await store.info("a", digest)).labels, { keep: "1" });
  },

  async "walks what containerd's filters hold for"(store) {
    const one = await put(store, "a", "one", { kind: "layer", "containerd.io/gc.root": "now" });
    const two = await put(store, "a", "three", { kind: "config" });
    assert.deepEqual(await walked(store, "labels.kind==layer"), [one.digest]);
    assert.deepEqual(await walked(store, 'labels."containerd.io/gc.root"'), [one.digest]);
    assert.deepEqual(await walked(store, "labels.kind~=^lay", "size==5"), [one.digest, two.digest].sort());
    assert.deepEqual(await walked(store, `digest=="${two.digest}",labels.kind==config`), [two.digest]);
    assert.deepEqual(await walked(store, "labels.kind==layer,size==5"), []);
    assert.deepEqual(await walked(store, "nonsense"), []);
    assert.throws(() => store.walk("a", ["labels.kind="]), fails("INVALID_ARGUMENT", "FILTER_INVALID"));
  },
};

export const LEASES: Suite = {
  async "keeps labels and lease of an ingest, and lists by them"(store) {
    await leave(store, "one", "l1", { image: "busybox" });
    await leave(store, "one", undefined, { more: "yes" });
    await leave(store, "two");
    const [one] = await store.listStatuses("a", ["lease==l1"]);
    assert.deepEqual([one?.ref, one?.lease, one?.labels], ["one", "l1", { image: "busybox", more: "yes" }]);
    const refs = async (filter: string): Promise<string[]> =>
      (await store.listStatuses("a", [filter])).map(({ ref }) => ref);
    assert.deepEqual(await refs("labels.image==busybox"), ["one"]);
    assert.deepEqual(await refs("ref~=^t"), ["two"]);
    assert.deepEqual(await refs("expected"), []);
    await assert.rejects(store.listStatuses("a", ["="]), fails("INVALID_ARGUMENT", "FILTER_INVALID"));
    assert.deepEqual(await store.ingestLeases(), [{ namespace: "a", lease: "l1" }]);
  },

  async "drops the ingests of a lease that ended, but for those being written"(store) {
    await leave(store, "one", "l1");
    await leave(store, "two", "l2");
    await using busy = await store.writer("a", { ref: "busy", lease: "l1" });
    await busy.write(Buffer.from("going on"));
    assert.equal(await store.releaseLease("b", "l1"), 0);
    assert.equal(await store.releaseLease("a", "l1"), 1);
    const left = (await store.listStatuses("a")).map(({ ref, lease }) => [ref, lease]);
    assert.deepEqual(left, [
      ["busy", undefined],
      ["two", "l2"],
    ]);
    assert.equal((await busy.commit({})).digest, digestOf("going on"));
    assert.deepEqual(await store.ingestLeases(), [{ namespace: "a", lease: "l2" }]);
  },

  async "names who holds a ref"(store) {
    await using _writer = await store.writer("a", { ref: "layer-1", holder: "the pull of busybox" });
    const named = (error: Error): boolean =>
      fails("UNAVAILABLE", "INGEST_LOCKED")(error) &&
      /"layer-1" of namespace "a" is held by the pull of busybox since 2/.test(error.message);
    await assert.rejects(store.writer("a", { ref: "layer-1" }), named);
    await assert.rejects(store.abort("a", "layer-1"), named);
  },
};

/** With a store whose ingests may have 8 bytes. */
export const LIMITS: Suite = {
  async "refuses what is or grows larger than the store allows"(store) {
    const tooLarge = fails("RESOURCE_EXHAUSTED", "INGEST_TOO_LARGE");
    await assert.rejects(store.writer("a", { ref: "announced", totalBytes: 9 }), tooLarge);
    assert.deepEqual(await store.listStatuses("a"), []);
    await using writer = await store.writer("a", { ref: "r" });
    await writer.write(Buffer.from("12345"));
    await assert.rejects(writer.write(Buffer.from("6789")), tooLarge);
    await writer.write(Buffer.from("678"));
    assert.equal((await writer.commit({})).sizeBytes, 8);
  },

  async "refuses what a writer limits itself, and never more than the store allows"(store) {
    const tooLarge = fails("RESOURCE_EXHAUSTED", "INGEST_TOO_LARGE");
    await using own = await store.writer("a", { ref: "own", maxBytes: 3 });
    await assert.rejects(own.write(Buffer.from("1234")), tooLarge);
    assert.equal((await own.status()).offsetBytes, 0);
    await assert.rejects(store.writer("a", { ref: "more", maxBytes: 100, totalBytes: 50 }), tooLarge);
  },
};

export const STREAMS: Suite = {
  async "streams a range in pieces of the asked size"(store) {
    const { digest } = await put(store, "a", "0123456789");
    await using reader = await store.reader("a", digest);
    const pieces = async (range?: ReadRange): Promise<string[]> => {
      const found: string[] = [];
      for await (const piece of reader.stream(range)) found.push(Buffer.from(piece).toString());
      return found;
    };
    assert.deepEqual(await pieces(), ["0123456789"]);
    assert.deepEqual(await pieces({ offset: 2, length: 5, chunkBytes: 2 }), ["23", "45", "6"]);
    assert.deepEqual(await pieces({ offset: 8, length: 99 }), ["89"]);
    assert.deepEqual(await pieces({ offset: 10 }), []);
    for await (const piece of reader.stream({ chunkBytes: 3 })) {
      assert.equal(Buffer.from(piece).toString(), "012");
      break;
    }
    assert.throws(() => reader.stream({ offset: -1 }), fails("OUT_OF_RANGE", "CONTENT_RANGE"));
    assert.throws(() => reader.stream({ chunkBytes: 0 }), fails("OUT_OF_RANGE", "CONTENT_RANGE"));
  },

  async "walks on while blobs come and go"(store) {
    for (let n = 0; n < 5; n += 1) await put(store, "a", `blob ${n}`);
    let seen = 0;
    for await (const { digest } of store.walk("a")) {
      seen += 1;
      await store.delete("a", digest);
    }
    assert.equal(seen, 5);
    assert.deepEqual(await digests(store, "a"), []);
  },
};
