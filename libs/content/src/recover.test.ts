import assert from "node:assert/strict";
import { appendFile, chmod, mkdir, readdir, rename, rm, truncate, utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { digestHex, digestOf, systemClock, type Clock, type Digest } from "@berth/base";
import { temporaryMetadata, type TemporaryMetadata } from "@berth/metadata/testing";
import { auditContent, contentMigrations, openContentStore, type FileContentStore } from "./index.ts";
import { fails } from "./testing/checks.ts";

interface Bench extends AsyncDisposable {
  readonly metadata: TemporaryMetadata;
  readonly store: FileContentStore;
  readonly root: string;
  blob(digest: Digest): string;
  put(namespace: string, text: string): Promise<Digest>;
}

async function openBench(clock: Clock = systemClock): Promise<Bench> {
  const metadata = await temporaryMetadata(contentMigrations);
  const root = join(metadata.folder, "content");
  const store = await openContentStore({ root, metadata, clock }, { ingestTtlMs: 60_000 });
  return {
    metadata,
    store,
    root,
    blob: (digest) => join(root, "blobs/sha256", digestHex(digest)),
    async put(namespace, text) {
      await using writer = await store.writer(namespace, { ref: digestOf(text) });
      await writer.write(Buffer.from(text));
      return (await writer.commit({})).digest;
    },
    async [Symbol.asyncDispose]() {
      await store[Symbol.asyncDispose]();
      await metadata[Symbol.asyncDispose]();
    },
  };
}

const NOTHING = {
  lost: [],
  orphanBlobs: 0,
  returnedBlobs: 0,
  finishedDeletions: 0,
  brokenIngests: 0,
  expiredIngests: 0,
};

test("recover leaves a sound store alone, writers included", async () => {
  await using bench = await openBench();
  const digest = await bench.put("a", "sound");
  await using writer = await bench.store.writer("a", { ref: "busy" });
  await writer.write(Buffer.from("going on"));
  assert.deepEqual(await bench.store.recover(), NOTHING);
  assert.equal((await writer.commit({})).digest, digestOf("going on"));
  assert.ok(await bench.store.has("a", digest));
});

test("recover removes blobs without a row, and what is no blob at all", async () => {
  await using bench = await openBench();
  const digest = await bench.put("a", "kept");
  const sound = { blobs: 1, lost: [], orphanFiles: [], brokenIngests: [] };
  assert.deepEqual(await auditContent(bench.root, bench.metadata), sound);
  await writeFile(bench.blob(digestOf("orphan")), "orphan");
  await writeFile(join(bench.root, "blobs/sha512/junk"), "");
  await mkdir(join(bench.root, "blobs/sha256/folder/in"), { recursive: true });
  assert.equal((await auditContent(bench.root, bench.metadata)).orphanFiles.length, 3);
  assert.deepEqual(await bench.store.recover(), { ...NOTHING, orphanBlobs: 3 });
  assert.deepEqual(await auditContent(bench.root, bench.metadata), sound);
  assert.deepEqual(await readdir(join(bench.root, "blobs/sha256")), [digestHex(digest)]);
});

test("recover finishes a deletion that was cut off before or after the unlink", async () => {
  await using bench = await openBench();
  const [before, after] = [await bench.put("a", "before"), await bench.put("a", "after")];
  await bench.metadata.transact([{ sql: "DELETE FROM blob_refs" }, { sql: "UPDATE blobs SET state = 'dead'" }]);
  await rm(bench.blob(after));
  assert.equal(await bench.store.physical(before), undefined);
  await assert.rejects(bench.store.share("b", before), fails("NOT_FOUND", "CONTENT_MISSING"));
  assert.deepEqual(await bench.store.recover(), { ...NOTHING, finishedDeletions: 2 });
  assert.deepEqual(bench.metadata.all("SELECT * FROM blobs"), []);
  assert.deepEqual(await readdir(join(bench.root, "blobs/sha256")), []);
});

test("commit revives a blob whose deletion was cut off", async () => {
  await using bench = await openBench();
  const digest = await bench.put("a", "phoenix");
  await bench.metadata.transact([{ sql: "DELETE FROM blob_refs" }, { sql: "UPDATE blobs SET state = 'dead'" }]);
  assert.equal(await bench.put("b", "phoenix"), digest);
  assert.deepEqual(await bench.store.recover(), NOTHING);
  assert.equal(Buffer.from(await bench.store.readAll("b", digest)).toString(), "phoenix");
});

test("recover reports and drops rows whose bytes are gone, for every namespace", async () => {
  await using bench = await openBench();
  const [missing, short] = [await bench.put("a", "missing"), await bench.put("a", "too short")];
  await bench.store.share("b", missing);
  await rm(bench.blob(missing));
  await truncate(bench.blob(short), 3);
  await assert.rejects(bench.store.reader("a", missing), fails("DATA_LOSS", "CONTENT_LOST"));
  await assert.rejects(bench.store.reader("a", short), fails("DATA_LOSS", "CONTENT_LOST"));
  const audited = (await auditContent(bench.root, bench.metadata)).lost.map(({ what }) => what);
  assert.deepEqual(audited.toSorted(), ["missing", "wrong size"]);
  const { lost, ...rest } = await bench.store.recover();
  assert.deepEqual(
    lost.toSorted((x, y) => x.what.localeCompare(y.what)),
    [
      { digest: missing, what: "missing", namespaces: ["a", "b"] },
      { digest: short, what: "wrong size", namespaces: ["a"] },
    ],
  );
  assert.deepEqual({ lost: [], ...rest }, NOTHING);
  assert.deepEqual(await bench.store.totals(), { blobs: 0, sizeBytes: 0 });
  assert.equal(await bench.put("a", "missing"), missing);
});

test("commit puts right a blob whose file is damaged", async () => {
  await using bench = await openBench();
  const digest = await bench.put("a", "to be mended");
  await truncate(bench.blob(digest), 2);
  await bench.put("b", "to be mended");
  assert.equal(Buffer.from(await bench.store.readAll("a", digest)).toString(), "to be mended");
});

test("recover drops ingests that have only a row or only a folder", async () => {
  await using bench = await openBench();
  for (const ref of ["no folder", "no data", "whole"]) {
    const writer = await bench.store.writer("a", { ref });
    await writer.write(Buffer.from(ref));
    const { dataPath } = writer;
    await writer[Symbol.asyncDispose]();
    if (ref === "no folder") await rm(join(dataPath, ".."), { recursive: true });
    if (ref === "no data") await rm(dataPath);
  }
  await mkdir(join(bench.root, "ingest/nobody"));
  await writeFile(join(bench.root, "ingest/nobody/data"), "x");
  assert.equal((await auditContent(bench.root, bench.metadata)).brokenIngests.length, 3);
  assert.deepEqual(await bench.store.recover(), { ...NOTHING, brokenIngests: 3 });
  const refs = (await bench.store.listStatuses("a")).map(({ ref }) => ref);
  assert.deepEqual(refs, ["whole"]);
  assert.equal((await readdir(join(bench.root, "ingest"))).length, 1);
});

test("dropExpiredIngests drops what nobody has written to for its time to live", async () => {
  // A clock ahead of the files' times makes both ingests old, but for the one whose file says otherwise.
  const ahead: Clock = { ...systemClock, nowMs: () => Date.now() + 30_000 };
  await using bench = await openBench(ahead);
  const later: Clock = { ...systemClock, nowMs: () => Date.now() + 120_000 };
  for (const ref of ["old", "fresh", "busy"]) {
    const writer = await bench.store.writer("a", { ref });
    await writer.write(Buffer.from(ref));
    if (ref === "fresh") await utimes(writer.dataPath, later.nowMs() / 1_000, later.nowMs() / 1_000);
    if (ref !== "busy") await writer[Symbol.asyncDispose]();
  }
  assert.equal(await bench.store.dropExpiredIngests(), 0);
  await using reopened = await openContentStore(
    { root: bench.root, metadata: bench.metadata, clock: later },
    { ingestTtlMs: 60_000 },
  );
  await using _busy = await reopened.writer("a", { ref: "busy" });
  assert.equal(await reopened.dropExpiredIngests(), 1);
  const refs = (await reopened.listStatuses("a")).map(({ ref }) => ref);
  assert.deepEqual(refs, ["busy", "fresh"]);
});

test("verify tells a sound blob from a changed and from a missing one", async () => {
  await using bench = await openBench();
  const large = "x".repeat(700_000);
  const digest = await bench.put("a", large);
  assert.deepEqual(await bench.store.verify(digest), { ok: true, sizeBytes: large.length });
  await chmod(bench.blob(digest), 0o644);
  await appendFile(bench.blob(digest), "y");
  const changed = { ok: false, actual: digestOf(`${large}y`), sizeBytes: large.length + 1 };
  assert.deepEqual(await bench.store.verify(digest), changed);
  await rm(bench.blob(digest));
  assert.deepEqual(await bench.store.verify(digest), { ok: false, actual: undefined, sizeBytes: 0 });
  await assert.rejects(bench.store.verify(digestOf("never")), fails("NOT_FOUND", "CONTENT_MISSING"));
});

test("recover gives a blob without a row back to the ingest that expects it, whose commit hashes it", async () => {
  for (const bytes of ["as promised", "as damaged!"]) {
    await using bench = await openBench();
    const digest = digestOf("as promised");
    const options = { ref: "layer", expected: digest, totalBytes: 11 };
    const writer = await bench.store.writer("a", options);
    await writer.write(Buffer.from(bytes));
    const { dataPath } = writer;
    await writer[Symbol.asyncDispose]();
    // A crash after the rename and before the transaction.
    await rename(dataPath, bench.blob(digest));
    assert.deepEqual(await bench.store.recover(), { ...NOTHING, returnedBlobs: 1 });
    assert.deepEqual(await bench.store.recover(), NOTHING);
    assert.equal(await bench.store.has("a", digest), false);
    await using again = await bench.store.writer("a", options);
    assert.equal((await again.status()).offsetBytes, 11);
    if (bytes === "as promised") assert.equal((await again.commit({})).digest, digest);
    else await assert.rejects(again.commit({}), fails("FAILED_PRECONDITION", "CONTENT_DIGEST_MISMATCH"));
  }
});

test("dropExpiredIngests leaves what a lease holds", async () => {
  const later: Clock = { ...systemClock, nowMs: () => Date.now() + 120_000 };
  await using bench = await openBench();
  for (const lease of [undefined, "l1"]) {
    const held = lease === undefined ? {} : { lease };
    await using writer = await bench.store.writer("a", { ref: lease ?? "free", ...held });
    await writer.write(Buffer.from("old"));
  }
  const { root, metadata } = bench;
  await using reopened = await openContentStore({ root, metadata, clock: later }, { ingestTtlMs: 60_000 });
  assert.equal(await reopened.dropExpiredIngests(), 1);
  assert.deepEqual(
    (await reopened.listStatuses("a")).map(({ ref }) => ref),
    ["l1"],
  );
  await reopened.releaseLease("a", "l1");
  assert.deepEqual(await reopened.listStatuses("a"), []);
});

test("mender replaces a blob whose bytes changed, for all who see it", async () => {
  await using bench = await openBench();
  const digest = await bench.put("a", "precious");
  await bench.store.share("b", digest);
  await chmod(bench.blob(digest), 0o644);
  await writeFile(bench.blob(digest), "precioux");
  await using before = await bench.store.reader("b", digest);
  await using wrong = await bench.store.mender("a", digest);
  await wrong.write(Buffer.from("preciouy"));
  await assert.rejects(wrong.commit({}), fails("FAILED_PRECONDITION", "CONTENT_DIGEST_MISMATCH"));
  await using mender = await bench.store.mender("a", digest);
  await mender.write(Buffer.from("precious"));
  await mender.commit({});
  assert.deepEqual(await bench.store.verify(digest), { ok: true, sizeBytes: 8 });
  assert.equal(Buffer.from(await bench.store.readAll("b", digest)).toString(), "precious");
  assert.equal(Buffer.from(await before.read(0, 8)).toString(), "precioux", "an open reader keeps what it opened");
  await assert.rejects(bench.store.mender("c", digest), fails("NOT_FOUND", "CONTENT_MISSING"));
  assert.deepEqual(bench.store.held("", 10), [{ digest, sizeBytes: 8, state: "live" }]);
  assert.deepEqual(bench.store.namespacesOf(digest), ["a", "b"]);
});

test("verify reads no faster than it may, and stops when told", async () => {
  await using bench = await openBench();
  const digest = await bench.put("a", "x".repeat(2 * 1024 * 1024));
  const start = performance.now();
  assert.ok((await bench.store.verify(digest, { rateBytesPerSecond: 8 * 1024 * 1024 })).ok);
  assert.ok(performance.now() - start > 200, "two megabytes at eight a second");
  const slow = bench.store.verify(digest, { rateBytesPerSecond: 1_000, signal: AbortSignal.timeout(20) });
  await assert.rejects(slow, { code: "DEADLINE_EXCEEDED" });
});
