/** What a layer decompresses to: its hash, and its extraction. */
import { createHash } from "node:crypto";
import { StatusError, toDigest } from "@berth/base";
import { TreeWriter } from "../archive/apply.ts";
import { archiveTooLarge, defaultArchiveLimits } from "../archive/entry.ts";
import { TarReader } from "../archive/reader.ts";
import { Decompressor } from "./decompress.ts";
import type { JobResult, LayerJob, UnpackTarget } from "./layer-job.ts";

const MAX_WARNINGS = 20;

/** Decompression, the hash of the result, and its extraction. */
export class Diff implements Disposable {
  readonly warnings: string[] = [];
  readonly #job: LayerJob;
  readonly #hash = createHash("sha256");
  readonly #decompressor: Decompressor;
  readonly #writer: TreeWriter | undefined;
  readonly #reader: TarReader | undefined;
  /** Why the archive cannot be read; the bytes may still prove to be the wrong ones. */
  #broken: unknown;
  /** Decompressed by another job. */
  #taken = 0;

  constructor(job: LayerJob, rootFd: number | undefined, unpack: UnpackTarget | undefined) {
    this.#job = job;
    if (rootFd !== undefined && unpack !== undefined) {
      const { mode, overlayXattrs, limits, devices = "allow" } = unpack;
      this.#writer = new TreeWriter(rootFd, {
        mode,
        overlayXattrs,
        limits,
        devices,
        onWarning: (text) => this.#warn(text),
      });
      this.#reader = new TarReader(this.#writer, limits);
    }
    this.#decompressor = new Decompressor({
      ...job.decompress,
      sizeBytes: job.sizeBytes,
      limits: unpack?.limits ?? defaultArchiveLimits,
      onData: (chunk) => this.#push(chunk),
    });
  }

  get entries(): number {
    return this.#reader?.entries ?? 0;
  }

  get notes(): JobResult["notes"] {
    const notes = this.#writer?.notes();
    if (notes === undefined || this.#broken === undefined) return notes;
    return { ...notes, needsMerged: StatusError.from(this.#broken).message };
  }

  get usage(): JobResult["usage"] {
    return this.#writer?.usage ?? { sizeBytes: 0, inodes: 0 };
  }

  /** Takes bytes that another job has decompressed; false once they are of no use. */
  take(chunk: Buffer): boolean {
    const { sizeBytes, unpack } = this.#job;
    const { maxRatio, ratioFreeBytes } = unpack?.limits ?? defaultArchiveLimits;
    this.#taken += chunk.length;
    try {
      if (this.#taken > ratioFreeBytes && this.#taken > sizeBytes * maxRatio) {
        throw archiveTooLarge(`layer decompresses to more than ${maxRatio} times its size, as bombs do`);
      }
      this.#push(chunk);
    } catch (error) {
      this.#breaks(error);
    }
    return this.#broken === undefined;
  }

  #push(chunk: Buffer): void {
    this.#hash.update(chunk);
    this.#reader?.push(chunk);
  }

  write(chunk: Buffer): Promise<void> | undefined {
    if (this.#broken !== undefined) return undefined;
    try {
      return this.#decompressor.write(chunk)?.catch((error: unknown) => this.#breaks(error));
    } catch (error) {
      this.#breaks(error);
      return undefined;
    }
  }

  /**
   * What is refused apart from the layers below may be right over them, and gets its verdict there (`needsMerged`).
   * @throws what broke the archive; DATA_LOSS `LAYER_DIFF_ID_MISMATCH`
   */
  async finish(): Promise<void> {
    try {
      if (this.#broken === undefined) await this.#end();
    } catch (error) {
      this.#breaks(error);
    }
    if (this.#broken !== undefined) {
      if (this.#job.unpack?.mode === "detached") return;
      throw this.#broken;
    }
    this.#compare();
  }

  async #end(): Promise<void> {
    await this.#decompressor.end();
    this.#reader?.end();
    this.#writer?.finish();
  }

  #compare(): void {
    const { diffId, subject } = this.#job;
    const actual = toDigest(this.#hash);
    if (actual === diffId) return;
    const text = `${subject}: its content hashes to ${actual}, but the image's config says ${diffId}; the image is broken`;
    throw new StatusError("DATA_LOSS", text, { reason: "LAYER_DIFF_ID_MISMATCH" });
  }

  [Symbol.dispose](): void {
    this.#decompressor[Symbol.dispose]();
    this.#writer?.[Symbol.dispose]();
  }

  #breaks(error: unknown): void {
    if (!(error instanceof StatusError) || error.reason !== "LAYER_INVALID") throw error;
    this.#broken = error;
  }

  #warn(text: string): void {
    if (this.warnings.length < MAX_WARNINGS) this.warnings.push(text);
  }
}
