/** What the parts of the conformance suite share. */
import assert from "node:assert/strict";
import { digestOf, StatusError, type Digest } from "@berth/base";
import type { BlobInfo, ContentStore, IngestWriter, Labels, SharingPolicy } from "../content.ts";

/** Each by what the store does; given an empty store. */
export type Suite = Readonly<Record<string, (store: ContentStore) => Promise<void>>>;

export interface StoreConfig {
  readonly sharing?: SharingPolicy;
  readonly shareable?: (namespace: string) => boolean;
  readonly maxIngestBytes?: number;
}

export type OpenStore = (config: StoreConfig) => Promise<ContentStore>;

export const MISSING = digestOf("nothing like it is stored");

/** For `assert.rejects`: a StatusError of that code and reason. */
export function fails(code: string, reason: string): (error: unknown) => boolean {
  return (error) => {
    assert.ok(error instanceof StatusError, String(error));
    assert.deepEqual([error.code, error.reason], [code, reason], error.message);
    return true;
  };
}

export async function put(
  store: ContentStore,
  namespace: string,
  bytes: Uint8Array | string,
  labels: Labels = {},
): Promise<BlobInfo> {
  const data = Buffer.from(bytes);
  await using writer = await store.writer(namespace, { ref: `put-${digestOf(data)}` });
  await writer.write(data);
  return await writer.commit({ labels, sizeBytes: data.length, digest: digestOf(data) });
}

export async function offset(writer: IngestWriter): Promise<number> {
  return (await writer.status()).offsetBytes;
}

export async function digests(store: ContentStore, namespace: string): Promise<Digest[]> {
  const found: Digest[] = [];
  for await (const info of store.walk(namespace)) found.push(info.digest);
  return found;
}
