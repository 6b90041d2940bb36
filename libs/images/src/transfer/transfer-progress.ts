/** How far a transfer is, for people: monotonic, and told at most every 100 ms but for changes of phase. */
import type { Digest } from "@berth/base";
import type { BlobTracker } from "./context.ts";
import type { BlobProgress, TransferProgress } from "./transfer.ts";

const INTERVAL_MS = 100;

export class TransferTracker implements BlobTracker {
  readonly #tell: ((progress: TransferProgress) => void) | undefined;
  readonly #monotonicMs: () => number;
  readonly #blobs = new Map<Digest, BlobProgress>();
  #phase: TransferProgress["phase"] = "reading";
  #lastMs = Number.NEGATIVE_INFINITY;

  constructor(tell: ((progress: TransferProgress) => void) | undefined, monotonicMs: () => number) {
    this.#tell = tell;
    this.#monotonicMs = monotonicMs;
  }

  /** Blobs may become known one by one. */
  add(digest: Digest, totalBytes: number): void {
    if (!this.#blobs.has(digest)) this.#blobs.set(digest, { digest, state: "waiting", offsetBytes: 0, totalBytes });
  }

  phase(phase: TransferProgress["phase"]): void {
    this.#phase = phase;
    this.#emit();
  }

  state(digest: Digest, state: BlobProgress["state"]): void {
    const blob = this.#blobs.get(digest);
    if (blob === undefined) return;
    const offsetBytes = state === "copying" ? blob.offsetBytes : blob.totalBytes;
    this.#blobs.set(digest, { ...blob, state, offsetBytes });
    this.#emitNowAndThen();
  }

  offset(digest: Digest, offsetBytes: number): void {
    const blob = this.#blobs.get(digest);
    if (blob === undefined || offsetBytes <= blob.offsetBytes) return;
    this.#blobs.set(digest, { ...blob, offsetBytes: Math.min(offsetBytes, blob.totalBytes) });
    this.#emitNowAndThen();
  }

  #emitNowAndThen(): void {
    if (this.#monotonicMs() - this.#lastMs >= INTERVAL_MS) this.#emit();
  }

  #emit(): void {
    if (this.#tell === undefined) return;
    this.#lastMs = this.#monotonicMs();
    const blobs = [...this.#blobs.values()];
    const sum = (pick: (blob: BlobProgress) => number): number => blobs.reduce((all, blob) => all + pick(blob), 0);
    this.#tell({
      phase: this.#phase,
      offsetBytes: sum((blob) => blob.offsetBytes),
      totalBytes: sum((blob) => blob.totalBytes),
      blobs,
    });
  }
}
