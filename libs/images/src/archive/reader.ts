/**
 * A streaming tar parser: bytes are pushed in as they come, entries and their data come out at once.
 *
 * Reads v7, ustar, pax (global and local), GNU long names and links, base-256 numbers and all four GNU sparse formats. It
 * allocates nothing larger than `maxHeaderBytes` and copies no file data: what a sink gets is a view of the pushed chunk,
 * valid during the call only. Everything malformed is LAYER_INVALID; it knows nothing of file systems.
 */
import {
  archiveTooLarge,
  defaultArchiveLimits,
  invalidArchive,
  showName,
  type ArchiveLimits,
  type EntryType,
  type SparseRun,
  type TarEntry,
} from "./entry.ts";
import { BLOCK, parseHeader, parseTimestamp, sparseRuns, type Header } from "./header.ts";
import { decimal, globalPax, mergePax, noPaxRecords, pairs, parsePax, type PaxRecords } from "./pax.ts";
import { SparseMap } from "./sparse-map.ts";

export interface TarSink {
  entry(entry: TarEntry): void;
  /** Data of the current file, to be put at `offset`. */
  data(chunk: Buffer, offset: number): void;
  /** The current entry is complete. */
  endEntry(): void;
}

type State =
  | { readonly kind: "header" }
  /** The body of a pax header or of a long name. */
  | { readonly kind: "meta"; readonly flag: string }
  /** Further blocks of an old GNU sparse header. */
  | { readonly kind: "sparse-header"; readonly header: Header; readonly pax: PaxRecords; readonly runs: SparseRun[] }
  /** The map of a pax sparse 1.0 file, at the start of its data. */
  | { readonly kind: "sparse-map"; readonly header: Header; readonly pax: PaxRecords; readonly map: SparseMap }
  | { readonly kind: "data" }
  | { readonly kind: "padding" }
  | { readonly kind: "ended" };

const HEADER: State = { kind: "header" };
const TYPES: Readonly<Record<string, EntryType>> = {
  "0": "file",
  "7": "file",
  S: "file",
  "1": "hardlink",
  "2": "symlink",
  "3": "character",
  "4": "block",
  "5": "directory",
  "6": "fifo",
};
const META_FLAGS = "xgLK";

export class TarReader {
  readonly #sink: TarSink;
  readonly #limits: ArchiveLimits;
  #state: State = HEADER;
  /** Collects a block or a meta body that does not lie in one chunk. */
  #pending = Buffer.alloc(BLOCK);
  #pendingBytes = 0;
  #wantBytes = BLOCK;
  /** Bytes of data, or of padding, that are still to come. */
  #remaining = 0;
  #padding = 0;
  #runs: readonly SparseRun[] = [];
  #run = 0;
  #runDone = 0;
  #zeroBlocks = 0;
  #entries = 0;
  #totalBytes = 0;
  #global: PaxRecords = noPaxRecords;
  #local: PaxRecords | undefined;
  #longName: string | undefined;
  #longLink: string | undefined;

  constructor(sink: TarSink, limits: ArchiveLimits = defaultArchiveLimits) {
    this.#sink = sink;
    this.#limits = limits;
  }

  /** How many entries there were so far. */
  get entries(): number {
    return this.#entries;
  }

  /** Takes the next bytes; the sink is called before this returns. */
  push(chunk: Buffer): void {
    for (let at = 0; at < chunk.length;) {
      switch (this.#state.kind) {
        case "ended":
          return;
        case "data":
          at += this.#takeData(chunk, at);
          break;
        case "padding":
          at += this.#skipPadding(chunk.length - at);
          break;
        case "header":
        case "meta":
        case "sparse-header":
        case "sparse-map":
          at += this.#collect(chunk, at);
          break;
      }
    }
  }

