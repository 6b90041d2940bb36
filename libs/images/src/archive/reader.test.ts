import assert from "node:assert/strict";
import { test } from "node:test";
import { StatusError } from "@berth/base";
import { buildTar, tarEntry, type TarInput } from "../testing/tar.ts";
import { defaultArchiveLimits, type ArchiveLimits, type TarEntry } from "./entry.ts";
import { TarReader } from "./reader.ts";

interface Read {
  readonly entry: TarEntry;
  readonly data: Buffer;
}

function read(archive: Buffer, chunkBytes = archive.length, limits: ArchiveLimits = defaultArchiveLimits): Read[] {
  const found: { entry: TarEntry; parts: { offset: number; bytes: Buffer }[]; ended: boolean }[] = [];
  const reader = new TarReader(
    {
      entry: (entry) => void found.push({ entry, parts: [], ended: false }),
      data: (chunk, offset) => void found.at(-1)!.parts.push({ offset, bytes: Buffer.from(chunk) }),
      endEntry: () => void (found.at(-1)!.ended = true),
    },
    limits,
  );
  for (let at = 0; at < archive.length; at += chunkBytes) reader.push(archive.subarray(at, at + chunkBytes));
  reader.end();
  return found.map(({ entry, parts, ended }) => {
    assert.ok(ended, "every entry ends");
    const data = Buffer.alloc(entry.sizeBytes);
    for (const { offset, bytes } of parts) bytes.copy(data, offset);
    return { entry, data };
  });
}

function refusal(archive: Buffer, limits?: ArchiveLimits): string {
  try {
    read(archive, archive.length, limits);
  } catch (error) {
    assert.ok(error instanceof StatusError, String(error));
    assert.equal(error.reason, /more than \d+/.test(error.message) ? "LAYER_TOO_LARGE" : "LAYER_INVALID");
    return error.message;
  }
  throw new Error("was read");
}

const one = (input: TarInput): Read => read(buildTar([input]))[0]!;

test("TarReader reads names, numbers and data, however the bytes are cut", () => {
  const archive = buildTar([
    { name: "a", data: "hello", mode: 0o4711, uid: 1000, gid: 100, mtime: 1234 },
    { name: "d/", type: "5" },
    { name: "x".repeat(100), data: Buffer.alloc(1024, 1) },
    { name: "short", pax: { path: "ä/".repeat(200) + "end" }, data: "p" },
    { name: "l", type: "2", linkName: "target" },
    { name: "c", type: "3", major: 5, minor: 1 },
  ]);
  const whole = read(archive);
  for (const chunkBytes of [1, 7, 511, 512, 513, 1000]) assert.deepEqual(read(archive, chunkBytes), whole);
  const [a, d, , p, l, c] = whole.map(({ entry }) => entry);
  assert.deepEqual([a!.mode, a!.uid, a!.gid, a!.modified.seconds, a!.sizeBytes], [0o4711, 1000, 100, 1234, 5]);
  assert.equal(whole[0]!.data.toString(), "hello");
  assert.equal(d!.type, "directory");
  assert.equal(Buffer.from(p!.name, "latin1").toString(), `${"ä/".repeat(200)}end`);
  assert.equal(l!.linkName, "target");
  assert.deepEqual([c!.deviceMajor, c!.deviceMinor], [5, 1]);
});

test("TarReader reads ustar prefixes, GNU long names and base-256 numbers", () => {
  const prefixed = one({ name: "file", patch: (b) => void b.write("some/prefix", 345) });
  assert.equal(prefixed.entry.name, "some/prefix/file");
  const long = "n".repeat(300);
  const archive = buildTar([
    { name: "././@LongLink", type: "L", data: `${long}\0` },
    { name: "././@LongLink", type: "K", data: `${long}/target\0` },
    { name: "cut", type: "2", linkName: "cut" },
  ]);
  const [entry] = read(archive);
  assert.deepEqual([entry!.entry.name, entry!.entry.linkName], [long, `${long}/target`]);
  const big = one({
    name: "big",
    patch(b) {
      b.fill(0, 108, 116);
      b[108] = 0x80;
      b.writeUInt32BE(3_000_000_000, 112);
      b.fill(0xff, 136, 148);
    },
  });
  assert.equal(big.entry.uid, 3_000_000_000);
  assert.deepEqual(big.entry.modified, { seconds: -1, nanoseconds: 0 });
});

