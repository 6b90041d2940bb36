/** Holds rows against files without changing either: for a doctor, also beside the store that uses them. */
import { readdir } from "node:fs/promises";
import { join } from "node:path";
import { isDigest, type Digest } from "@berth/base";
import type { Metadata } from "@berth/metadata";
import { ALGORITHMS, fileSize, isMissing, Layout } from "./layout.ts";
import { ContentRows } from "./rows.ts";

export interface ContentAudit {
  readonly blobs: number;
  /** Rows whose file is gone, or of another size. */
  readonly lost: readonly { readonly digest: Digest; readonly what: "missing" | "wrong size" }[];
  /** Files that no row names: what a crash left. A start removes them. */
  readonly orphanFiles: readonly string[];
  /** Ingests whose rows or whose folders are missing: what a crash left. A start drops them. */
  readonly brokenIngests: readonly string[];
}

const PAGE = 500;

/** @param metadata reading is enough. What is being committed right now may show as broken. */
export async function auditContent(root: string, metadata: Pick<Metadata, "all" | "get">): Promise<ContentAudit> {
  const layout = new Layout(root, "none");
  const rows = new ContentRows(metadata);
  const named = new Set<string>();
  const lost: ContentAudit["lost"][number][] = [];
  for (let after = ""; ;) {
    const page = rows.blobs(after, PAGE);
    for (const { digest, sizeBytes, state } of page) {
      named.add(digest);
      const size = await fileSize(layout.blobPath(digest));
      if (state === "live" && size !== sizeBytes)
        lost.push({ digest, what: size === undefined ? "missing" : "wrong size" });
    }
    const last = page.at(-1);
    if (last === undefined) break;
    after = last.digest;
  }
  const orphanFiles: string[] = [];
  for (const algorithm of ALGORITHMS) {
    const folder = layout.blobFolder(algorithm);
    for (const name of await namesIn(folder)) {
      const digest = `${algorithm}:${name}`;
      // Asked again, for it may have been committed since the rows were read.
      const known = named.has(digest) || (isDigest(digest) && rows.blob(digest) !== undefined);
      if (!known) orphanFiles.push(join(folder, name));
    }
  }
  return { blobs: named.size, lost, orphanFiles, brokenIngests: await brokenIngests(layout, rows) };
}

async function brokenIngests(layout: Layout, rows: ContentRows): Promise<string[]> {
  const broken: string[] = [];
  const folders = new Set(await namesIn(layout.ingestRoot));
  for (const { namespace, ref } of rows.ingests()) {
    folders.delete(layout.ingestName(namespace, ref));
    const size = await fileSize(layout.ingestData(namespace, ref));
    if (size === undefined && rows.ingest(namespace, ref) !== undefined) broken.push(`${namespace}/${ref}`);
  }
  return [...broken, ...[...folders].map((name) => join(layout.ingestRoot, name))];
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}