  /**
   * Passes by what comes next of the current file's data and padding, for a caller that can seek: `data` hears nothing of it.
   * @returns how many bytes not to push
   */
  skip(): number {
    let skipped = 0;
    if (this.#state.kind === "data") {
      skipped = this.#remaining;
      this.#remaining = 0;
      this.#sink.endEntry();
      this.#afterData();
    }
    return skipped + this.#skipPadding(this.#state.kind === "padding" ? this.#padding : 0);
  }

  /** There is no more. @throws LAYER_INVALID when the archive breaks off */
  end(): void {
    const complete = this.#state.kind === "ended" || (this.#state.kind === "header" && this.#pendingBytes === 0);
    if (!complete || this.#hasMeta()) throw invalidArchive("archive breaks off in the middle of an entry");
  }

  #collect(chunk: Buffer, at: number): number {
    const take = Math.min(this.#wantBytes - this.#pendingBytes, chunk.length - at);
    if (this.#pendingBytes === 0 && take === this.#wantBytes) {
      this.#block(chunk.subarray(at, at + take));
      return take;
    }
    chunk.copy(this.#pending, this.#pendingBytes, at, at + take);
    this.#pendingBytes += take;
    if (this.#pendingBytes === this.#wantBytes) {
      const block = this.#pending.subarray(0, this.#wantBytes);
      this.#pendingBytes = 0;
      this.#block(block);
    }
    return take;
  }

  #block(block: Buffer): void {
    const state = this.#state;
    switch (state.kind) {
      case "header":
        return this.#header(block);
      case "meta":
        return this.#meta(state.flag, block);
      case "sparse-header":
        return this.#sparseHeader(state.header, state.pax, state.runs, block);
      case "sparse-map":
        return this.#sparseMap(state.header, state.pax, state.map, block);
      case "data":
      case "padding":
      case "ended":
        throw new Error(`no block is due in state ${state.kind}`);
    }
  }

  #header(block: Buffer): void {
    const header = parseHeader(block);
    if (header === undefined) return this.#zeroBlock();
    if (this.#zeroBlocks > 0) throw invalidArchive("archive is damaged: an entry follows a block of zeros");
    if (META_FLAGS.includes(header.flag)) return this.#expectMeta(header);
    const pax = mergePax(this.#global, this.#local ?? noPaxRecords);
    const named = this.#rename(header, pax);
    if (named.gnuSparse?.more) {
      this.#state = { kind: "sparse-header", header: named, pax, runs: named.gnuSparse.runs };
    } else if (pax.values.get("GNU.sparse.major") === "1" && TYPES[named.flag] === "file") {
      if (pax.values.get("GNU.sparse.minor") !== "0") throw invalidArchive("sparse format is newer than 1.0");
      this.#expect({ kind: "sparse-map", header: named, pax, map: new SparseMap(this.#limits.maxHeaderBytes) }, BLOCK);
    } else {
      this.#begin(named, pax, named.gnuSparse?.runs ?? paxRuns(pax));
    }
  }

  #zeroBlock(): void {
    if (this.#hasMeta()) throw invalidArchive("archive ends after a header that has no entry");
    this.#zeroBlocks += 1;
    if (this.#zeroBlocks === 2) this.#state = { kind: "ended" };
  }

  #hasMeta(): boolean {
    return this.#local !== undefined || this.#longName !== undefined || this.#longLink !== undefined;
  }

  #expectMeta(header: Header): void {
    const { storedBytes } = header;
    if (storedBytes > this.#limits.maxHeaderBytes) {
      throw archiveTooLarge(`archive has a header of ${storedBytes} bytes, more than ${this.#limits.maxHeaderBytes}`);
    }
    this.#entries += 1;
    this.#checkEntries();
    if (storedBytes === 0) {
      this.#meta(header.flag, Buffer.alloc(0));
      return;
    }
    this.#padding = paddingOf(storedBytes);
    this.#expect({ kind: "meta", flag: header.flag }, storedBytes);
  }

  #expect(state: State, bytes: number): void {
    this.#state = state;
    this.#wantBytes = bytes;
    if (this.#pending.length < bytes) this.#pending = Buffer.alloc(bytes);
  }

  #meta(flag: string, body: Buffer): void {
    if (flag === "x") this.#local = parsePax(body);
    else if (flag === "g") this.#global = globalPax(this.#global, parsePax(body));
    else if (flag === "L") this.#longName = untilNul(body);
    else this.#longLink = untilNul(body);
    this.#afterData();
  }