test("TarReader reads pax values: times to the nanosecond, sizes, owners, attributes as bytes", () => {
  const bytes = Buffer.from([0xff, 0, 0x0a, 0x3d]);
  const { entry, data } = one({
    name: "f",
    data: "data",
    size: 0,
    pax: { size: "4", uid: "4000000000", mtime: "1.5", atime: "-1.25", "SCHILY.xattr.user.a": bytes, other: "x" },
  });
  assert.equal(data.toString(), "data");
  assert.equal(entry.uid, 4_000_000_000);
  assert.deepEqual(entry.modified, { seconds: 1, nanoseconds: 500_000_000 });
  assert.deepEqual(entry.accessed, { seconds: -2, nanoseconds: 750_000_000 });
  assert.deepEqual([...entry.xattrs], [["user.a", bytes]]);
});

test("TarReader applies global pax headers until others follow, and local ones over them", () => {
  const global = (pairs: Record<string, string>): TarInput => ({
    name: "g",
    type: "g",
    data: Buffer.concat(Object.entries(pairs).map(([k, v]) => Buffer.from(`${k.length + v.length + 5} ${k}=${v}\n`))),
  });
  const archive = buildTar([
    global({ uid: "77777" }),
    { name: "a" },
    { name: "b", pax: { uid: "88888" } },
    { name: "c" },
  ]);
  assert.deepEqual(
    read(archive).map(({ entry }) => entry.uid),
    [77777, 88888, 77777],
  );
});

