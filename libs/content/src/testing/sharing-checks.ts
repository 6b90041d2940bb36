/** Who gets a blob by naming its digest, under each policy. */
import assert from "node:assert/strict";
import { digestOf } from "@berth/base";
import type { ContentStore } from "../content.ts";
import { fails, MISSING, put, type Suite } from "./checks.ts";

const SECRET = digestOf("secret");

async function text(store: ContentStore, namespace: string): Promise<string> {
  return Buffer.from(await store.readAll(namespace, SECRET)).toString();
}

async function assertSuppliesAll(store: ContentStore, from: string, to: string): Promise<void> {
  await put(store, from, "secret");
  assert.equal(await store.grant(to, SECRET), false);
  await using writer = await store.writer(to, { ref: "r", expected: SECRET, totalBytes: 6 });
  assert.equal((await writer.status()).offsetBytes, 0);
  assert.equal(await store.has(to, SECRET), false);
  await writer.write(Buffer.from("secret"));
  await writer.commit({});
  assert.equal(await text(store, to), "secret");
}

export const ISOLATED: Suite = {
  async "gives nobody a blob for its name: all bytes must be supplied"(store) {
    await assertSuppliesAll(store, "a", "b");
    assert.equal((await store.totals()).blobs, 1);
  },
};

export const SHARED: Suite = {
  async "gives a blob to who opens a writer for it, without bytes"(store) {
    await put(store, "a", "secret", { owner: "a" });
    await using writer = await store.writer("b", { ref: "r", expected: SECRET });
    const { offsetBytes, totalBytes, expected } = await writer.status();
    assert.deepEqual([offsetBytes, totalBytes, expected], [6, 6, SECRET]);
    assert.equal(await store.has("b", SECRET), false, "before the commit");
    const info = await writer.commit({ sizeBytes: 6, digest: SECRET, labels: { owner: "b" } });
    assert.deepEqual([info.digest, info.sizeBytes, info.labels], [SECRET, 6, { owner: "b" }]);
    assert.equal(await text(store, "b"), "secret");
    assert.deepEqual(await store.listStatuses("b"), []);
    await assert.rejects(writer.commit({}), fails("FAILED_PRECONDITION", "INGEST_ENDED"));
    await using _again = await store.writer("b", { ref: "r" });
  },

  async "leaves nothing of a granted writer that was given up"(store) {
    await put(store, "a", "secret");
    const writer = await store.writer("b", { ref: "r", expected: SECRET });
    await writer[Symbol.asyncDispose]();
    await writer[Symbol.asyncDispose]();
    assert.deepEqual(await store.listStatuses("b"), []);
    assert.equal(await store.has("b", SECRET), false);
  },

  async "lets a writer supply or spoil the bytes all the same"(store) {
    await put(store, "a", "secret");
    await using anew = await store.writer("b", { ref: "r", expected: SECRET });
    await anew.truncate(0);
    assert.equal((await anew.status()).offsetBytes, 0);
    await anew.write(Buffer.from("secret"));
    await anew.commit({});
    assert.equal(await text(store, "b"), "secret");
    await using more = await store.writer("c", { ref: "r", expected: SECRET });
    await more.write(Buffer.from("!"));
    assert.equal((await more.status()).offsetBytes, 7);
    await assert.rejects(more.commit({}), fails("FAILED_PRECONDITION", "CONTENT_DIGEST_MISMATCH"));
    assert.equal(await store.has("c", SECRET), false);
  },

  async "refuses a commit of something else than was granted"(store) {
    await put(store, "a", "secret");
    await using writer = await store.writer("b", { ref: "r", expected: SECRET });
    await assert.rejects(writer.commit({ digest: MISSING }), fails("FAILED_PRECONDITION", "CONTENT_DIGEST_MISMATCH"));
    await assert.rejects(writer.commit({ sizeBytes: 5 }), fails("FAILED_PRECONDITION", "CONTENT_SIZE_MISMATCH"));
    assert.equal(await store.has("b", SECRET), false);
    await writer.commit({});
  },

  async "commits nothing when the granted blob has gone meanwhile"(store) {
    await put(store, "a", "secret");
    await using writer = await store.writer("b", { ref: "r", expected: SECRET });
    await store.delete("a", SECRET);
    await assert.rejects(writer.commit({}), fails("FAILED_PRECONDITION", "CONTENT_DIGEST_MISMATCH"));
    assert.equal(await store.physical(SECRET), undefined);
  },

  async "grants what is there and nothing else"(store) {
    await put(store, "a", "secret");
    assert.equal(await store.grant("b", SECRET, { owner: "b" }), true);
    assert.deepEqual((await store.info("b", SECRET)).labels, { owner: "b" });
    assert.equal(await store.grant("b", MISSING), false);
    await using other = await store.writer("c", { ref: "r", expected: SECRET, totalBytes: 7 });
    assert.equal((await other.status()).offsetBytes, 0, "of another size, so it is something else");
  },
};

/** With a store where namespace a is shareable. */
export const SHAREABLE: Suite = {
  async "gives the blobs of a shareable namespace to all"(store) {
    await put(store, "a", "secret");
    await using writer = await store.writer("b", { ref: "r", expected: SECRET });
    assert.equal((await writer.status()).offsetBytes, 6);
    await writer.commit({});
    assert.equal(await text(store, "b"), "secret");
  },

  async "gives no blob of the others, not even to a shareable namespace"(store) {
    await assertSuppliesAll(store, "b", "a");
  },
};
