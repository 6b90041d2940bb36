/** pax extended headers: records `LENGTH KEY=VALUE\n`, values being bytes (POSIX.1-2017 pax, "pax Header Block"). */
import { invalidArchive, showName, type SparseRun } from "./entry.ts";

const XATTR = "SCHILY.xattr.";
/** libarchive's own form: the name is escaped as in a URL, the value is base 64 without padding. */
const LIBARCHIVE_XATTR = "LIBARCHIVE.xattr.";

/** More than any file system holds for one file; each costs a system call. */
const MAX_XATTRS = 1024;
/** What is read of a header; the rest (comments, charsets: names are bytes here) is not kept. */
const KNOWN = new Set([
  "path",
  "linkpath",
  "size",
  "uid",
  "gid",
  "mtime",
  "atime",
  "GNU.sparse.major",
  "GNU.sparse.minor",
  "GNU.sparse.name",
  "GNU.sparse.realsize",
  "GNU.sparse.size",
  "GNU.sparse.numblocks",
  "GNU.sparse.map",
]);

/** The records of a header that are used here. */
export interface PaxRecords {
  /** Byte strings by key; an empty one takes a key of a global header back. */
  readonly values: ReadonlyMap<string, string>;
  readonly xattrs: ReadonlyMap<string, Buffer>;
  /** GNU sparse 0.0, which repeats keys. */
  readonly sparseRuns: readonly SparseRun[];
}

export const noPaxRecords: PaxRecords = { values: new Map(), xattrs: new Map(), sparseRuns: [] };

/** @throws LAYER_INVALID for a record that is not well-formed */
export function parsePax(bytes: Buffer): PaxRecords {
  const values = new Map<string, string>();
  const xattrs = new Map<string, Buffer>();
  const escaped = new Map<string, Buffer>();
  const numbers: number[] = [];
  for (let at = 0; at < bytes.length;) {
    const { key, value, next } = parseRecord(bytes, at);
    at = next;
    if (key.startsWith(XATTR)) xattrs.set(attributeName(key.slice(XATTR.length)), Buffer.from(value));
    else if (key.startsWith(LIBARCHIVE_XATTR)) {
      escaped.set(
        attributeName(unescaped(key.slice(LIBARCHIVE_XATTR.length))),
        Buffer.from(value.toString("latin1"), "base64"),
      );
    } else if (key === "GNU.sparse.offset" || key === "GNU.sparse.numbytes")
      numbers.push(decimal(value.toString("latin1"), key));
    else if (KNOWN.has(key)) values.set(key, textOf(key, value));
  }
  if (xattrs.size + escaped.size > MAX_XATTRS) throw invalidArchive(`pax header: more than ${MAX_XATTRS} attributes`);
  // libarchive writes both forms; the plain one needs no decoding.
  for (const [name, value] of escaped) if (!xattrs.has(name)) xattrs.set(name, value);
  return { values, xattrs, sparseRuns: pairs(numbers) };
}

/** Local records over global ones. */
export function mergePax(global: PaxRecords, local: PaxRecords): PaxRecords {
  if (global.values.size === 0 && global.xattrs.size === 0) return local;
  if (local === noPaxRecords) return global;
  return {
    values: new Map([...global.values, ...local.values]),
    xattrs: new Map([...global.xattrs, ...local.xattrs]),
    sparseRuns: local.sparseRuns,
  };
}

/** What a global header says of all later entries: no sparse maps, which belong to one file (and would be read for each). */
export function globalPax(before: PaxRecords, header: PaxRecords): PaxRecords {
  const { values, xattrs } = mergePax(before, header);
  const kept = [...values].filter(([key, value]) => value !== "" && !key.startsWith("GNU.sparse."));
  return { values: new Map(kept), xattrs, sparseRuns: [] };
}

/** A whole number from 0 on. */
export function decimal(text: string, what: string): number {
  const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(value)) throw invalidArchive(`pax header: ${showName(what)} is not a number`);
  return value;
}

/** Offsets and lengths in turn, as runs. */
export function pairs(numbers: readonly number[]): SparseRun[] {
  if (numbers.length % 2 !== 0) throw invalidArchive("sparse map: an offset without a length");
  return Array.from({ length: numbers.length / 2 }, (_, i) => ({
    offset: numbers[2 * i]!,
    length: numbers[2 * i + 1]!,
  }));
}

function parseRecord(bytes: Buffer, at: number): { key: string; value: Buffer; next: number } {
  const space = bytes.indexOf(0x20, at);
  const digits = space < 0 || space - at > 10 ? "" : bytes.toString("latin1", at, space);
  const length = /^[1-9]\d*$/.test(digits) ? Number(digits) : 0;
  const end = at + length - 1;
  if (length === 0 || end >= bytes.length || end <= space || bytes[end] !== 0x0a) {
    throw invalidArchive("pax header: a record's length is wrong");
  }
  const equals = bytes.indexOf(0x3d, space);
  if (equals < 0 || equals >= end || equals === space + 1) throw invalidArchive("pax header: a record without a key");
  return { key: bytes.toString("latin1", space + 1, equals), value: bytes.subarray(equals + 1, end), next: end + 1 };
}

function textOf(key: string, value: Buffer): string {
  if (value.includes(0)) throw invalidArchive(`pax header: ${showName(key)} contains a NUL byte`);
  return value.toString("latin1");
}

function unescaped(name: string): string {
  return name.replaceAll(/%([0-9a-fA-F]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}

function attributeName(name: string): string {
  const text = Buffer.from(name, "latin1").toString("utf8");
  if (text === "" || text.length > 255 || text.includes("\0")) {
    throw invalidArchive(`pax header: ${showName(name)} cannot be the name of an extended attribute`);
  }
  return text;
}