  /** The header with what pax and GNU headers before it say. */
  #rename(header: Header, pax: PaxRecords): Header {
    const name = pax.values.get("GNU.sparse.name") || pax.values.get("path") || this.#longName || header.name;
    const linkName = pax.values.get("linkpath") || this.#longLink || header.linkName;
    this.#local = undefined;
    this.#longName = undefined;
    this.#longLink = undefined;
    return {
      name,
      linkName,
      mode: header.mode,
      uid: paxNumber(pax, "uid") ?? header.uid,
      gid: paxNumber(pax, "gid") ?? header.gid,
      storedBytes: paxNumber(pax, "size") ?? header.storedBytes,
      modifiedSeconds: header.modifiedSeconds,
      flag: header.flag,
      deviceMajor: header.deviceMajor,
      deviceMinor: header.deviceMinor,
      gnuSparse: header.gnuSparse,
    };
  }

  #sparseHeader(header: Header, pax: PaxRecords, runs: SparseRun[], block: Buffer): void {
    runs.push(...sparseRuns(block, 0, 21, header.name));
    if (runs.length * 24 > this.#limits.maxHeaderBytes) throw invalidArchive("sparse map is too long");
    if (block[504] === 0) this.#begin(header, pax, runs);
  }

  #sparseMap(header: Header, pax: PaxRecords, map: SparseMap, block: Buffer): void {
    const runs = map.push(block);
    if (map.bytes > header.storedBytes)
      throw invalidArchive(`entry ${showName(header.name)}: its sparse map does not end`);
    if (runs !== undefined) this.#begin({ ...header, storedBytes: header.storedBytes - map.bytes }, pax, runs);
  }

  #begin(header: Header, pax: PaxRecords, runs: readonly SparseRun[] | undefined): void {
    const type = TYPES[header.flag];
    if (type === undefined) {
      throw invalidArchive(`entry ${showName(header.name)}: type ${JSON.stringify(header.flag)} is not known`);
    }
    this.#entries += 1;
    this.#checkEntries();
    checkNumbers(header);
    const isFile = type === "file" && !header.name.endsWith("/");
    // POSIX: only files have data, whatever the size field says; a hard link's size is that of its target.
    const stored = isFile ? header.storedBytes : 0;
    if (runs !== undefined) checkRuns(runs, realBytes(header, pax), stored, header.name);
    this.#totalBytes += stored;
    if (this.#totalBytes > this.#limits.maxTotalBytes) {
      throw archiveTooLarge(`archive holds more than ${this.#limits.maxTotalBytes} bytes of data`);
    }
    const [modified, accessed] = [pax.values.get("mtime"), pax.values.get("atime")];
    this.#sink.entry({
      name: header.name,
      type: type === "file" && !isFile ? "directory" : type,
      mode: header.mode,
      uid: header.uid,
      gid: header.gid,
      sizeBytes: isFile ? (runs === undefined ? stored : realBytes(header, pax)) : 0,
      modified: modified ? parseTimestamp(modified, header.name) : { seconds: header.modifiedSeconds, nanoseconds: 0 },
      accessed: accessed ? parseTimestamp(accessed, header.name) : undefined,
      linkName: header.linkName,
      deviceMajor: header.deviceMajor,
      deviceMinor: header.deviceMinor,
      xattrs: pax.xattrs,
      sparse: runs,
    });
    this.#startData(stored, runs);
  }

  #startData(stored: number, runs: readonly SparseRun[] | undefined): void {
    this.#runs = runs ?? [{ offset: 0, length: stored }];
    this.#run = 0;
    this.#runDone = 0;
    this.#remaining = stored;
    this.#padding = paddingOf(stored);
    if (stored > 0) this.#state = { kind: "data" };
    else {
      this.#sink.endEntry();
      this.#afterData();
    }
  }

  #checkEntries(): void {
    if (this.#entries > this.#limits.maxEntries) {
      throw archiveTooLarge(`archive has more than ${this.#limits.maxEntries} entries`);
    }
  }

  #takeData(chunk: Buffer, at: number): number {
    let run = this.#runs[this.#run]!;
    while (this.#runDone === run.length) {
      this.#run += 1;
      this.#runDone = 0;
      run = this.#runs[this.#run]!;
    }
    const take = Math.min(run.length - this.#runDone, chunk.length - at);
    this.#sink.data(chunk.subarray(at, at + take), run.offset + this.#runDone);
    this.#runDone += take;
    this.#remaining -= take;
    if (this.#remaining === 0) {
      this.#sink.endEntry();
      this.#afterData();
    }
    return take;
  }

  #afterData(): void {
    this.#wantBytes = BLOCK;
    this.#state = this.#padding > 0 ? { kind: "padding" } : HEADER;
  }

  #skipPadding(available: number): number {
    const skip = Math.min(available, this.#padding);
    this.#padding -= skip;
    if (this.#padding === 0 && this.#state.kind === "padding") this.#state = HEADER;
    return skip;
  }
}

