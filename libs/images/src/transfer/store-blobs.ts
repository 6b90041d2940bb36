/** From an archive into the content store: blobs copied and hashed by the transfer's thread, committed by digest (A3). */
import { digestAlgorithm, StatusError, uuidv7, type Digest } from "@berth/base";
import { blobPin } from "../pins.ts";
import { ingestRef } from "../pull/blobs.ts";
import type { TransferContext } from "./context.ts";
import type { StoredLayer } from "./docker-archive.ts";
import type { ArchiveBlob } from "./oci-archive.ts";
import type { FileRange } from "./thread-protocol.ts";

/** What the namespace has already is not copied. The archive's bytes prove that it may have the rest (D7). */
export async function storeBlob(transfer: TransferContext, blob: ArchiveBlob): Promise<void> {
  const { namespace, pins, deps, signal, progress } = transfer;
  const { content, locks } = deps.shared;
  const { digest, sizeBytes, source } = blob;
  pins.add(blobPin(namespace, digest));
  const stored = await locks.run(
    `blob ${digest}`,
    async () => {
      if (await content.has(namespace, digest)) return false;
      progress.state(digest, "copying");
      await using writer = await content.writer(namespace, {
        ref: ingestRef("layer", digest),
        totalBytes: sizeBytes,
        expected: digest,
      });
      await writer.truncate(0);
      if (source.kind === "bytes") {
        await writer.write(source.bytes);
        await writer.commit({ digest, sizeBytes });
        return true;
      }
      const computed = await copy(transfer, source, writer.dataPath, digest);
      await writer.commit({ digest, sizeBytes, computed }).catch((error: unknown) => {
        throw mismatch(error, digest, computed.digest);
      });
      return true;
    },
    signal,
  );
  progress.state(digest, stored ? "done" : "exists");
}

/** A layer whose digest nobody has said: it is what its bytes hash to. */
export async function storeLayer(transfer: TransferContext, source: FileRange): Promise<StoredLayer> {
  const { namespace, pins, deps, signal, thread } = transfer;
  await using writer = await deps.shared.content.writer(namespace, { ref: `import-layer-${uuidv7()}` });
  const job = { kind: "copy", source, target: writer.dataPath, algorithm: "sha256" } as const;
  const { digest, sizeBytes, compression } = await thread.run(job, signal);
  if (sizeBytes !== source.length) throw truncated();
  pins.add(blobPin(namespace, digest));
  await deps.shared.locks.run(
    `blob ${digest}`,
    () => writer.commit({ digest, sizeBytes, computed: { digest, sizeBytes } }),
    signal,
  );
  return { digest, sizeBytes, compression };
}

async function copy(
  { thread, signal, progress }: TransferContext,
  source: FileRange,
  target: string,
  digest: Digest,
): Promise<{ readonly digest: Digest; readonly sizeBytes: number }> {
  const job = { kind: "copy", source, target, algorithm: digestAlgorithm(digest) } as const;
  const computed = await thread.run(job, signal, {
    moved: (bytes) => progress.offset(digest, bytes),
  });
  if (computed.sizeBytes !== source.length) throw truncated();
  return { digest: computed.digest, sizeBytes: computed.sizeBytes };
}

function truncated(): StatusError {
  return new StatusError("DATA_LOSS", "archive: it became shorter while it was read", { reason: "ARCHIVE_TRUNCATED" });
}

function mismatch(error: unknown, digest: Digest, actual: Digest): unknown {
  if (!(error instanceof StatusError) || error.reason !== "CONTENT_DIGEST_MISMATCH") return error;
  const text = `archive: blob ${digest} hashes to ${actual}; nothing was imported`;
  return new StatusError("DATA_LOSS", text, { reason: "ARCHIVE_DIGEST_MISMATCH", cause: error });
}
