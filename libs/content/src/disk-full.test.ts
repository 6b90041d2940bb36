import assert from "node:assert/strict";
import { rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { digestOf, hasCode } from "@berth/base";
import { openMetadata } from "@berth/metadata";
import { noTinyDisk, temporaryMetadata, tinyDisk } from "@berth/metadata/testing";
import type { IngestWriter } from "./content.ts";
import { contentMigrations, openContentStore } from "./index.ts";
import { fails } from "./testing/checks.ts";

const MIB = 1024 * 1024;

test(
  "write takes a chunk whole or not at all when the disk is full, and goes on later",
  { skip: noTinyDisk },
  async () => {
    await using disk = await tinyDisk(2 * MIB);
    await using metadata = await temporaryMetadata(contentMigrations);
    await using store = await openContentStore({ root: join(disk.folder, "content"), metadata });
    const ballast = join(disk.folder, "ballast");
    await writeFile(ballast, Buffer.alloc(MIB));
    await using writer = await store.writer("a", { ref: "r" });
    const chunk = Buffer.alloc(300_001, "chunk ");
    const written = await writeUntilFull(writer, chunk);
    assert.ok(written > 0);
    assert.equal((await writer.status()).offsetBytes, written * chunk.length);
    await rm(ballast);
    await writer.write(chunk);
    const whole = Buffer.concat(Array.from({ length: written + 1 }, () => chunk));
    assert.equal((await writer.commit({ digest: digestOf(whole) })).sizeBytes, whole.length);
  },
);

test("commit can be tried again when the rows found the disk full", { skip: noTinyDisk }, async () => {
  await using disk = await tinyDisk(2 * MIB);
  await using files = await temporaryMetadata([]);
  const path = join(disk.folder, "metadata.db");
  await using metadata = await openMetadata({ path, migrations: contentMigrations });
  await using store = await openContentStore({ root: join(files.folder, "content"), metadata });
  await using writer = await store.writer("a", { ref: "r" });
  await writer.write(Buffer.from("patience"));
  const ballast = join(disk.folder, "ballast");
  await assert.rejects(writeFile(ballast, Buffer.alloc(4 * MIB)), { code: "ENOSPC" });
  await assert.rejects(writer.commit({}), fails("RESOURCE_EXHAUSTED", "METADATA_DISK_FULL"));
  assert.equal(await store.has("a", digestOf("patience")), false);
  await rm(ballast);
  await writer.write(Buffer.from("!"));
  assert.equal((await writer.commit({})).digest, digestOf("patience!"));
  const nothing = {
    lost: [],
    orphanBlobs: 0,
    returnedBlobs: 0,
    finishedDeletions: 0,
    brokenIngests: 0,
    expiredIngests: 0,
  };
  assert.deepEqual(await store.recover(), nothing);
});

async function writeUntilFull(writer: IngestWriter, chunk: Uint8Array): Promise<number> {
  for (let written = 0; ; written += 1) {
    try {
      await writer.write(chunk);
    } catch (error) {
      assert.ok(hasCode(error, "RESOURCE_EXHAUSTED") && error.reason === "CONTENT_DISK_FULL", String(error));
      return written;
    }
  }
}
