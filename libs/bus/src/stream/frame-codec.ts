/**
 * Frames as bytes. Those that carry data, which are nearly all, are written by hand into one buffer of the right size: the
 * general encoder grows its buffer and copies it, which made three times a frame's size in garbage, and collecting that took
 * more time than all else about a stream.
 */
import { create, toBinary } from "@bufbuild/protobuf";
import { StreamFrameSchema, type StreamFrame } from "@berth/proto";

type FrameBody = StreamFrame["body"];

const LENGTH_DELIMITED = 2;
const SEQ_TAG = 1 << 3;
const DATA_FIELDS = { stdin: 2, stdout: 3, stderr: 4 } as const;
/** A tag, ten bytes of varint, a tag, five bytes of varint. */
const MOST_HEADER_BYTES = 17;

const header = Buffer.alloc(MOST_HEADER_BYTES);

export function encodeFrame(seq: bigint, body: FrameBody): Uint8Array {
  if (body.case !== "stdin" && body.case !== "stdout" && body.case !== "stderr") {
    return toBinary(StreamFrameSchema, create(StreamFrameSchema, { seq, body }));
  }
  const { value } = body;
  let at = varint(SEQ_TAG, 0);
  at = varint(Number(seq), at);
  at = varint((DATA_FIELDS[body.case] << 3) | LENGTH_DELIMITED, at);
  at = varint(value.length, at);
  const frame = Buffer.allocUnsafeSlow(at + value.length);
  header.copy(frame, 0, 0, at);
  frame.set(value, at);
  return frame;
}

/** Gives where it ends. Sequence numbers of a stream stay far below 2^53. */
function varint(value: number, offset: number): number {
  let at = offset;
  let rest = value;
  while (rest >= 0x80) {
    header[at] = (rest % 0x80) | 0x80;
    rest = Math.floor(rest / 0x80);
    at += 1;
  }
  header[at] = rest;
  return at + 1;
}
