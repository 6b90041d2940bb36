/** Committed blobs: reading, labels, who sees them, and the files they are. */
import assert from "node:assert/strict";
import { appendFile, readFile, stat } from "node:fs/promises";
import { digestOf, type Digest } from "@berth/base";
import { digests, fails, MISSING, offset, put, type Suite } from "./checks.ts";

export const BLOBS: Suite = {
  async "reads at any offset, shorter only at the end, nothing past it"(store) {
    const { digest } = await put(store, "a", "0123456789");
    await using reader = await store.reader("a", digest);
    assert.equal(reader.sizeBytes, 10);
    const read = async (at: number, length: number): Promise<string> =>
      Buffer.from(await reader.read(at, length)).toString();
    assert.deepEqual(
      [await read(0, 4), await read(3, 4), await read(7, 99), await read(0, 10)],
      ["0123", "3456", "789", "0123456789"],
    );
    assert.deepEqual([await read(10, 1), await read(99, 5), await read(2, 0)], ["", "", ""]);
    for (const [at, length] of [
      [-1, 1],
      [0.5, 1],
      [0, -1],
    ] as const) {
      await assert.rejects(reader.read(at, length), fails("OUT_OF_RANGE", "CONTENT_RANGE"));
    }
  },

  async "reads a whole blob unless it is larger than allowed"(store) {
    const { digest } = await put(store, "a", "0123456789");
    assert.equal(Buffer.from(await store.readAll("a", digest, 10)).toString(), "0123456789");
    await assert.rejects(store.readAll("a", digest, 9), fails("RESOURCE_EXHAUSTED", "CONTENT_TOO_LARGE"));
  },

  async "keeps a reader readable when its blob is deleted"(store) {
    const { digest } = await put(store, "a", "still here");
    await using reader = await store.reader("a", digest);
    await store.delete("a", digest);
    assert.equal(Buffer.from(await reader.read(0, 99)).toString(), "still here");
  },

  async "replaces labels"(store) {
    const info = await put(store, "a", "x", { one: "1", two: "2" });
    const updated = await store.update("a", info.digest, { two: "zwei", "containerd.io/gc.ref.content.0": MISSING });
    assert.deepEqual(updated.labels, { two: "zwei", "containerd.io/gc.ref.content.0": MISSING });
    assert.equal(updated.createdAtMs, info.createdAtMs);
    assert.deepEqual(await store.info("a", info.digest), updated);
  },

  async "walks everything of a namespace once, in the order of the digests"(store) {
    const made: Digest[] = [];
    for (let n = 0; n < 7; n += 1) made.push((await put(store, "a", `blob ${n}`)).digest);
    await put(store, "b", "another's");
    assert.deepEqual(await digests(store, "a"), made.sort());
    assert.deepEqual(await digests(store, "none"), []);
  },

  async "says of what is missing that it is missing"(store) {
    assert.equal(await store.has("a", MISSING), false);
    const missing = fails("NOT_FOUND", "CONTENT_MISSING");
    await assert.rejects(store.info("a", MISSING), missing);
    await assert.rejects(store.update("a", MISSING, {}), missing);
    await assert.rejects(store.delete("a", MISSING), missing);
    await assert.rejects(store.reader("a", MISSING), missing);
    await assert.rejects(store.readAll("a", MISSING), missing);
    await assert.rejects(store.path("a", MISSING), missing);
  },

  async "refuses every call once disposed"(store) {
    await put(store, "a", "x");
    await store[Symbol.asyncDispose]();
    const closed = fails("UNAVAILABLE", "CONTENT_CLOSED");
    await assert.rejects(store.info("a", MISSING), closed);
    await assert.rejects(store.writer("a", { ref: "r" }), closed);
    await assert.rejects(store.share("a", MISSING), closed);
  },
};

export const NAMESPACES: Suite = {
  async "hides a namespace's content from the others until it is shared"(store) {
    const { digest } = await put(store, "a", "secret", { owner: "a" });
    const missing = fails("NOT_FOUND", "CONTENT_MISSING");
    assert.equal(await store.has("b", digest), false);
    await assert.rejects(store.info("b", digest), missing);
    await assert.rejects(store.reader("b", digest), missing);
    await assert.rejects(store.readAll("b", digest), missing);
    await assert.rejects(store.path("b", digest), missing);
    await assert.rejects(store.update("b", digest, {}), missing);
    await assert.rejects(store.delete("b", digest), missing);
    assert.deepEqual(await digests(store, "b"), []);
    assert.equal(await store.physical(digest), 6);
    assert.equal(await store.physical(digest, "owner"), 6);
    assert.equal(await store.physical(digest, "own"), undefined);
    const shared = await store.share("b", digest, { owner: "b" });
    assert.deepEqual([shared.sizeBytes, shared.labels], [6, { owner: "b" }]);
    assert.equal(Buffer.from(await store.readAll("b", digest)).toString(), "secret");
    assert.deepEqual((await store.info("a", digest)).labels, { owner: "a" });
  },

  async "shares only what the store holds"(store) {
    await assert.rejects(store.share("b", MISSING), fails("NOT_FOUND", "CONTENT_MISSING"));
    assert.equal(await store.physical(MISSING), undefined);
    assert.deepEqual(await digests(store, "b"), []);
  },

  async "opens a writer for what only another namespace has"(store) {
    const { digest } = await put(store, "a", "bytes");
    await using writer = await store.writer("b", { ref: "r", expected: digest });
    await assert.rejects(writer.commit({}), fails("FAILED_PRECONDITION", "CONTENT_DIGEST_MISMATCH"));
    assert.equal(await store.has("b", digest), false, "a namespace must supply all bytes itself");
  },

  async "keeps the bytes until the last reference goes"(store) {
    const { digest } = await put(store, "a", "common");
    await store.share("b", digest);
    await store.delete("a", digest);
    assert.equal(await store.has("a", digest), false);
    assert.equal(Buffer.from(await store.readAll("b", digest)).toString(), "common");
    await store.delete("b", digest);
    assert.equal(await store.physical(digest), undefined);
    assert.deepEqual(await store.totals(), { blobs: 0, sizeBytes: 0 });
    await put(store, "a", "common");
    assert.equal(Buffer.from(await store.readAll("a", digest)).toString(), "common");
  },
};

export const FILES: Suite = {
  async "takes what another thread appended to dataPath, with the digest it computed"(store) {
    await using writer = await store.writer("a", { ref: "r" });
    await writer.write(Buffer.from("main, "));
    await appendFile(writer.dataPath, "worker");
    assert.equal(await offset(writer), 12);
    await writer.commit({ computed: { digest: digestOf("main, worker"), sizeBytes: 12 } });
    assert.equal(Buffer.from(await store.readAll("a", digestOf("main, worker"))).toString(), "main, worker");
  },

  async "gives the path of a read-only file of exactly the blob's bytes"(store) {
    const { digest } = await put(store, "a", "on disk");
    const path = await store.path("a", digest);
    assert.equal(await readFile(path, "utf8"), "on disk");
    assert.equal((await stat(path)).mode & 0o777, 0o444);
    await store.delete("a", digest);
    await assert.rejects(stat(path), { code: "ENOENT" });
  },
};
