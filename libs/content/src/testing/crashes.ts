/** What the tests that kill a writing process, or cut its power, have in common. */
import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { parseDigest, type Digest } from "@berth/base";
import { openMetadata } from "@berth/metadata";
import { contentMigrations, openContentStore, type FileContentStore } from "../index.ts";

const CHILD = new URL("./crash-child.ts", import.meta.url).pathname;

/** What lives of the child have said so far. */
export class Ledger {
  /** Committed, as far as was heard, and not known to be deleted. */
  readonly kept = new Set<Digest>();
  /** Its deletion had begun. */
  readonly deleting = new Set<Digest>();

  hear(line: string): void {
    const [what, digest] = line.split(" ");
    if (what === "commit") this.kept.add(parseDigest(digest!));
    if (what === "deleting") this.deleting.add(parseDigest(digest!));
  }

  /** @throws if something that was committed is not present. */
  settle(present: ReadonlySet<Digest>, when: string): void {
    for (const digest of this.kept) {
      if (present.has(digest)) continue;
      assert.ok(this.deleting.has(digest), `${digest} was committed and is gone after ${when}`);
      this.kept.delete(digest);
    }
    this.deleting.clear();
  }
}

/** Runs the child until it has said `lines` lines, then ends it by `end`; what it said goes into the ledger. */
export async function runUntil(
  folder: string,
  seed: number,
  lines: number,
  ledger: Ledger,
  end: (child: ChildProcess) => Promise<void>,
): Promise<void> {
  const child = spawn(process.execPath, [CHILD, folder, String(seed)], { stdio: ["ignore", "pipe", "inherit"] });
  const ended = once(child, "exit");
  let seen = 0;
  let ending: Promise<void> | undefined;
  for await (const line of createInterface({ input: child.stdout })) {
    ledger.hear(line);
    seen += 1;
    if (seen === lines) ending = end(child);
  }
  await ending;
  const [, signal] = (await ended) as [number | null, string | null];
  assert.equal(signal, "SIGKILL", "the child ended by itself");
}

/** Recovers the store of a dead child: nothing lost, files and rows agree, all bytes are right, ingests go on. */
export async function recoverAndCheck(folder: string): Promise<Set<Digest>> {
  await using metadata = await openMetadata({ path: join(folder, "metadata.db"), migrations: contentMigrations });
  assert.equal(metadata.get("PRAGMA integrity_check")?.["integrity_check"], "ok");
  await using store = await openContentStore({ root: join(folder, "content"), metadata });
  assert.deepEqual((await store.recover()).lost, [], "bytes that a row speaks of are gone");
  const nothing = {
    lost: [],
    orphanBlobs: 0,
    returnedBlobs: 0,
    finishedDeletions: 0,
    brokenIngests: 0,
    expiredIngests: 0,
  };
  assert.deepEqual(await store.recover(), nothing);
  const present = await verifyAll(store);
  const files = (await readdir(join(folder, "content/blobs/sha256"))).map((hex) => parseDigest(`sha256:${hex}`));
  assert.deepEqual(new Set(files), present);
  await resumeOne(store);
  return present;
}

async function verifyAll(store: FileContentStore): Promise<Set<Digest>> {
  const present = new Set<Digest>();
  for await (const { digest, sizeBytes } of store.walk("crash")) {
    assert.deepEqual(await store.verify(digest), { ok: true, sizeBytes });
    present.add(digest);
  }
  return present;
}

/** What the child was writing can be gone on with. */
async function resumeOne(store: FileContentStore): Promise<void> {
  const [ingest] = await store.listStatuses("crash");
  if (ingest === undefined) return;
  await using writer = await store.writer("crash", { ref: ingest.ref });
  assert.equal((await writer.status()).offsetBytes, ingest.offsetBytes);
  await writer.write(Buffer.from("the rest"));
  const info = await writer.commit({ sizeBytes: ingest.offsetBytes + 8 });
  assert.deepEqual(await store.verify(info.digest), { ok: true, sizeBytes: info.sizeBytes });
  await store.delete("crash", info.digest);
}
