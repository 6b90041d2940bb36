/** `berthd content …` */
import { once } from "node:events";
import { formatBytes } from "@berth/base/terminal";
import { BlobSchema, ContentService, IngestSchema, type Blob } from "@berth/proto/host";
import { UsageError } from "./exit-code.ts";
import { ageOf, labelsOf, parseLabels, printFields, printJson, printList, timeOf, type Session } from "./session.ts";

export async function list(session: Session, filters: readonly string[]): Promise<void> {
  const { namespace } = session;
  const all: Blob[] = [];
  for await (const { blobs } of session.client(ContentService).listContent({ namespace, filters: [...filters] })) {
    all.push(...blobs);
  }
  printList(session, BlobSchema, all, [
    { heading: "DIGEST", cell: ({ digest }) => digest },
    { heading: "SIZE", cell: ({ sizeBytes }) => formatBytes(sizeBytes) },
    { heading: "AGE", cell: ({ createdAt }) => ageOf(createdAt) },
    { heading: "LABELS", cell: ({ labels }) => labelsOf(labels) },
  ]);
}

export async function info(session: Session, digest: string): Promise<void> {
  show(session, await session.client(ContentService).getContent({ namespace: session.namespace, digest }));
}

export async function label(session: Session, digest: string, items: readonly string[]): Promise<void> {
  const labels = parseLabels(items);
  show(session, await session.client(ContentService).labelContent({ namespace: session.namespace, digest, labels }));
}

function show(session: Session, blob: Blob): void {
  if (session.json) return printJson(session, BlobSchema, blob);
  printFields(session, [
    ["Digest", blob.digest],
    ["Size", `${formatBytes(blob.sizeBytes)} (${blob.sizeBytes} bytes)`],
    ["Labels", labelsOf(blob.labels)],
    ["Created", timeOf(blob.createdAt)],
    ["Updated", timeOf(blob.updatedAt)],
  ]);
}

/** Bytes as they are; a slow reader is waited for. */
export async function cat(
  session: Session,
  digest: string,
  options: { readonly offset: string; readonly length?: string },
): Promise<void> {
  const request = {
    namespace: session.namespace,
    digest,
    offsetBytes: parseBytes(options.offset, "--offset"),
    lengthBytes: options.length === undefined ? 0n : parseBytes(options.length, "--length"),
  };
  for await (const { data } of session.client(ContentService).readContent(request)) {
    if (!session.stdout.write(data)) await once(session.stdout, "drain", { signal: session.signal });
  }
}

export async function remove(session: Session, digests: readonly string[]): Promise<void> {
  const client = session.client(ContentService);
  for (const digest of digests) {
    await client.deleteContent({ namespace: session.namespace, digest });
    session.out(digest);
  }
}

export async function ingests(session: Session, filters: readonly string[]): Promise<void> {
  const { namespace } = session;
  const found = await session.client(ContentService).listIngests({ namespace, filters: [...filters] });
  printList(session, IngestSchema, found.ingests, [
    { heading: "REF", cell: ({ ref }) => ref },
    { heading: "HERE", cell: ({ offsetBytes }) => formatBytes(offsetBytes) },
    { heading: "OF", cell: ({ totalBytes }) => (totalBytes === 0n ? "?" : formatBytes(totalBytes)) },
    { heading: "BEGUN", cell: ({ startedAt }) => ageOf(startedAt) },
    { heading: "WRITTEN", cell: ({ updatedAt }) => ageOf(updatedAt) },
    { heading: "LEASE", cell: ({ lease }) => lease || "-" },
  ]);
}

export async function abort(session: Session, refs: readonly string[]): Promise<void> {
  const client = session.client(ContentService);
  for (const ref of refs) {
    await client.abortIngest({ namespace: session.namespace, ref });
    session.out(ref);
  }
}

function parseBytes(text: string, option: string): bigint {
  if (!/^\d{1,18}$/.test(text)) throw new UsageError(`${option} ${JSON.stringify(text)} is not a number of bytes`);
  return BigInt(text);
}
