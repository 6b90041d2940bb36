/** Does a blob's file still hold what its digest says? */
import { digestAlgorithm, type Digest } from "@berth/base";
import type { Hasher, HashOptions } from "./hasher.ts";
import { fileSize } from "./layout.ts";

/** `actual` is undefined when the file is gone. */
export type Verification =
  | { readonly ok: true; readonly sizeBytes: number }
  | { readonly ok: false; readonly actual: Digest | undefined; readonly sizeBytes: number };

export async function verifyBlob(
  hasher: Hasher,
  path: string,
  digest: Digest,
  options?: HashOptions,
): Promise<Verification> {
  const size = await fileSize(path);
  if (size === undefined) return { ok: false, actual: undefined, sizeBytes: 0 };
  const actual = await hasher.hash(path, size, digestAlgorithm(digest), options);
  if (actual.digest === digest) return { ok: true, sizeBytes: actual.sizeBytes };
  return { ok: false, actual: actual.digest, sizeBytes: actual.sizeBytes };
}
