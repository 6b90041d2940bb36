/**
 * Blobs of a pull: from this namespace's own content, from another's after proof of access, or from the registry.
 *
 * Invariants:
 *  - Bytes that another tenant pulled are shared only after this tenant's credentials reached the same digest in this
 *    repository (D7). That a blob is there is believed of a registry that some tenant here has had its bytes from; any
 *    other must send them, for whoever owns a registry can let it say yes to every digest.
 *  - A blob is committed only with the digest that was computed here (A3).
 *  - A transfer that stopped leaves its ingest for the next pull; one that brought wrong bytes leaves nothing.
 */
import { hasCode, retry, StatusError, throwIfAborted, type Digest } from "@berth/base";
import type { IngestWriter } from "@berth/content";
import type { Descriptor } from "@berth/model";
import { blobPin } from "../pins.ts";
import type { PullInput } from "./context.ts";
import type { JobResult } from "./layer-job.ts";

const MAX_SMALL_TRIES = 4;

/** `exists`: nothing had to be fetched. */
export type BlobOutcome = "exists" | "fetched";

export function ingestRef(what: string, digest: Digest): string {
  return `${what}-${digest}`;
}

/** For error messages: `image X, layer sha256:… of registry Y`. */
export function layerSubject(pull: PullInput, layer: Descriptor): string {
  return `image ${pull.image}: layer ${layer.digest} of registry ${pull.ref.registry}`;
}

/** The bytes of a manifest or config that this namespace has, or undefined. Pins it. */
export async function readOwn(pull: PullInput, digest: Digest, maxBytes: number): Promise<Uint8Array | undefined> {
  const { content, locks } = pull.shared;
  pull.pins.add(blobPin(pull.namespace, digest));
  // Under the lock: a collection that did not see the pin may be about to delete what is still there.
  const own = (): Promise<boolean> => content.has(pull.namespace, digest);
  if (!(await locks.run(`blob ${digest}`, own, pull.signal))) return undefined;
  return await content.readAll(pull.namespace, digest, maxBytes);
}

/** Stores a small blob whose bytes were hashed already. */
export async function storeSmall(pull: PullInput, what: string, digest: Digest, bytes: Uint8Array): Promise<void> {
  const { content, locks } = pull.shared;
  pull.pins.add(blobPin(pull.namespace, digest));
  await locks.run(`blob ${digest}`, async () => {
    if (await content.has(pull.namespace, digest)) return;
    await using writer = await content.writer(pull.namespace, {
      ref: ingestRef(what, digest),
      totalBytes: bytes.length,
      expected: digest,
      ...leaseOf(pull),
    });
    await writer.truncate(0);
    await writer.write(bytes);
    await writer.commit({ digest, sizeBytes: bytes.length, labels: sourceLabel(pull) });
  });
}

/** A config or another small blob from the registry, hashed by the content store's commit. */
export async function fetchSmall(
  pull: PullInput,
  what: string,
  descriptor: Descriptor,
  maxBytes: number,
): Promise<Uint8Array> {
  const { digest, size } = descriptor;
  const own = await readOwn(pull, digest, maxBytes);
  if (own !== undefined) return own;
  const subject = `image ${pull.image}: ${what} ${digest} of registry ${pull.ref.registry}`;
  if (size > maxBytes) {
    throw new StatusError("INVALID_ARGUMENT", `${subject} is ${size} bytes, more than the ${maxBytes} that are read`, {
      reason: "MANIFEST_INVALID",
    });
  }
  const bytes = await retry(() => readSmall(pull, descriptor), {
    maxAttempts: MAX_SMALL_TRIES,
    retryable: isBrokenBody,
    clock: pull.shared.clock,
    signal: pull.signal,
  });
  await storeSmall(pull, what, digest, bytes).catch((error: unknown) => {
    throw wrongBytes(error, subject);
  });
  return bytes;
}

