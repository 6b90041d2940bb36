/** Ingests and commits: how bytes become a blob, and how they do not. */
import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { digestOf, type Digest } from "@berth/base";
import { digests, fails, MISSING, offset, put, type Suite } from "./checks.ts";

export const INGESTS: Suite = {
  async "resumes an ingest where its last writer left it"(store) {
    const first = await store.writer("a", { ref: "layer", totalBytes: 6 });
    await first.write(Buffer.from("one"));
    await first[Symbol.asyncDispose]();
    await using second = await store.writer("a", { ref: "layer" });
    const { offsetBytes, totalBytes, ref } = await second.status();
    assert.deepEqual({ offsetBytes, totalBytes, ref }, { offsetBytes: 3, totalBytes: 6, ref: "layer" });
    await second.write(Buffer.from("two"));
    assert.equal((await second.commit({})).digest, digestOf("onetwo"));
  },

  async "has one writer per ref of a namespace"(store) {
    await using writer = await store.writer("a", { ref: "r" });
    await assert.rejects(store.writer("a", { ref: "r" }), fails("UNAVAILABLE", "INGEST_LOCKED"));
    await using _other = await store.writer("b", { ref: "r" });
    await assert.rejects(store.abort("a", "r"), fails("UNAVAILABLE", "INGEST_LOCKED"));
    await writer[Symbol.asyncDispose]();
    await using _again = await store.writer("a", { ref: "r" });
  },

  async "gives exactly one of many that open a ref at once the writer"(store) {
    const opened = await Promise.allSettled(Array.from({ length: 8 }, () => store.writer("a", { ref: "r" })));
    assert.equal(opened.filter((outcome) => outcome.status === "fulfilled").length, 1);
    for (const outcome of opened) if (outcome.status === "fulfilled") await outcome.value[Symbol.asyncDispose]();
  },

  async "refuses to resume as something else"(store) {
    const first = await store.writer("a", { ref: "r", totalBytes: 3, expected: digestOf("abc") });
    await first[Symbol.asyncDispose]();
    await assert.rejects(
      store.writer("a", { ref: "r", totalBytes: 4 }),
      fails("FAILED_PRECONDITION", "INGEST_DIFFERS"),
    );
    const other = store.writer("a", { ref: "r", expected: digestOf("abd") });
    await assert.rejects(other, fails("FAILED_PRECONDITION", "INGEST_DIFFERS"));
    await using _again = await store.writer("a", { ref: "r", totalBytes: 3, expected: digestOf("abc") });
  },

  async "truncates, to zero and to a size, never to more"(store) {
    await using writer = await store.writer("a", { ref: "r" });
    await writer.write(Buffer.from("wrong"));
    await writer.truncate(0);
    assert.equal(await offset(writer), 0);
    await writer.write(Buffer.from("right and more"));
    await writer.truncate(5);
    assert.equal(await offset(writer), 5);
    await assert.rejects(writer.truncate(6), fails("OUT_OF_RANGE", "CONTENT_RANGE"));
    await writer.write(Buffer.from("!"));
    assert.equal((await writer.commit({})).digest, digestOf("right!"));
  },

  async "writes in the order of the calls, awaited or not"(store) {
    await using writer = await store.writer("a", { ref: "r" });
    const chunks = Array.from({ length: 40 }, (_, n) => Buffer.alloc(1 + n * 97, n));
    const writes = chunks.map((chunk) => writer.write(chunk));
    const committed = writer.commit({});
    await Promise.all(writes);
    assert.equal((await committed).digest, digestOf(Buffer.concat(chunks)));
  },

  async "tells the status of one ingest and of all of a namespace"(store) {
    await using one = await store.writer("a", { ref: "one", totalBytes: 10, expected: MISSING });
    await one.write(Buffer.from("12345"));
    await using _two = await store.writer("a", { ref: "two" });
    await using _other = await store.writer("b", { ref: "three" });
    const status = await store.status("a", "one");
    assert.deepEqual([status.offsetBytes, status.totalBytes, status.expected], [5, 10, MISSING]);
    assert.ok(status.updatedAtMs >= status.startedAtMs && status.startedAtMs > 0);
    const refs = (await store.listStatuses("a")).map(({ ref }) => ref);
    assert.deepEqual(refs.sort(), ["one", "two"]);
    await assert.rejects(store.status("b", "one"), fails("NOT_FOUND", "INGEST_MISSING"));
    assert.deepEqual(await store.listStatuses("c"), []);
  },

  async "aborts an ingest and its bytes"(store) {
    const writer = await store.writer("a", { ref: "r", totalBytes: 9 });
    await writer.write(Buffer.from("abc"));
    await writer[Symbol.asyncDispose]();
    await store.abort("a", "r");
    await assert.rejects(store.status("a", "r"), fails("NOT_FOUND", "INGEST_MISSING"));
    await assert.rejects(store.abort("a", "r"), fails("NOT_FOUND", "INGEST_MISSING"));
    await using again = await store.writer("a", { ref: "r", totalBytes: 4 });
    assert.equal(await offset(again), 0);
  },

  async "keeps the ingest when its writer is disposed, and ends the writer"(store) {
    const writer = await store.writer("a", { ref: "r" });
    const writing = writer.write(Buffer.from("kept"));
    await writer[Symbol.asyncDispose]();
    await writer[Symbol.asyncDispose]();
    await writing;
    await assert.rejects(writer.write(Buffer.from("x")), fails("FAILED_PRECONDITION", "INGEST_ENDED"));
    await assert.rejects(writer.commit({}), fails("FAILED_PRECONDITION", "INGEST_ENDED"));
    assert.equal((await store.status("a", "r")).offsetBytes, 4);
  },

  async "refuses names that cannot be kept apart"(store) {
    await assert.rejects(store.writer("a/b", { ref: "r" }), fails("INVALID_ARGUMENT", "FIELD_INVALID"));
    await assert.rejects(store.writer("", { ref: "r" }), fails("INVALID_ARGUMENT", "FIELD_INVALID"));
    await assert.rejects(store.writer("a", { ref: "" }), fails("INVALID_ARGUMENT", "FIELD_INVALID"));
  },
};

