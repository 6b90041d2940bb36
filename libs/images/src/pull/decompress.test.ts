import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { StatusError } from "@berth/base";
import { defaultArchiveLimits } from "../archive/entry.ts";
import { Decompressor, detectCompression, type DecompressOptions } from "./decompress.ts";
import type { StreamProcessor } from "./stream-processors.ts";
import { ZstdFrameCutter } from "./zstd-frames.ts";

const plain = Buffer.concat([randomBytes(300_000), Buffer.alloc(5_000_000, "abc")]);
const none = (): undefined => undefined;

/** Each way of decompressing, by what is kept from being used. */
const ways: readonly (readonly [how: string, way: Partial<DecompressOptions>])[] = [
  ["the library that is installed", { findProgram: none }],
  ["the program that is installed", { without: ["libisal", "libzstd"] }],
  ["node:zlib", { without: ["libisal", "libzstd"], findProgram: none }],
];

async function decompress(
  input: Buffer,
  way: Partial<DecompressOptions> = {},
  chunkBytes = 50_000,
  more: Partial<DecompressOptions> = {},
): Promise<Buffer> {
  const chunks: Buffer[] = [];
  const onData = (chunk: Buffer): void => void chunks.push(Buffer.from(chunk));
  using stage = new Decompressor({ onData, ...way, ...more });
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

for (const [how, way] of ways) {
  test(`Decompressor reads one and many gzip members through ${how}`, async () => {
    const members = Buffer.concat([0, 1, 2].map((i) => gzipSync(plain.subarray(i * 1_000_000, (i + 1) * 1_000_000))));
    assert.equal(sha(await decompress(gzipSync(plain), way)), sha(plain));
    assert.equal(sha(await decompress(members, way, 777)), sha(plain.subarray(0, 3_000_000)));
  });

  test(`Decompressor refuses damaged and truncated gzip through ${how}`, async () => {
    const whole = gzipSync(plain);
    const damaged = Buffer.from(whole);
    damaged.fill(0, 100_000, 100_100);
    for (const input of [damaged, whole.subarray(0, whole.length - 5_000)]) {
      await assert.rejects(decompress(input, way), (error: unknown) => {
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
      ...way,
    });
    const feeding = async (): Promise<void> => {
      await stage.write(gzipSync(plain));
      await stage.end();
    };
    await assert.rejects(feeding(), { reason: "DISK_FULL" });
  });
}

const zstd = (input: Buffer, ...args: string[]): Buffer =>
  execFileSync("zstd", ["-q", "-c", ...args], { input, maxBuffer: 1e8 });
const skippable = (bytes: number): Buffer => {
  const frame = Buffer.alloc(8 + bytes, 7);
  frame.writeUInt32LE(0x184d2a53, 0);
  frame.writeUInt32LE(bytes, 4);
  return frame;
};

for (const [how, way] of ways) {
  test(`Decompressor reads many and skippable zstd frames through ${how}`, async () => {
    const frames = Buffer.concat([
      skippable(5),
      zstd(plain.subarray(0, 400_000)),
      skippable(0),
      zstd(plain.subarray(400_000, 400_001)),
      zstd(Buffer.alloc(0)),
      zstd(plain.subarray(400_001, 2_000_000), "--no-check", "-19"),
      skippable(100_000),
      zstd(plain.subarray(2_000_000), "--stream-size=3300000"),
    ]);
    for (const chunkBytes of [1000, 50_000, 1e7]) {
      assert.equal(sha(await decompress(frames, way, chunkBytes)), sha(plain), `${chunkBytes}`);
    }
    const small = Buffer.concat(
      Array.from({ length: 300 }, (_, i) => zstdCompressSync(plain.subarray(i * 10, i * 10 + 10))),
    );
    assert.equal(sha(await decompress(small, way, 7)), sha(plain.subarray(0, 3_000)));
  });

  test(`Decompressor refuses damaged and truncated zstd through ${how}`, async () => {
    const whole = Buffer.concat([zstd(plain.subarray(0, 400_000)), zstd(plain.subarray(400_000))]);
    const damaged = Buffer.from(whole);
    damaged.fill(0, 100_000, 100_100);
    for (const input of [
      damaged,
      whole.subarray(0, whole.length - 5),
      Buffer.concat([whole, Buffer.from("nonsense")]),
    ]) {
      await assert.rejects(decompress(input, way), { reason: "LAYER_INVALID" });
    }
  });

  test(`Decompressor stops at a bomb through ${how}`, async () => {
    const limits = { ...defaultArchiveLimits, maxRatio: 50, ratioFreeBytes: 1_000_000 };
    for (const bomb of [gzipSync(Buffer.alloc(20_000_000)), zstd(Buffer.alloc(20_000_000))]) {
      await assert.rejects(decompress(bomb, way, 10_000, { limits }), {
        reason: "LAYER_TOO_LARGE",
        message: /50 times/,
      });
    }
    const small = { ...limits, maxRatio: 1e6, maxTotalBytes: 1_000_000, maxEntries: 10 };
    await assert.rejects(decompress(gzipSync(plain), way, 10_000, { limits: small }), {
      message: /more than 1020480 bytes/,
    });
  });
}

test("ZstdFrameCutter gives frames whole, however the bytes are cut", () => {
  const parts = [
    zstd(plain.subarray(0, 100)),
    skippable(9),
    zstd(plain.subarray(280_000, 400_000), "--no-check"),
    skippable(0),
  ];
  const input = Buffer.concat(parts);
  for (const step of [1, 5, 4096, input.length]) {
    const cutter = new ZstdFrameCutter();
    const frames: Buffer[] = [];
    let current: Buffer[] = [];
    for (let at = 0; at < input.length; at += step) {
      for (const { bytes, last } of cutter.push(input.subarray(at, at + step))) {
        current.push(Buffer.from(bytes));
        if (last) frames.push(Buffer.concat(current.splice(0)));
      }
    }
    assert.ok(cutter.complete && current.length === 0);
    assert.deepEqual(frames.map(sha), [sha(parts[0]!), sha(parts[2]!)], `in steps of ${step}`);
  }
});

test("Decompressor goes without what an operator does not want, and for small layers without any program", async () => {
  const asked: string[] = [];
  const findProgram = (name: string): undefined => void asked.push(name);
  await decompress(gzipSync(plain), { findProgram });
  assert.deepEqual(asked, [], "the library is there");
  await decompress(gzipSync(plain), { findProgram, without: ["libisal", "igzip"] });
  assert.deepEqual(asked.splice(0), ["unpigz"]);
  await decompress(gzipSync(plain), { findProgram, without: ["libisal"] });
  assert.deepEqual(asked.splice(0), ["igzip", "unpigz"]);
  await decompress(gzipSync(plain), { findProgram, without: ["libisal"], sizeBytes: 1000 });
  assert.deepEqual(asked, []);
  const unpigz = (name: string): string | undefined => (name === "unpigz" ? "/usr/bin/unpigz" : undefined);
  assert.equal(
    sha(
      await decompress(Buffer.concat([gzipSync(plain), gzipSync("x")]), { findProgram: unpigz, without: ["libisal"] }),
    ),
    sha(Buffer.concat([plain, Buffer.from("x")])),
  );
});

test("Decompressor reads gzip cut anywhere, with what it is padded with, and notices a wrong checksum and length", async () => {
  const members = Buffer.concat([gzipSync(plain.subarray(0, 3000), { level: 1 }), gzipSync(""), gzipSync("end")]);
  const whole = Buffer.concat([plain.subarray(0, 3000), Buffer.from("end")]);
  for (const [how, way] of ways) {
    for (let chunkBytes = 1; chunkBytes < members.length; chunkBytes = Math.ceil(chunkBytes * 1.7)) {
      assert.equal(sha(await decompress(members, way, chunkBytes)), sha(whole), `${how}, ${chunkBytes} at a time`);
    }
    assert.equal(sha(await decompress(Buffer.concat([members, Buffer.alloc(512)]), way, 100)), sha(whole), how);
    for (const fromEnd of [8, 4]) {
      const wrong = gzipSync(plain);
      wrong[wrong.length - fromEnd]! ^= 1;
      await assert.rejects(decompress(wrong, way), { reason: "LAYER_INVALID" }, `${how}, ${fromEnd} from the end`);
    }
  }
});

test("Decompressor survives gzip and zstd with any byte changed or cut off, in the library as in node:zlib", async () => {
  const small = Buffer.concat([plain.subarray(0, 200), Buffer.alloc(2000, "abcd"), plain.subarray(0, 1000)]);
  for (const input of [gzipSync(small), zstd(small)]) {
    for (let n = 0; n < 600; n += 1) {
      const bent = Buffer.from(input);
      const at = (n * 7919) % bent.length;
      bent[at]! ^= 1 << (n % 8);
      const cut = n % 5 === 0 ? bent.subarray(0, at + 1) : bent;
      const [theirs, ours] = await Promise.all(
        [ways[2]![1], ways[0]![1]].map((way) => decompress(cut, way, 97).then(sha, () => "refused")),
      );
      // Header fields that nothing depends on are looked at more or less closely.
      if (at < 10 || theirs === "refused") continue;
      assert.equal(ours, theirs, `byte ${at}`);
    }
  }
});

test("Decompressor refuses other compressions by their names", async () => {
  for (const program of ["xz", "bzip2"]) {
    const input = execFileSync(program, ["-c"], { input: plain.subarray(0, 1000) });
    await assert.rejects(decompress(input), {
      reason: "LAYER_UNSUPPORTED",
      message: new RegExp(`compressed with ${program}`),
    });
  }
});

const sh = (
  id: string,
  accepts: string,
  returns: string,
  script: string,
  more: Partial<StreamProcessor> = {},
): StreamProcessor => ({
  id,
  accepts: [accepts],
  returns,
  program: "/bin/sh",
  args: ["-c", script],
  ...more,
});

test("Decompressor sends a layer through the processors that its media type asks for", async () => {
  const secret = "swordfish";
  const encrypt = ["enc", "-aes-256-ctr", "-pbkdf2", "-pass", `pass:${secret}`];
  const encrypted = execFileSync("openssl", encrypt, { input: gzipSync(plain), maxBuffer: 1e8 });
  const decode = "exec openssl enc -d -aes-256-ctr -pbkdf2 -pass fd:3";
  const processors = [
    sh(
      "unwrap",
      "application/x.wrapped",
      "application/x.encrypted",
      'test "$STREAM_PROCESSOR_MEDIATYPE" = application/x.wrapped && test "$HOME" = "" && exec tail -c +5',
    ),
    sh("decrypt", "application/x.encrypted", "application/vnd.oci.image.layer.v1.tar+gzip", decode, {
      payload: Buffer.from(secret),
    }),
  ];
  const wrapped = Buffer.concat([Buffer.from("WRAP"), encrypted]);
  for (const [input, mediaType] of [
    [wrapped, "application/x.wrapped"],
    [encrypted, "application/x.encrypted"],
  ] as const) {
    assert.equal(sha(await decompress(input, {}, 50_000, { mediaType, processors })), sha(plain));
    assert.equal(
      sha(
        await decompress(input, { findProgram: none }, 3_333, { mediaType, processors: structuredClone(processors) }),
      ),
      sha(plain),
    );
  }
  const plainType = "application/vnd.oci.image.layer.v1.tar+gzip";
  assert.equal(sha(await decompress(gzipSync(plain), {}, 50_000, { mediaType: plainType, processors })), sha(plain));
});

test("Decompressor says which processor failed, and what it said", async () => {
  const mediaType = "application/x";
  const run = (script: string): Promise<Buffer> =>
    decompress(plain, {}, 50_000, { mediaType, processors: [sh("broken", mediaType, "y", script)] });
  await assert.rejects(run("echo no such key >&2; exit 3"), {
    reason: "LAYER_INVALID",
    message: /"broken" processed data cannot be read .*code 3: no such key/,
  });
  await assert.rejects(run("cat; exit 1"), { reason: "LAYER_INVALID" });
  const circle = [sh("a", "x", "y", "cat"), sh("b", "y", "x", "cat")];
  await assert.rejects(async () => decompress(plain, {}, 1, { mediaType: "x", processors: circle }), {
    reason: "STREAM_PROCESSORS_INVALID",
  });
});

test("Decompressor ends its processors when it is disposed of", async () => {
  const folder = mkdtempSync(join(tmpdir(), "berth-processor-"));
  const mediaType = "application/x";
  const script = `echo $$ > ${folder}/pid; exec cat > /dev/null`;
  const pid = await (async () => {
    using stage = new Decompressor({
      onData: () => {},
      mediaType,
      processors: [sh("endless", mediaType, "y", script)],
    });
    await stage.write(plain.subarray(0, 1000));
    await eventually(() => readFileSync(join(folder, "pid"), "utf8").trim() !== "");
    return Number(readFileSync(join(folder, "pid"), "utf8"));
  })();
  await eventually(() => !existsSync(`/proc/${pid}`) || readFileSync(`/proc/${pid}/stat`, "utf8").includes(") Z"));
  rmSync(folder, { recursive: true });
});

async function eventually(holds: () => boolean): Promise<void> {
  for (let tries = 0; tries < 2000; tries += 1) {
    try {
      if (holds()) return;
    } catch {
      // Not there yet.
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error("did not come to hold");
}

test("Decompressor passes plain bytes and very short ones through", async () => {
  assert.equal(sha(await decompress(plain)), sha(plain));
  for (const short of ["", "a", "abc"])
    assert.equal((await decompress(Buffer.from(short), { findProgram: none }, 1)).toString(), short);
});
