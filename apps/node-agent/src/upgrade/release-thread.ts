/** The thread that brings a release from its registry into a file: its bytes never pass the agent's main loop (A4). */
import { createHash } from "node:crypto";
import { createWriteStream } from "node:fs";
import { finished } from "node:stream/promises";
import { parentPort, workerData } from "node:worker_threads";
import { StatusError, type Digest } from "@berth/base";
import { toPlainError } from "@berth/images/trees";
import type { ImageReference } from "@berth/model";
import { openSession, type RegistrySession } from "@berth/registry/session";

export interface ReleaseJob {
  readonly session: RegistrySession;
  readonly ref: ImageReference;
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly file: string;
}

const job = workerData as ReleaseJob;

async function fetchBlob({ session, ref, digest, sizeBytes, file }: ReleaseJob): Promise<void> {
  await using client = openSession(session);
  await using blob = await client.blob(ref, digest);
  const hash = createHash("sha256");
  const out = createWriteStream(file, { flags: "w", mode: 0o600, flush: true });
  let received = 0;
  try {
    for await (const chunk of blob.body) {
      received += chunk.length;
      if (received > sizeBytes) break;
      hash.update(chunk);
      if (!out.write(chunk)) await new Promise<void>((resolve) => out.once("drain", resolve));
    }
  } finally {
    out.end();
    await finished(out);
  }
  const found = `sha256:${hash.digest("hex")}`;
  if (received === sizeBytes && found === digest) return;
  throw new StatusError("DATA_LOSS", `release ${digest}: ${received} of ${sizeBytes} bytes came, as ${found}`, {
    reason: "ARCHIVE_DIGEST",
  });
}

try {
  await fetchBlob(job);
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
  parentPort!.postMessage(undefined);
} catch (error) {
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
  parentPort!.postMessage(toPlainError(error));
}
