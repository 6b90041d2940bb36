/**
 * Makes rows and files agree again after a crash. Safe while the store is in use: it takes the locks that commits and
 * deletions take, and leaves ingests alone that have a writer.
 *
 * A blob's file without a row is what a crash between rename and transaction leaves. If an ingest that lost its file expected
 * that digest, the file becomes that ingest's again: its next writer finds all bytes there and its commit hashes them, so that
 * nothing is believed unseen and nothing is fetched twice. Other files without a row go (nothing speaks of them). A row without its whole file is reported, for it is a promise broken by
 * the disk and not by a crash, and dropped, so that the blob is pulled again instead of failing every reader.
 */
import { chmod, readdir, rename, rm, stat } from "node:fs/promises";
import { join } from "node:path";
import { isDigest, type Digest, type KeyedLock } from "@berth/base";
import type { Metadata } from "@berth/metadata";
import type { IngestClaims } from "./ingest-claims.ts";
import { ALGORITHMS, fileSize, INGEST_MODE, isMissing, type Layout } from "./layout.ts";
import {
  deleteDead,
  deleteIngest,
  deleteRefs,
  markDead,
  type BlobRow,
  type ContentRows,
  type IngestRow,
} from "./rows.ts";

export interface LostBlob {
  readonly digest: Digest;
  readonly what: "missing" | "wrong size";
  /** Who could see it. */
  readonly namespaces: readonly string[];
}

export interface RecoveryReport {
  /** Promises that the disk broke. */
  readonly lost: readonly LostBlob[];
  /** Files under `blobs/` that no row spoke of, now removed. */
  readonly orphanBlobs: number;
  /** Files under `blobs/` that were given back to the ingest they had been. */
  readonly returnedBlobs: number;
  /** Deletions that a crash had interrupted, now finished. */
  readonly finishedDeletions: number;
  /** Ingests with only a row, or only a folder, now dropped. */
  readonly brokenIngests: number;
  /** Ingests nobody has written to for longer than the store's time to live, now dropped. */
  readonly expiredIngests: number;
}

export interface RecoverDeps {
  readonly layout: Layout;
  readonly metadata: Metadata;
  readonly rows: ContentRows;
  readonly blobLocks: KeyedLock;
  readonly claims: IngestClaims;
}

const PAGE = 500;

/** @param staleBeforeMs ingests that nobody has written to since then have expired. */
export async function recover(deps: RecoverDeps, staleBeforeMs: number): Promise<RecoveryReport> {
  const { returnedBlobs, orphanBlobs } = await settleOrphanBlobs(deps);
  const brokenIngests = (await dropRowsWithoutFile(deps)) + (await dropFoldersWithoutRow(deps));
  const expiredIngests = await dropStaleIngests(deps, staleBeforeMs);
  const { lost, finishedDeletions } = await checkRows(deps);
  return { lost, orphanBlobs, returnedBlobs, finishedDeletions, brokenIngests, expiredIngests };
}

/** Drops the ingests that have neither writer nor lease and were last written to before `staleBeforeMs`; says how many. */
export async function dropStaleIngests(deps: RecoverDeps, staleBeforeMs: number): Promise<number> {
  return await dropIngests(deps, async ({ namespace, ref, startedAtMs, lease }) => {
    if (lease !== undefined) return false;
    const written = await lastWriteMs(deps.layout.ingestData(namespace, ref));
    return Math.max(startedAtMs, written) < staleBeforeMs;
  });
}

async function dropRowsWithoutFile(deps: RecoverDeps): Promise<number> {
  const { layout } = deps;
  return await dropIngests(
    deps,
    async ({ namespace, ref }) => (await fileSize(layout.ingestData(namespace, ref))) === undefined,
  );
}

async function dropIngests(deps: RecoverDeps, when: (row: IngestRow) => Promise<boolean>): Promise<number> {
  const { layout, metadata, rows, claims } = deps;
  let dropped = 0;
  for (const { namespace, ref } of rows.ingests()) {
    const done = await claims.ifFree(layout.ingestName(namespace, ref), async () => {
      const row = rows.ingest(namespace, ref);
      if (row === undefined || !(await when(row))) return false;
      await metadata.transact([deleteIngest(namespace, ref)]);
      await layout.removeIngest(namespace, ref);
      return true;
    });
    if (done) dropped += 1;
  }
  return dropped;
}

