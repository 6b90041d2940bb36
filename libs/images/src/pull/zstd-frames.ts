/**
 * zstd by node:zlib, frame by frame: its stream stops at a second frame, so the ends of frames are found here (RFC 8878, 3.1).
 * A frame says how long each of its blocks is; nothing has to be decoded for that. Skippable frames are left out.
 *
 * Only for hosts without the `zstd` program, which is somewhat faster and works beside us.
 */
import { createZstdDecompress, zstdDecompressSync } from "node:zlib";
import { invalidArchive } from "../archive/entry.ts";
import { streamStage, zlibSource, type OnData, type Stage } from "./stream-stage.ts";

const OUTPUT_CHUNK_BYTES = 128 * 1024;
/** Frames up to this size are decoded at once: a stream for each of many small ones costs more than they do. */
const SMALL_FRAME_BYTES = 64 * 1024;
const SMALL_CONTENT_BYTES = 1024 * 1024;
const MAGIC = 0xfd2fb528;
const MAGIC_BYTES = [0x28, 0xb5, 0x2f, 0xfd];
const RLE_BLOCK = 1;
const RESERVED_BLOCK = 3;

/** Bytes of one frame, from its start or going on. */
export interface FramePart {
  readonly bytes: Buffer;
  /** Do they complete the frame? */
  readonly last: boolean;
}

type Need =
  /** The magic number, and with it the kind of frame. */
  "magic" | "descriptor" | "frame header" | "block header" | "skippable size" | "body" | "checksum" | "skipped";

/** Cuts a stream into the parts of its frames, however its bytes come. */
export class ZstdFrameCutter {
  #need: Need = "magic";
  /** Bytes until the current field or body is complete. */
  #missing = 4;
  readonly #field = Buffer.alloc(16);
  #fieldBytes = 0;
  #hasChecksum = false;
  #lastBlock = false;

  /** Is the stream at the end of a frame? */
  get complete(): boolean {
    return this.#need === "magic" && this.#fieldBytes === 0;
  }

  /** @throws LAYER_INVALID for what is no frame */
  *push(chunk: Buffer): Generator<FramePart> {
    /** Where what is not yet handed on begins. */
    let start = 0;
    for (let at = 0; at < chunk.length;) {
      const take = Math.min(this.#missing, chunk.length - at);
      const need = this.#need;
      if (need !== "body" && need !== "skipped") {
        chunk.copy(this.#field, this.#fieldBytes, at, at + take);
        this.#fieldBytes += take;
      }
      at += take;
      this.#missing -= take;
      if (this.#missing > 0) break;
      const inFrame = this.#inFrame;
      this.#complete();
      if (!inFrame) {
        start = at;
        // It may have come in pieces.
        if (this.#inFrame) yield { bytes: Buffer.from(MAGIC_BYTES), last: false };
      } else if (!this.#inFrame) {
        yield { bytes: chunk.subarray(start, at), last: true };
        start = at;
      }
    }
    if (this.#inFrame && start < chunk.length) yield { bytes: chunk.subarray(start), last: false };
  }

  get #inFrame(): boolean {
    return this.#need !== "magic" && this.#need !== "skippable size" && this.#need !== "skipped";
  }

  /** The current field or body is complete: what comes next? */
  #complete(): void {
    const field = this.#field;
    this.#fieldBytes = 0;
    switch (this.#need) {
      case "magic":
        return this.#kind(field.readUInt32LE(0));
      case "skippable size":
        return this.#skip(field.readUInt32LE(0));
      case "descriptor":
        return this.#descriptor(field[0]!);
      case "block header":
        return this.#block(field[0]! | (field[1]! << 8) | (field[2]! << 16));
      case "body":
        return this.#afterBlock();
      case "frame header":
        return this.#expect("block header", 3);
      case "checksum":
      case "skipped":
        return this.#expect("magic", 4);
    }
  }

  #kind(magic: number): void {
    if (magic === MAGIC) this.#expect("descriptor", 1);
    else if (magic >>> 4 === 0x184d2a5) this.#expect("skippable size", 4);
    else throw invalidArchive("layer is damaged: its zstd data cannot be read (no frame where one should begin)");
  }

  #skip(bytes: number): void {
    if (bytes === 0) this.#expect("magic", 4);
    else this.#expect("skipped", bytes);
  }

  #descriptor(byte: number): void {
    this.#hasChecksum = (byte & 0x04) !== 0;
    const singleSegment = (byte & 0x20) !== 0;
    const dictionary = [0, 1, 2, 4][byte & 3]!;
    const contentSize = [singleSegment ? 1 : 0, 2, 4, 8][byte >>> 6]!;
    const rest = (singleSegment ? 0 : 1) + dictionary + contentSize;
    // Without a single segment there is a window byte, with one a content size: there is always something.
    this.#expect("frame header", rest);
  }

