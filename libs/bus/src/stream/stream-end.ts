/**
 * One end of an interactive stream: frames in order, credit, liveness, one ending.
 *
 * Invariants, the same on both ends:
 *  1. Every frame has the next sequence number. One that has not ends the stream with DATA_LOSS, and the other end is told.
 *  2. A sender never has more payload under way than the receiver's window; what the receiver's reader has consumed is given
 *     back as credit. A reader that stalls thus costs its own stream one window of memory, and nobody else anything. A peer
 *     that ignores the window is cut off.
 *  3. The opener pings, the server answers; an end that hears nothing for `idleTimeoutMs` ends, an opener at once when its ping
 *     finds nobody. So a stream whose controller died does not outlive it, and one whose agent died ends with its next ping.
 *  4. A stream ends once. What had arrived before a proper end or an error of the peer can still be read.
 */
import { fromBinary } from "@bufbuild/protobuf";
import { StatusError } from "@berth/base";
import { StreamFrameSchema, type StreamFrame } from "@berth/proto";
import type { FrameBus } from "../bus.ts";
import { statusOf } from "../errors.ts";
import { encodeFrame } from "./frame-codec.ts";

export const MAX_FRAME_BYTES = 32 * 1024;
/** For streams that people look at: what a stalled one may hold in memory. */
export const DEFAULT_WINDOW_BYTES = 256 * 1024;
/** For streams that carry files: 100 MB/s over a round trip of 10 ms. */
export const BULK_WINDOW_BYTES = 1024 * 1024;

export type FrameBody = StreamFrame["body"];

export interface StreamTimings {
  /** How often the opener asks. Default 5 s. */
  readonly pingIntervalMs?: number;
  /** Silence after which an end gives up. Default 20 s. */
  readonly idleTimeoutMs?: number;
}

export interface StreamEndOptions extends StreamTimings {
  readonly bus: FrameBus;
  readonly sendSubject: string;
  readonly receiveSubject: string;
  readonly receiveWindowBytes: number;
  readonly role: "opener" | "server";
  /** The opener's: which frame of the server is its last. */
  readonly endsWith?: FrameBody["case"];
  /** Gets resizes at once; everything else that is not bookkeeping waits for {@link StreamEnd.next}. */
  readonly onResize?: (columns: number, rows: number) => void;
}

/** What a log line costs beside its text, so that empty lines are bounded, too. */
const LOG_OVERHEAD_BYTES = 64;
/** Frames without payload (started, exit, half-close) that may wait; an honest peer sends three. */
const MAX_FREE_FRAMES = 8;

export class StreamEnd {
  readonly #options: StreamEndOptions;
  readonly #subscription: Disposable;
  readonly #abort = new AbortController();
  readonly #queue: FrameBody[] = [];
  readonly #timer: NodeJS.Timeout;
  #sendSeq = 0n;
  #receiveSeq = 0n;
  #credit = 0;
  #unconsumedBytes = 0;
  #freeFrames = 0;
  #toGrantBytes = 0;
  #heardAtMs = performance.now();
  #ended: { readonly error?: StatusError } | undefined;
  #reader: (() => void) | undefined;
  #creditWaiter: (() => void) | undefined;
  #sending: Promise<void> = Promise.resolve();

  constructor(options: StreamEndOptions) {
    this.#options = options;
    this.#subscription = options.bus.subscribe(options.receiveSubject, (payload) => this.#receive(payload));
    const everyMs = options.pingIntervalMs ?? 5_000;
    this.#timer = setInterval(() => this.#checkLiveness(), everyMs);
    this.#timer.unref();
  }

  /** Fires when the stream ended, for whatever reason. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** The other end lets us send so many bytes more. */
  addCredit(bytes: number): void {
    this.#credit += bytes;
    this.#creditWaiter?.();
  }

  /** Sends a frame without payload. */
  send(body: FrameBody): void {
    this.#publish(body, (subject, frame) => this.#options.bus.publish(subject, frame));
  }