async function dropFoldersWithoutRow({ layout, rows, claims }: RecoverDeps): Promise<number> {
  const named = (): Set<string> =>
    new Set(rows.ingests().map(({ namespace, ref }) => layout.ingestName(namespace, ref)));
  const known = named();
  let dropped = 0;
  for (const name of await readdir(layout.ingestRoot)) {
    if (known.has(name)) continue;
    const done = await claims.ifFree(name, async () => {
      if (named().has(name)) return false;
      await rm(join(layout.ingestRoot, name), { recursive: true, force: true });
      return true;
    });
    if (done) dropped += 1;
  }
  return dropped;
}

async function checkRows(deps: RecoverDeps): Promise<{ lost: LostBlob[]; finishedDeletions: number }> {
  const lost: LostBlob[] = [];
  let finishedDeletions = 0;
  for (let after = ""; ;) {
    const page = deps.rows.blobs(after, PAGE);
    for (const { digest } of page) {
      const found = await deps.blobLocks.run(digest, () => checkRow(deps, digest));
      if (found === "finished") finishedDeletions += 1;
      else if (found !== "sound") lost.push(found);
    }
    const last = page.at(-1);
    if (last === undefined || page.length < PAGE) return { lost, finishedDeletions };
    after = last.digest;
  }
}

/** Runs with the digest's lock held. */
async function checkRow(deps: RecoverDeps, digest: Digest): Promise<"sound" | "finished" | LostBlob> {
  const { layout, metadata, rows } = deps;
  const row = rows.blob(digest);
  if (row === undefined) return "sound";
  const path = layout.blobPath(digest);
  if (row.state === "dead") {
    await rm(path, { force: true });
    await metadata.transact([deleteDead(digest)]);
    return "finished";
  }
  const what = await damage(path, row);
  if (what === undefined) return "sound";
  const namespaces = rows.namespacesOf(digest);
  await metadata.transact([deleteRefs(digest), markDead(digest)]);
  await rm(path, { force: true });
  await metadata.transact([deleteDead(digest)]);
  return { digest, what, namespaces };
}

async function damage(path: string, row: BlobRow): Promise<LostBlob["what"] | undefined> {
  const size = await fileSize(path);
  if (size === undefined) return "missing";
  return size === row.sizeBytes ? undefined : "wrong size";
}

async function settleOrphanBlobs(deps: RecoverDeps): Promise<{ returnedBlobs: number; orphanBlobs: number }> {
  const { layout, blobLocks } = deps;
  const settled = { returnedBlobs: 0, orphanBlobs: 0 };
  for (const algorithm of ALGORITHMS) {
    for (const name of await readdir(layout.blobFolder(algorithm))) {
      const path = join(layout.blobFolder(algorithm), name);
      const digest = `${algorithm}:${name}`;
      await blobLocks.run(digest, async () => {
        if (isDigest(digest) && deps.rows.blob(digest) !== undefined) return;
        if (isDigest(digest) && (await giveBack(deps, digest, path))) {
          settled.returnedBlobs += 1;
          return;
        }
        await rm(path, { recursive: true, force: true });
        settled.orphanBlobs += 1;
      });
    }
  }
  return settled;
}

/** Makes an orphan the file of an ingest that expects it and has none; false if there is no such ingest. */
async function giveBack({ layout, rows, claims }: RecoverDeps, digest: Digest, path: string): Promise<boolean> {
  for (const { namespace, ref } of rows.ingests().filter(({ expected }) => expected === digest)) {
    const done = await claims.ifFree(layout.ingestName(namespace, ref), async () => {
      const data = layout.ingestData(namespace, ref);
      const waits = rows.ingest(namespace, ref)?.expected === digest && (await fileSize(data)) === undefined;
      if (!waits) return false;
      await layout.createIngest(namespace, ref);
      await chmod(path, INGEST_MODE);
      await rename(path, data);
      return true;
    });
    if (done) return true;
  }
  return false;
}

async function lastWriteMs(path: string): Promise<number> {
  try {
    return (await stat(path)).mtimeMs;
  } catch (error) {
    if (isMissing(error)) return 0;
    throw error;
  }
}
