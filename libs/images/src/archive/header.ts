/** One 512-byte header block: v7, ustar and GNU (POSIX.1-2017 pax "ustar Interchange Format"; tar.h of GNU tar). */
import type { Timestamp } from "@berth/linux";
import { invalidArchive, showName, type SparseRun } from "./entry.ts";

export const BLOCK = 512;

export interface Header {
  readonly name: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Bytes of data that follow in the archive. */
  readonly storedBytes: number;
  readonly modifiedSeconds: number;
  /** The type flag as a character; "0" for the old NUL. */
  readonly flag: string;
  readonly linkName: string;
  readonly deviceMajor: number;
  readonly deviceMinor: number;
  /** Old GNU sparse (flag "S"). */
  readonly gnuSparse: { readonly runs: SparseRun[]; readonly more: boolean; readonly realBytes: number } | undefined;
}

/** The header, or undefined for a block of zeros. @throws LAYER_INVALID for a wrong checksum or an unreadable number */
export function parseHeader(block: Buffer): Header | undefined {
  if (!checksumHolds(block)) {
    if (isZero(block)) return undefined;
    throw invalidArchive("archive is damaged: a header's checksum is wrong, or this is no tar archive");
  }
  const magic = block.toString("latin1", 257, 263);
  const gnu = magic === "ustar ";
  const name = text(block, 0, 100);
  const prefix = magic === "ustar\0" ? text(block, 345, 155) : "";
  const fullName = prefix === "" ? name : `${prefix}/${name}`;
  const flag = block[156] === 0 ? "0" : String.fromCharCode(block[156]!);
  const number = (offset: number, length: number, field: string): number =>
    parseNumber(block, offset, length, field, fullName);
  return {
    name: fullName,
    mode: number(100, 8, "mode") & 0o7777,
    uid: number(108, 8, "uid"),
    gid: number(116, 8, "gid"),
    storedBytes: size(number(124, 12, "size"), fullName),
    modifiedSeconds: number(136, 12, "mtime"),
    flag,
    linkName: text(block, 157, 100),
    deviceMajor: magic.startsWith("ustar") ? number(329, 8, "devmajor") : 0,
    deviceMinor: magic.startsWith("ustar") ? number(337, 8, "devminor") : 0,
    gnuSparse:
      gnu && flag === "S"
        ? {
            runs: sparseRuns(block, 386, 4, fullName),
            more: block[482] !== 0,
            realBytes: size(number(483, 12, "realsize"), fullName),
          }
        : undefined,
  };
}

/** Runs of an old GNU sparse header or of one of its extension blocks; a run of two zeros ends the list. */
export function sparseRuns(block: Buffer, offset: number, count: number, name: string): SparseRun[] {
  const runs: SparseRun[] = [];
  for (let at = offset; at < offset + count * 24; at += 24) {
    if (block[at] === 0) break;
    runs.push({
      offset: size(parseNumber(block, at, 12, "sparse offset", name), name),
      length: size(parseNumber(block, at + 12, 12, "sparse length", name), name),
    });
  }
  return runs;
}

/** Decimal seconds of a pax record, such as `1700000000.123456789` or `-1.5`. */
export function parseTimestamp(value: string, name: string): Timestamp {
  const match = /^(-?)(\d{1,15})(?:\.(\d*))?$/.exec(value);
  if (match === null) throw invalidArchive(`entry ${showName(name)}: ${JSON.stringify(value.slice(0, 40))} is no time`);
  const whole = Number(match[2]);
  const nanoseconds = Number((match[3] ?? "").slice(0, 9).padEnd(9, "0"));
  if (match[1] === "") return { seconds: whole, nanoseconds };
  // Nanoseconds always count forward: -1.5 s is -2 s and half a second.
  return nanoseconds === 0
    ? { seconds: -whole, nanoseconds: 0 }
    : { seconds: -whole - 1, nanoseconds: 1_000_000_000 - nanoseconds };
}

function text(block: Buffer, offset: number, length: number): string {
  const end = block.indexOf(0, offset);
  return block.toString("latin1", offset, end < 0 || end > offset + length ? offset + length : end);
}

/** Octal text, or base 256 where the first bit is set (GNU, star); blank is 0. */
function parseNumber(block: Buffer, offset: number, length: number, field: string, name: string): number {
  const first = block[offset]!;
  if ((first & 0x80) !== 0) return parseBase256(block, offset, length, field, name);
  let value = 0;
  let digits = 0;
  for (let at = offset; at < offset + length; at += 1) {
    const byte = block[at]!;
    if (byte >= 0x30 && byte <= 0x37) {
      value = value * 8 + (byte - 0x30);
      digits += 1;
    } else if (byte === 0x20 || byte === 0) {
      if (digits > 0) break;
    } else {
      throw invalidArchive(`entry ${showName(name)}: its ${field} is not an octal number`);
    }
  }
  return value;
}

function parseBase256(block: Buffer, offset: number, length: number, field: string, name: string): number {
  const negative = (block[offset]! & 0x40) !== 0;
  let value = negative ? -1n : 0n;
  for (let at = offset; at < offset + length; at += 1) {
    const byte = at === offset ? (block[at]! & 0x7f) | (negative ? 0x80 : 0) : block[at]!;
    value = (value << 8n) | BigInt(byte);
  }
  const result = Number(BigInt.asIntN(length * 8, value));
  if (!Number.isSafeInteger(result)) throw invalidArchive(`entry ${showName(name)}: its ${field} is out of range`);
  return result;
}

function size(value: number, name: string): number {
  if (value < 0 || !Number.isSafeInteger(value)) throw invalidArchive(`entry ${showName(name)}: its size is negative`);
  return value;
}

/** The sum of all bytes, the checksum field counting as blanks; old tars summed signed bytes. */
function checksumHolds(block: Buffer): boolean {
  const stored = storedChecksum(block);
  const unsigned = sumOfBytes(block, 0, 148) + sumOfBytes(block, 156, BLOCK) + 8 * 0x20;
  if (stored === unsigned) return true;
  let high = 0;
  for (let at = 0; at < BLOCK; at += 1) if ((at < 148 || at >= 156) && block[at]! > 127) high += 1;
  return stored === unsigned - 256 * high;
}

/** Adds four bytes at a time, in two lanes of 16 bits: 128 additions of at most 2 * 255 fit. Bounds are multiples of 4. */
function sumOfBytes(block: Buffer, start: number, end: number): number {
  let lanes = 0;
  for (let at = start; at < end; at += 4) {
    const word = block[at]! | (block[at + 1]! << 8) | (block[at + 2]! << 16) | (block[at + 3]! << 24);
    if (word !== 0) lanes += (word & 0x00ff00ff) + ((word >>> 8) & 0x00ff00ff);
  }
  return (lanes & 0xffff) + (lanes >>> 16);
}

/** Octal digits, with blanks and NULs anywhere; -1 for anything else. */
function storedChecksum(block: Buffer): number {
  let value = -1;
  for (let at = 148; at < 156; at += 1) {
    const byte = block[at]!;
    if (byte >= 0x30 && byte <= 0x37) value = Math.max(value, 0) * 8 + byte - 0x30;
    else if (byte !== 0x20 && byte !== 0) return -1;
  }
  return value;
}

function isZero(block: Buffer): boolean {
  for (let at = 0; at < BLOCK; at += 1) if (block[at] !== 0) return false;
  return true;
}
