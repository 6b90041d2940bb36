import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { StatusError } from "@berth/base";
import { Decompressor, detectCompression, type DecompressOptions } from "./decompress.ts";

const plain = Buffer.concat([randomBytes(300_000), Buffer.alloc(5_000_000, "abc")]);
const none = (): undefined => undefined;

async function decompress(
  input: Buffer,
  find?: DecompressOptions["findProgram"],
  chunkBytes = 50_000,
): Promise<Buffer> {
  const chunks: Buffer[] = [];
  const onData = (chunk: Buffer): void => void chunks.push(Buffer.from(chunk));
  using stage = new Decompressor({ onData, ...(find === undefined ? {} : { findProgram: find }) });
  for (let at = 0; at < input.length; at += chunkBytes) await stage.write(input.subarray(at, at + chunkBytes));
  await stage.end();
  return Buffer.concat(chunks);
}

const sha = (bytes: Buffer): string => createHash("sha256").update(bytes).digest("hex");

test("detectCompression goes by the first bytes", () => {
  assert.equal(detectCompression(gzipSync("x")), "gzip");
  assert.equal(detectCompression(Buffer.from("28b52ffd00", "hex")), "zstd");
  assert.equal(detectCompression(Buffer.from("etc/")), "none");
  assert.equal(detectCompression(Buffer.alloc(0)), "none");
});

for (const [how, find] of [
  ["the program that is installed", undefined],
  ["node:zlib", none],
] as const) {
  test(`Decompressor reads one and many gzip members through ${how}`, async () => {
    const members = Buffer.concat([0, 1, 2].map((i) => gzipSync(plain.subarray(i * 1_000_000, (i + 1) * 1_000_000))));
    assert.equal(sha(await decompress(gzipSync(plain), find)), sha(plain));
    assert.equal(sha(await decompress(members, find, 777)), sha(plain.subarray(0, 3_000_000)));
  });

  test(`Decompressor refuses damaged and truncated gzip through ${how}`, async () => {
    const whole = gzipSync(plain);
    const damaged = Buffer.from(whole);
    damaged.fill(0, 100_000, 100_100);
    for (const input of [damaged, whole.subarray(0, whole.length - 5_000)]) {
      await assert.rejects(decompress(input, find), (error: unknown) => {
        assert.ok(error instanceof StatusError && error.reason === "LAYER_INVALID", String(error));
        return true;
      });
    }
  });

  test(`Decompressor passes on what its reader throws through ${how}`, async () => {
    using stage = new Decompressor({
      onData: () => {
        throw new StatusError("RESOURCE_EXHAUSTED", "full", { reason: "DISK_FULL" });
      },
      ...(find === undefined ? {} : { findProgram: find }),
    });
    const feeding = async (): Promise<void> => {
      await stage.write(gzipSync(plain));
      await stage.end();
    };
    await assert.rejects(feeding(), { reason: "DISK_FULL" });
  });
}

test("Decompressor reads many zstd frames, or says what to install", async () => {
  const zstd = (input: Buffer): Buffer => execFileSync("zstd", ["-q", "-c"], { input, maxBuffer: 1e8 });
  const frames = Buffer.concat([zstd(plain.subarray(0, 400_000)), zstd(plain.subarray(400_000))]);
  assert.equal(sha(await decompress(frames)), sha(plain));
  await assert.rejects(decompress(frames, none), { code: "FAILED_PRECONDITION", reason: "LAYER_ZSTD_MISSING" });
});

test("Decompressor passes plain bytes and very short ones through", async () => {
  assert.equal(sha(await decompress(plain)), sha(plain));
  for (const short of ["", "a", "abc"]) assert.equal((await decompress(Buffer.from(short), none, 1)).toString(), short);
});