test("TarReader reads sparse files in all four formats", () => {
  const expected = Buffer.alloc(10_000);
  expected.write("one", 512);
  expected.write("two", 9_000);
  const octal = (n: number): string => `${n.toString(8).padStart(11, "0")}\0`;
  const old: TarInput = {
    name: "s",
    type: "S",
    data: "onetwo",
    patch(b) {
      b.write("ustar  \0", 257);
      b.write(octal(512) + octal(3) + octal(9_000) + octal(3), 386, "latin1");
      b.write(octal(10_000), 483, "latin1");
    },
  };
  const map = "2\n512\n3\n9000\n3\n";
  const cases: TarInput[] = [
    old,
    {
      name: "s",
      data: "onetwo",
      pax: [
        ["GNU.sparse.size", "10000"],
        ["GNU.sparse.numblocks", "2"],
        ["GNU.sparse.offset", "512"],
        ["GNU.sparse.numbytes", "3"],
        ["GNU.sparse.offset", "9000"],
        ["GNU.sparse.numbytes", "3"],
      ],
    },
    {
      name: "s",
      data: "onetwo",
      pax: { "GNU.sparse.size": "10000", "GNU.sparse.map": "512,3,9000,3", "GNU.sparse.name": "s" },
    },
    {
      name: "GNUSparseFile.1/s",
      data: Buffer.concat([Buffer.from(map), Buffer.alloc(512 - map.length), Buffer.from("onetwo")]),
      pax: { "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "s", "GNU.sparse.realsize": "10000" },
    },
  ];
  for (const input of cases) {
    for (const chunkBytes of [1, 512, 100_000]) {
      const [{ entry, data }] = read(buildTar([input, { name: "after", data: "x" }]), chunkBytes) as [Read];
      assert.equal(entry.name, "s");
      assert.ok(data.equals(expected), JSON.stringify(input.pax));
    }
  }
});

test("TarReader takes an archive without its closing blocks, and ignores what follows them", () => {
  assert.equal(read(tarEntry({ name: "a", data: "x" })).length, 1);
  assert.equal(read(Buffer.concat([buildTar([{ name: "a" }]), Buffer.alloc(5000, 9)])).length, 1);
  assert.deepEqual(read(Buffer.alloc(1024)), []);
});

test("TarReader refuses damaged and oversized archives, and says why", () => {
  const limits = { ...defaultArchiveLimits, maxEntries: 2, maxTotalBytes: 100, maxHeaderBytes: 600 };
  const file = { name: "a", data: "x" };
  const cases: [Buffer, RegExp, ArchiveLimits?][] = [
    [buildTar([{ ...file, badChecksum: true, patch: (b) => void (b[0] = 66) }]), /checksum/],
    [Buffer.alloc(512, 1), /checksum/],
    [tarEntry({ name: "a", data: "x".repeat(600) }).subarray(0, 800), /breaks off/],
    [tarEntry(file).subarray(0, 300), /breaks off/],
    [Buffer.concat([Buffer.alloc(512), tarEntry(file)]), /follows a block of zeros/],
    [buildTar([{ name: "a", type: "V" }]), /type "V" is not known/],
    [buildTar([{ name: "a", patch: (b) => void b.write("9x", 100) }]), /mode is not an octal number/],
    [buildTar([{ name: "a", patch: (b) => void b.fill(0xff, 124, 136) }]), /size is negative/],
    [buildTar([{ name: "p", type: "x", data: "999 path=x\n" }]), /record's length/],
    [buildTar([{ name: "p", type: "x", data: "8 =value\n" }]), /record/],
    [buildTar([{ name: "a", pax: { path: Buffer.from("a\0b") } }]), /NUL/],
    [buildTar([{ name: "a", pax: { size: "-1" } }]), /not a number/],
    [buildTar([{ name: "a", pax: { uid: "4294967295" } }]), /uid 4294967295 is out of range/],
    [buildTar([{ name: "a", pax: { mtime: "soon" } }]), /no time/],
    [buildTar([{ name: "p", type: "x", data: "12 mtime=12\n" }]), /has no entry/],
    [buildTar([{ ...file, pax: { "GNU.sparse.size": "5", "GNU.sparse.map": "9,1" } }]), /leaves the file/],
    [buildTar([{ ...file, pax: { "GNU.sparse.size": "9", "GNU.sparse.map": "0,2" } }]), /does not fit/],
    [buildTar([{ ...file, pax: { "GNU.sparse.size": "9", "GNU.sparse.map": "0" } }]), /without a length/],
    [buildTar([file, file, file]), /more than 2 entries/, limits],
    [buildTar([{ name: "a", data: "x".repeat(101) }]), /more than 100 bytes of data/, limits],
    [buildTar([{ name: "a", pax: { comment: "x".repeat(700) } }]), /header of \d+ bytes/, limits],
    [
      buildTar([
        {
          name: "a",
          data: Buffer.alloc(4096, "1\n"),
          pax: { "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9" },
          patch: () => {},
        },
      ]),
      /sparse map/,
    ],
  ];
  for (const [archive, message, given] of cases) assert.match(refusal(archive, given), message);
});

test("TarReader reads attributes as libarchive writes them, in either form", () => {
  const value = Buffer.from([0, 1, 0xff, 0x3d]);
  const base64 = value.toString("base64").replaceAll("=", "");
  const { entry } = one({
    name: "f",
    pax: {
      hdrcharset: "BINARY",
      path: Buffer.from([0x66, 0xff]),
      "LIBARCHIVE.xattr.user.a%20b": base64,
      "LIBARCHIVE.xattr.user.c": base64,
      "SCHILY.xattr.user.c": "plain",
    },
  });
  assert.equal(entry.name, "f\xff");
  assert.deepEqual([...entry.xattrs].reverse(), [
    ["user.a b", value],
    ["user.c", Buffer.from("plain")],
  ]);
  const many = Object.fromEntries(Array.from({ length: 1025 }, (_, i) => [`SCHILY.xattr.user.${i}`, "x"]));
  assert.throws(() => one({ name: "f", pax: many }), /more than 1024 attributes/);
});

test("TarReader keeps the pax header of an old GNU sparse file with more than four runs", () => {
  const octal = (n: number): string => `${n.toString(8).padStart(11, "0")}\0`;
  const runs = Array.from({ length: 6 }, (_, i) => octal(i * 1000) + octal(1)).join("");
  const extra = Buffer.alloc(512);
  extra.write(runs.slice(4 * 24), 0, "latin1");
  const { entry, data } = one({
    name: "s",
    type: "S",
    data: "abcdef",
    pax: { "SCHILY.xattr.user.x": "y", mtime: "1.5" },
    extra,
    patch(b) {
      b.write("ustar  \0", 257);
      b.write(runs.slice(0, 4 * 24), 386, "latin1");
      b[482] = 1;
      b.write(octal(6000), 483, "latin1");
    },
  });
  assert.deepEqual([entry.sizeBytes, entry.modified.nanoseconds, entry.xattrs.size], [6000, 500_000_000, 1]);
  assert.equal(data.toString("latin1").replaceAll("\0", ""), "abcdef");
});
