import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { digestOf } from "@berth/base";
import { Hasher } from "./hasher.ts";
import { fails } from "./testing/checks.ts";

test("Hasher hashes small files here and large ones in few threads, which end with it", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "berth-hasher-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const hasher = new Hasher();
  const small = join(folder, "small");
  await writeFile(small, "small");
  assert.deepEqual(await hasher.hash(small, 5, "sha256"), { digest: digestOf("small"), sizeBytes: 5 });
  assert.equal(hasher.threads, 0);
  const files = Array.from({ length: 6 }, (_, n) => ({
    path: join(folder, `${n}`),
    bytes: Buffer.alloc(1_500_000 + n, n),
  }));
  for (const { path, bytes } of files) await writeFile(path, bytes);
  const hashed = await Promise.all(files.map(({ path, bytes }) => hasher.hash(path, bytes.length, "sha256")));
  assert.deepEqual(
    hashed,
    files.map(({ bytes }) => ({ digest: digestOf(bytes), sizeBytes: bytes.length })),
  );
  assert.ok(hasher.threads <= 2);
  const { digest } = await hasher.hash(files[0]!.path, 1_500_000, "sha512");
  assert.equal(digest, `sha512:${createHash("sha512").update(files[0]!.bytes).digest("hex")}`);
  await assert.rejects(hasher.hash(join(folder, "none"), 1_000_000, "sha256"), fails("NOT_FOUND", "ENOENT"));
  assert.equal((await hasher.hash(files[1]!.path, 1_500_001, "sha256")).sizeBytes, 1_500_001);
  await hasher[Symbol.asyncDispose]();
  assert.equal(hasher.threads, 0);
});