  /** Sends data in frames of at most 32 KiB, in the order of the calls, as credit comes. @throws why the stream ended. */
  async sendData(data: Uint8Array, toBody: (part: Uint8Array) => FrameBody): Promise<void> {
    const before = this.#sending;
    const { promise: sent, resolve } = Promise.withResolvers<void>();
    this.#sending = sent;
    try {
      await before;
      let offset = 0;
      do {
        const overhead = costOf(toBody(new Uint8Array()));
        await this.#waitForCredit(overhead + 1);
        const length = Math.min(data.length - offset, MAX_FRAME_BYTES, this.#credit - overhead);
        const body = toBody(data.subarray(offset, offset + length));
        this.#credit -= costOf(body);
        this.send(body);
        offset += length;
      } while (offset < data.length);
    } finally {
      resolve();
    }
  }

  /** The next frame, or undefined after a proper end. @throws why the stream broke, after what arrived before that. */
  async next(): Promise<FrameBody | undefined> {
    for (;;) {
      const body = this.#queue.shift();
      if (body !== undefined) {
        this.#consumed(body);
        return body;
      }
      if (this.#ended !== undefined) {
        if (this.#ended.error !== undefined) throw this.#ended.error;
        return undefined;
      }
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#reader = resolve;
      await promise;
      this.#reader = undefined;
    }
  }

  /** Ends properly: both sides have said all. */
  finish(): void {
    this.#end({});
  }

  /** Ends with an error; `tell` sends it to the other end. */
  fail(error: StatusError, { tell }: { readonly tell: boolean }): void {
    if (this.#ended !== undefined) return;
    if (tell) this.send({ case: "error", value: errorBody(error) });
    this.#end({ error });
  }

  #receive(payload: Uint8Array): void {
    if (this.#ended !== undefined) return;
    this.#heardAtMs = performance.now();
    let frame: StreamFrame;
    try {
      frame = fromBinary(StreamFrameSchema, payload);
    } catch (error) {
      const invalid = new StatusError("INVALID_ARGUMENT", "stream: a frame cannot be read", {
        reason: "STREAM_FRAME_INVALID",
        cause: error,
      });
      this.fail(invalid, { tell: true });
      return;
    }
    this.#receiveSeq += 1n;
    if (frame.seq !== this.#receiveSeq) this.fail(frameLost(this.#receiveSeq, frame.seq), { tell: true });
    else this.#take(frame.body);
  }

  #take(body: FrameBody): void {
    switch (body.case) {
      case "credit":
        this.addCredit(body.value);
        return;
      case "ping":
        if (this.#options.role === "server") this.send({ case: "ping", value: true });
        return;
      case "resize":
        this.#options.onResize?.(body.value.columns, body.value.rows);
        return;
      case "error":
        this.#end({ error: statusOf(body.value.code, body.value.message) });
        return;
      case undefined:
        // A kind of frame that a newer peer knows: counted, not understood.
        return;
      case "stdin":
      case "stdout":
      case "stderr":
      case "log":
      case "halfClose":
      case "exitCode":
      case "started":
      case "done":
        this.#enqueue(body);
        return;
    }
  }

  #enqueue(body: FrameBody): void {
    const cost = costOf(body);
    this.#unconsumedBytes += cost;
    if (cost === 0) this.#freeFrames += 1;
    if (this.#unconsumedBytes > this.#options.receiveWindowBytes || this.#freeFrames > MAX_FREE_FRAMES) {
      const error = new StatusError("RESOURCE_EXHAUSTED", "stream: the other end sent more than its window", {
        reason: "STREAM_WINDOW_EXCEEDED",
      });
      this.fail(error, { tell: true });
      return;
    }
    this.#queue.push(body);
    // The opener knows by this that the server has ended: no ping will be answered, nothing can be sent.
    if (body.case === this.#options.endsWith) this.#end({});
    this.#reader?.();
  }

  #consumed(body: FrameBody): void {
    const cost = costOf(body);
    this.#unconsumedBytes -= cost;
    if (cost === 0) this.#freeFrames -= 1;
    this.#toGrantBytes += cost;
    if (this.#toGrantBytes * 4 < this.#options.receiveWindowBytes) return;
    const grant = this.#toGrantBytes;
    this.#toGrantBytes = 0;
    this.send({ case: "credit", value: grant });
  }

  async #waitForCredit(bytes: number): Promise<void> {
    for (;;) {
      if (this.#ended !== undefined) throw this.#ended.error ?? ended();
      if (this.#credit >= bytes) return;
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#creditWaiter = resolve;
      await promise;
      this.#creditWaiter = undefined;
    }
  }

  #checkLiveness(): void {
    const silentMs = performance.now() - this.#heardAtMs;
    if (silentMs > (this.#options.idleTimeoutMs ?? 20_000)) {
      const text = `stream: nothing heard from the other end for ${Math.round(silentMs / 1_000)} s`;
      this.fail(new StatusError("UNAVAILABLE", text, { reason: "STREAM_LOST" }), { tell: true });
      return;
    }
    if (this.#options.role === "opener") this.#ping();
  }

  /** A server that has died is no longer subscribed: that is known at once, without waiting for its silence. */
  #ping(): void {
    const onNobody = (): void => {
      const text = "stream: the other end is gone";
      this.fail(new StatusError("UNAVAILABLE", text, { reason: "STREAM_LOST" }), { tell: false });
    };
    this.#publish({ case: "ping", value: true }, (subject, frame) =>
      this.#options.bus.publishAsking(subject, frame, onNobody),
    );
  }

  #publish(body: FrameBody, publish: (subject: string, frame: Uint8Array) => void): void {
    if (this.#ended !== undefined) return;
    this.#sendSeq += 1n;
    try {
      publish(this.#options.sendSubject, encodeFrame(this.#sendSeq, body));
    } catch (error) {
      this.fail(StatusError.from(error), { tell: false });
    }
  }

  #end(how: { readonly error?: StatusError }): void {
    if (this.#ended !== undefined) return;
    this.#ended = how;
    clearInterval(this.#timer);
    this.#subscription[Symbol.dispose]();
    this.#reader?.();
    this.#creditWaiter?.();
    this.#abort.abort(how.error ?? ended());
  }
}

/** What of the window a frame takes. */
function costOf(body: FrameBody): number {
  if (body.case === "stdin" || body.case === "stdout" || body.case === "stderr") return body.value.length;
  if (body.case === "log") return body.value.data.length + LOG_OVERHEAD_BYTES;
  return 0;
}

function errorBody(error: StatusError): { $typeName: "berth.v1.StreamError"; code: string; message: string } {
  return { $typeName: "berth.v1.StreamError", code: error.code, message: error.message };
}

function ended(): StatusError {
  return new StatusError("CANCELLED", "stream: ended", { reason: "STREAM_ENDED" });
}

function frameLost(expected: bigint, got: bigint): StatusError {
  return new StatusError("DATA_LOSS", `stream: frame ${expected} was lost (got ${got})`, {
    reason: "STREAM_FRAME_LOST",
  });
}
