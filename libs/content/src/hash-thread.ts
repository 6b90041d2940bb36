/** Hashes files away from the event loop. Loads nothing but builtins, so that it starts fast. */
import { createHash } from "node:crypto";
import { closeSync, openSync, readSync } from "node:fs";
import { parentPort } from "node:worker_threads";

export interface HashRequest {
  readonly path: string;
  readonly algorithm: "sha256" | "sha512";
  readonly rateBytesPerSecond?: number | undefined;
}

export type HashReply =
  | { readonly hex: string; readonly sizeBytes: number }
  | { readonly errno: string | undefined; readonly message: string };

const CHUNK_BYTES = 1024 * 1024;
const chunk = Buffer.allocUnsafeSlow(CHUNK_BYTES);

const never = new Int32Array(new SharedArrayBuffer(4));

/** Sleeps until that many bytes may have been read since `startMs`. */
function pace(startMs: number, sizeBytes: number, rateBytesPerSecond: number): void {
  const aheadMs = startMs + (sizeBytes * 1_000) / rateBytesPerSecond - performance.now();
  if (aheadMs > 1) Atomics.wait(never, 0, 0, aheadMs);
}

function hashFile({ path, algorithm, rateBytesPerSecond }: HashRequest): HashReply {
  const hash = createHash(algorithm);
  const fd = openSync(path, "r");
  try {
    const startMs = performance.now();
    let sizeBytes = 0;
    for (;;) {
      const read = readSync(fd, chunk, 0, CHUNK_BYTES, null);
      if (read === 0) return { hex: hash.digest("hex"), sizeBytes };
      hash.update(chunk.subarray(0, read));
      sizeBytes += read;
      if (rateBytesPerSecond !== undefined) pace(startMs, sizeBytes, rateBytesPerSecond);
    }
  } finally {
    closeSync(fd);
  }
}

function answer(request: HashRequest): HashReply {
  try {
    return hashFile(request);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    return { errno: (error as NodeJS.ErrnoException).code, message };
  }
}

const port = parentPort!;
port.on("message", (request: HashRequest) => {
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- a thread, not a window
  port.postMessage(answer(request));
});