export const COMMITS: Suite = {
  async "commits what matches digest and size, and the ingest is gone"(store) {
    await using writer = await store.writer("a", { ref: "r", totalBytes: 5, expected: digestOf("hello") });
    await writer.write(Buffer.from("hello"));
    const info = await writer.commit({ sizeBytes: 5, digest: digestOf("hello"), labels: { k: "v" } });
    assert.deepEqual([info.digest, info.sizeBytes, info.labels], [digestOf("hello"), 5, { k: "v" }]);
    assert.ok(info.createdAtMs > 0 && info.updatedAtMs >= info.createdAtMs);
    assert.deepEqual(await store.info("a", info.digest), info);
    assert.deepEqual(await store.listStatuses("a"), []);
    await assert.rejects(writer.commit({}), fails("FAILED_PRECONDITION", "INGEST_ENDED"));
  },

  async "commits nothing when the digest differs, and drops the bytes"(store) {
    const writer = await store.writer("a", { ref: "r" });
    await writer.write(Buffer.from("evil"));
    await assert.rejects(
      writer.commit({ digest: digestOf("good") }),
      fails("FAILED_PRECONDITION", "CONTENT_DIGEST_MISMATCH"),
    );
    await assert.rejects(writer.write(Buffer.from("x")), fails("FAILED_PRECONDITION", "INGEST_ENDED"));
    const expecting = await store.writer("a", { ref: "r", expected: digestOf("good") });
    assert.equal(await offset(expecting), 0);
    await expecting.write(Buffer.from("evil"));
    await assert.rejects(expecting.commit({}), fails("FAILED_PRECONDITION", "CONTENT_DIGEST_MISMATCH"));
    assert.deepEqual(await store.listStatuses("a"), []);
    assert.deepEqual(await digests(store, "a"), []);
    for (const text of ["good", "evil"]) assert.equal(await store.physical(digestOf(text)), undefined);
  },

  async "commits nothing when the size differs, whoever claims it"(store) {
    const wrong = [{ sizeBytes: 4 }, { computed: { digest: digestOf("abcde"), sizeBytes: 4 } }];
    for (const options of wrong) {
      const writer = await store.writer("a", { ref: "r" });
      await writer.write(Buffer.from("abcde"));
      await assert.rejects(writer.commit(options), fails("FAILED_PRECONDITION", "CONTENT_SIZE_MISMATCH"));
      assert.deepEqual(await store.listStatuses("a"), []);
    }
    assert.deepEqual(await store.totals(), { blobs: 0, sizeBytes: 0 });
  },

  async "commits what the namespace has already quietly, and adds the labels"(store) {
    const first = await put(store, "a", "same", { kept: "1", changed: "old" });
    await using writer = await store.writer("a", { ref: "again" });
    await writer.write(Buffer.from("same"));
    const second = await writer.commit({ labels: { changed: "new", added: "2" } });
    assert.deepEqual(second.labels, { kept: "1", changed: "new", added: "2" });
    assert.equal(second.createdAtMs, first.createdAtMs);
    assert.deepEqual(await store.totals(), { blobs: 1, sizeBytes: 4 });
    const known = store.writer("a", { ref: "known", expected: first.digest });
    await assert.rejects(known, fails("ALREADY_EXISTS", "CONTENT_EXISTS"));
    assert.deepEqual(await store.listStatuses("a"), []);
  },

  async "commits one digest from many refs and namespaces at once"(store) {
    const bytes = randomBytes(300_000);
    const digest = digestOf(bytes);
    const commit = async (namespace: string, ref: string): Promise<void> => {
      await using writer = await store.writer(namespace, { ref });
      await writer.write(bytes);
      await writer.commit({ digest });
    };
    await Promise.all(["a", "a", "a", "b", "b", "c"].map((namespace, n) => commit(namespace, `r${n}`)));
    for (const namespace of ["a", "b", "c"]) {
      assert.deepEqual(Buffer.from(await store.readAll(namespace, digest)), bytes);
      assert.deepEqual(await store.listStatuses(namespace), []);
    }
    assert.deepEqual(await store.totals(), { blobs: 1, sizeBytes: bytes.length });
  },

  async "survives commits and deletions of one digest that race"(store) {
    const bytes = randomBytes(10_000);
    const digest = digestOf(bytes);
    const cycle = async (namespace: string): Promise<void> => {
      for (let n = 0; n < 12; n += 1) {
        await put(store, namespace, bytes);
        assert.deepEqual(Buffer.from(await store.readAll(namespace, digest)), bytes);
        await store.delete(namespace, digest);
      }
    };
    await Promise.all(["a", "b", "c"].map(cycle));
    assert.deepEqual(await store.totals(), { blobs: 0, sizeBytes: 0 });
    await put(store, "a", bytes);
    assert.deepEqual(Buffer.from(await store.readAll("a", digest)), bytes);
  },

  async "commits an empty blob and a sha512 one"(store) {
    await using empty = await store.writer("a", { ref: "empty" });
    assert.equal((await empty.commit({ sizeBytes: 0 })).digest, digestOf(""));
    assert.equal((await store.readAll("a", digestOf(""))).length, 0);
    const sha512 = `sha512:${createHash("sha512").update("long").digest("hex")}` as Digest;
    await using long = await store.writer("a", { ref: "long", expected: sha512 });
    await long.write(Buffer.from("long"));
    const info = await long.commit({ computed: { digest: digestOf("long"), sizeBytes: 4 } });
    assert.equal(info.digest, sha512);
    assert.equal(await store.has("a", digestOf("long")), false);
  },

  async "commits a blob of several megabytes written in odd chunks"(store) {
    const bytes = randomBytes(5 * 1024 * 1024 + 13);
    await using writer = await store.writer("a", { ref: "big" });
    for (let at = 0, n = 1; at < bytes.length; n = (n * 7 + 3) % 99_991) {
      await writer.write(bytes.subarray(at, at + n));
      at += n;
    }
    const info = await writer.commit({ digest: digestOf(bytes) });
    assert.equal(info.sizeBytes, bytes.length);
    assert.equal(digestOf(await store.readAll("a", info.digest)), info.digest);
  },
};