  #block(header: number): void {
    this.#lastBlock = (header & 1) !== 0;
    const type = (header >>> 1) & 3;
    if (type === RESERVED_BLOCK) throw invalidArchive("layer is damaged: its zstd data cannot be read (unknown block)");
    const size = type === RLE_BLOCK ? 1 : header >>> 3;
    if (size === 0) this.#afterBlock();
    else this.#expect("body", size);
  }

  #afterBlock(): void {
    if (!this.#lastBlock) this.#expect("block header", 3);
    else if (this.#hasChecksum) this.#expect("checksum", 4);
    else this.#expect("magic", 4);
  }

  #expect(need: Need, bytes: number): void {
    this.#need = need;
    this.#missing = bytes;
  }
}

export function zstdFramesStage(onData: OnData): Stage {
  return new ZstdFrames(onData);
}

class ZstdFrames implements Stage {
  readonly #onData: OnData;
  readonly #cutter = new ZstdFrameCutter();
  /** Of the current frame, while it may be a small one. */
  #parts: Buffer[] = [];
  #partBytes = 0;
  #stream: Stage | undefined;

  constructor(onData: OnData) {
    this.#onData = onData;
  }

  async write(chunk: Buffer): Promise<void> {
    for (const { bytes, last } of this.#cutter.push(chunk)) {
      if (this.#stream !== undefined) await this.#stream.write(bytes);
      else this.#collect(bytes);
      if (last) await this.#endFrame();
      else if (this.#stream === undefined && this.#partBytes > SMALL_FRAME_BYTES) await this.#openStream();
    }
  }

  async end(): Promise<void> {
    if (this.#cutter.complete) return;
    throw invalidArchive("layer is damaged: its zstd data cannot be read (it breaks off in a frame)");
  }

  destroy(): void {
    this.#stream?.destroy();
  }

  /** Parts are kept beyond the call. */
  #collect(bytes: Buffer): void {
    this.#parts.push(Buffer.from(bytes));
    this.#partBytes += bytes.length;
  }

  async #endFrame(): Promise<void> {
    if (this.#stream === undefined) {
      const frame = Buffer.concat(this.#parts);
      const whole = decodeSmall(frame);
      if (whole !== undefined) {
        this.#parts = [];
        this.#partBytes = 0;
        await this.#onData(whole);
        return;
      }
      await this.#openStream();
    }
    const stream = this.#stream;
    this.#stream = undefined;
    await stream?.end();
    stream?.destroy();
  }

  async #openStream(): Promise<void> {
    const decoder = createZstdDecompress({ chunkSize: OUTPUT_CHUNK_BYTES });
    const ended = new Promise<void>((resolve) => decoder.once("end", resolve));
    this.#stream = streamStage(decoder, zlibSource(decoder), ended, "zstd", this.#onData);
    const parts = this.#parts;
    this.#parts = [];
    this.#partBytes = 0;
    for (const part of parts) await this.#stream.write(part);
  }
}

/** The content of a whole frame; undefined where it is too much for one buffer, or damaged (the stream says how). */
function decodeSmall(frame: Buffer): Buffer | undefined {
  try {
    return zstdDecompressSync(frame, { maxOutputLength: SMALL_CONTENT_BYTES });
  } catch {
    return undefined;
  }
}