function paddingOf(bytes: number): number {
  return (BLOCK - (bytes % BLOCK)) % BLOCK;
}

function untilNul(body: Buffer): string {
  const end = body.indexOf(0);
  return body.toString("latin1", 0, end < 0 ? body.length : end);
}

function paxNumber(pax: PaxRecords, key: string): number | undefined {
  const text = pax.values.get(key);
  return text === undefined || text === "" ? undefined : decimal(text, key);
}

/** Runs of pax sparse 0.0 and 0.1. */
function paxRuns(pax: PaxRecords): readonly SparseRun[] | undefined {
  const map = pax.values.get("GNU.sparse.map");
  if (map !== undefined) return map === "" ? [] : pairs(map.split(",").map((text) => decimal(text, "GNU.sparse.map")));
  return pax.sparseRuns.length > 0 || pax.values.has("GNU.sparse.numblocks") ? pax.sparseRuns : undefined;
}

function realBytes(header: Header, pax: PaxRecords): number {
  if (header.gnuSparse !== undefined) return header.gnuSparse.realBytes;
  const text = pax.values.get("GNU.sparse.realsize") ?? pax.values.get("GNU.sparse.size") ?? "";
  return decimal(text, "GNU.sparse.realsize");
}

/** What system calls can take; (uint32)-1 means "leave as it is" to chown. */
function checkNumbers({ name, uid, gid, deviceMajor, deviceMinor }: Header): void {
  checkRange(name, "uid", uid, 0xffff_fffe);
  checkRange(name, "gid", gid, 0xffff_fffe);
  checkRange(name, "devmajor", deviceMajor, 0xfff);
  checkRange(name, "devminor", deviceMinor, 0xf_ffff);
}

function checkRange(name: string, field: string, value: number, max: number): void {
  if (value >= 0 && value <= max) return;
  throw invalidArchive(`entry ${showName(name)}: its ${field} ${value} is out of range`);
}

/** The runs in order, within the file, and together as long as the data. */
function checkRuns(runs: readonly SparseRun[], real: number, stored: number, name: string): void {
  let end = 0;
  let sum = 0;
  for (const run of runs) {
    if (run.offset < end || run.offset + run.length > real) {
      throw invalidArchive(`entry ${showName(name)}: its sparse map is not in order or leaves the file`);
    }
    end = run.offset + run.length;
    sum += run.length;
  }
  if (sum !== stored) throw invalidArchive(`entry ${showName(name)}: its sparse map does not fit its data`);
}
