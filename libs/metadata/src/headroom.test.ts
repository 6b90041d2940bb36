import assert from "node:assert/strict";
import { statfsSync, writeFileSync, appendFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { openMetadata, type Metadata } from "./index.ts";
import { noTinyDisk, tinyDisk } from "./testing/index.ts";

const MIB = 1024 * 1024;
const migrations = [
  { name: "test-0001", sql: "CREATE TABLE log (id INTEGER PRIMARY KEY, what TEXT NOT NULL) STRICT;" },
];

void test("headroom lets rows be written on a disk that is full to the last page", { skip: noTinyDisk }, async () => {
  await using disk = await tinyDisk(32 * MIB);
  const path = join(disk.folder, "metadata.db");
  await using metadata = await openMetadata({ path, migrations, headroomBytes: 4 * MIB });
  fillUp(disk.folder);
  for (let round = 0; round < 40; round += 1) await append(metadata, 50);
  await metadata.transact([{ sql: "DELETE FROM log WHERE id % 2 = 0" }]);
  assert.equal(statfsSync(disk.folder).bavail, 0);
  assert.equal(metadata.all("SELECT id FROM log").length, 1000);
});

void test("headroom is there again after a restart on a full disk", { skip: noTinyDisk }, async () => {
  await using disk = await tinyDisk(32 * MIB);
  const path = join(disk.folder, "metadata.db");
  {
    await using first = await openMetadata({ path, migrations, headroomBytes: 4 * MIB });
    await append(first, 10);
  }
  // Closed, the log is folded into the file and gone; only its pages are kept.
  await using metadata = await openMetadata({ path, migrations, headroomBytes: 4 * MIB });
  fillUp(disk.folder);
  for (let round = 0; round < 20; round += 1) await append(metadata, 50);
  assert.equal(metadata.all("SELECT id FROM log").length, 1010);
});

void test("headroom that cannot be made does not keep the file from opening", { skip: noTinyDisk }, async () => {
  await using disk = await tinyDisk(3 * MIB);
  const path = join(disk.folder, "metadata.db");
  await using metadata = await openMetadata({ path, migrations, headroomBytes: 4 * MIB });
  await append(metadata, 1);
  fillUp(disk.folder);
  await assert.rejects(
    async () => {
      for (let round = 0; round < 40; round += 1) await append(metadata, 50);
    },
    { reason: "METADATA_DISK_FULL" },
  );
  await rm(join(disk.folder, "filler"));
  await append(metadata, 1);
});

async function append(metadata: Metadata, rows: number): Promise<void> {
  const what = "x".repeat(300);
  await metadata.transact(
    Array.from({ length: rows }, () => ({ sql: "INSERT INTO log (what) VALUES (?)", params: [what] })),
  );
}

/** Takes every block there is. */
function fillUp(folder: string): void {
  const path = join(folder, "filler");
  writeFileSync(path, "");
  for (const bytes of [MIB, 4096]) {
    const piece = Buffer.alloc(bytes, 1);
    for (;;) {
      try {
        appendFileSync(path, piece);
      } catch {
        break;
      }
    }
  }
}
