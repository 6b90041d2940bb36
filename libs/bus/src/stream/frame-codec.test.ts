import assert from "node:assert/strict";
import { test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { StreamFrameSchema, type StreamFrame } from "@berth/proto";
import { encodeFrame } from "./frame-codec.ts";

const bodies: readonly StreamFrame["body"][] = [
  { case: "stdout", value: Buffer.from("some output") },
  { case: "stderr", value: Buffer.alloc(32 * 1024, 7) },
  { case: "stdin", value: new Uint8Array(0) },
  { case: "stdin", value: Buffer.alloc(200) },
  { case: "credit", value: 12_345 },
  { case: "halfClose", value: true },
  { case: undefined },
];

test("encodeFrame writes what the general encoder writes, of any kind and sequence number", () => {
  for (const body of bodies) {
    for (const seq of [1n, 127n, 128n, 16_384n, 2n ** 31n, 2n ** 32n + 5n, 2n ** 52n]) {
      const expected = toBinary(StreamFrameSchema, create(StreamFrameSchema, { seq, body }));
      assert.ok(Buffer.from(encodeFrame(seq, body)).equals(expected), `${body.case} ${seq}`);
      assert.equal(fromBinary(StreamFrameSchema, encodeFrame(seq, body)).seq, seq);
    }
  }
});