/** From its first byte on, each time: it is small. Stops when there are more bytes than there should be. */
async function readSmall(pull: PullInput, { digest, size }: Descriptor): Promise<Uint8Array> {
  await using stream = await pull.registry.blob(pull.ref, digest, { signal: pull.signal });
  const chunks: Uint8Array[] = [];
  let length = 0;
  for await (const chunk of stream.body) {
    length += chunk.length;
    if (length > size) break;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** Before a body begins, the registry client has tried all endpoints itself; one that fails amid its body it remembers. */
function isBrokenBody(error: unknown): boolean {
  return error instanceof StatusError && (error.reason === "TRANSFER_BROKEN" || error.reason === "TRANSFER_STALLED");
}

/** Does the namespace have the blob, or may it have the one that is here? */
export async function adopt(pull: PullInput, digest: Digest): Promise<boolean> {
  const { content } = pull.shared;
  pull.pins.add(blobPin(pull.namespace, digest));
  if (await content.has(pull.namespace, digest)) return true;
  if (await content.grant(pull.namespace, digest, sourceLabel(pull))) return true;
  if ((await content.physical(digest, sourceKey(pull))) === undefined) return false;
  if (!(await pull.registry.hasBlob(pull.ref, digest, { signal: pull.signal }))) return false;
  try {
    await content.share(pull.namespace, digest, sourceLabel(pull));
    return true;
  } catch (error) {
    // Deleted since: then it is fetched.
    if (hasCode(error, "NOT_FOUND")) return false;
    throw error;
  }
}

/**
 * Opens the layer's ingest, lets `transfer` fill it in a worker, and commits what was computed there. The caller holds the
 * blob's lock.
 */
export async function ingestLayer(
  pull: PullInput,
  layer: Descriptor,
  transfer: (writer: IngestWriter) => Promise<JobResult>,
): Promise<void> {
  const { content } = pull.shared;
  const { digest, size } = layer;
  const ref = ingestRef("layer", digest);
  const options = { ref, totalBytes: size, expected: digest, ...leaseOf(pull) };
  await using writer = await content.writer(pull.namespace, options);
  const status = await writer.status();
  if (status.offsetBytes > size) await writer.truncate(0);
  try {
    const { computed } = await transfer(writer);
    throwIfAborted(pull.signal);
    await writer.commit({
      digest,
      sizeBytes: size,
      labels: sourceLabel(pull),
      ...(computed === undefined ? {} : { computed }),
    });
  } catch (error) {
    if (dropsIngest(error)) await dropIngest(pull, writer, ref);
    throw wrongBytes(error, layerSubject(pull, layer));
  }
}

/** An ingest lives as long as the lease that the pull runs under. */
function leaseOf({ lease }: PullInput): { readonly lease?: string } {
  return lease === undefined ? {} : { lease };
}

/** Bytes that can never become right, or whose space is needed. */
function dropsIngest(error: unknown): boolean {
  return isDiskFull(error) || (error instanceof StatusError && error.reason === "LAYER_DIGEST_MISMATCH");
}

/** Of whichever library met it. */
export function isDiskFull(error: unknown): error is StatusError {
  return error instanceof StatusError && DISK_FULL.has(error.reason);
}

const DISK_FULL: ReadonlySet<string> = new Set([
  "DISK_FULL",
  "CONTENT_DISK_FULL",
  "METADATA_DISK_FULL",
  "SNAPSHOT_DISK_FULL",
  "ENOSPC",
  "EDQUOT",
]);

async function dropIngest(pull: PullInput, writer: IngestWriter, ref: string): Promise<void> {
  const { content, logger } = pull.shared;
  // First the bytes: a full disk may hold the metadata too. Refused if a commit that found a mismatch ended the writer.
  await writer.truncate(0).catch(() => undefined);
  await writer[Symbol.asyncDispose]();
  try {
    await content.abort(pull.namespace, ref);
  } catch (error) {
    // That commit has dropped it already.
    if (!hasCode(error, "NOT_FOUND")) logger.warn({ error, ref }, "dropping an ingest failed; it will expire");
  }
}

function wrongBytes(error: unknown, subject: string): unknown {
  if (!(error instanceof StatusError)) return error;
  if (error.reason !== "CONTENT_DIGEST_MISMATCH" && error.reason !== "CONTENT_SIZE_MISMATCH") return error;
  const text = `${subject}: the registry sent other bytes than its manifest names (${error.message}); nothing was kept`;
  return new StatusError("DATA_LOSS", text, { reason: "LAYER_DIGEST_MISMATCH", cause: error });
}

/** Where bytes came from, as containerd labels it. */
function sourceLabel(pull: PullInput): Record<string, string> {
  return { [sourceKey(pull)]: pull.ref.repository };
}

function sourceKey({ ref }: PullInput): string {
  return `containerd.io/distribution.source.${ref.registry}`;
}
