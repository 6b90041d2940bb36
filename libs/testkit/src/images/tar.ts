/**
 * Writes tar archives for fixtures: ustar headers, PAX records for what they cannot hold.
 *
 * It writes whatever it is told, hostile names and wrong sizes included: that is what tests need. Nothing here is used
 * by the product.
 */
export type TarType = "file" | "dir" | "symlink" | "hardlink" | "char" | "block" | "fifo";

export interface TarEntry {
  /** As it shall stand in the archive; directories need no slash at the end. */
  readonly path: string;
  /** Default: "file". */
  readonly type?: TarType;
  /** Default 0755 for directories, 0644 otherwise. */
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  /** Seconds since 1970. Default 2024-01-01, so that digests do not change. */
  readonly mtime?: number;
  readonly content?: string | Uint8Array;
  /** Target of a symbolic or hard link. */
  readonly linkTo?: string;
  readonly xattrs?: Readonly<Record<string, string>>;
  readonly device?: { readonly major: number; readonly minor: number };
  /** The size to claim, when it shall differ from the content's. */
  readonly claimedSize?: number;
}

const BLOCK = 512;
const DEFAULT_MTIME = Date.UTC(2024, 0, 1) / 1000;
const TYPE_FLAGS: Record<TarType, string> = {
  file: "0",
  hardlink: "1",
  symlink: "2",
  char: "3",
  block: "4",
  dir: "5",
  fifo: "6",
};

/** The whole archive. */
export function tar(entries: Iterable<TarEntry>): Buffer {
  return Buffer.concat([...tarChunks(entries)]);
}

/** The archive piece by piece, for those that are large. Ends with the two empty blocks. */
export function* tarChunks(entries: Iterable<TarEntry>): Generator<Buffer> {
  for (const entry of entries) {
    const content = Buffer.from(entry.content ?? "");
    const records = paxRecords(entry);
    if (records.length > 0) {
      yield header({ path: "pax", mode: 0o644 }, "x", records.length, "");
      yield padded(records);
    }
    const type = entry.type ?? "file";
    yield header(entry, TYPE_FLAGS[type], entry.claimedSize ?? content.length, entry.linkTo ?? "");
    if (content.length > 0) yield padded(content);
  }
  yield Buffer.alloc(2 * BLOCK);
}

function header(entry: TarEntry, flag: string, size: number, linkTo: string): Buffer {
  const block = Buffer.alloc(BLOCK);
  const path = entry.type === "dir" && !entry.path.endsWith("/") ? `${entry.path}/` : entry.path;
  const octal = (value: number, at: number, length: number): void => {
    block.write(value.toString(8).padStart(length - 1, "0"), at, "ascii");
  };
  Buffer.from(path).copy(block, 0, 0, 100);
  octal(entry.mode ?? (entry.type === "dir" ? 0o755 : 0o644), 100, 8);
  octal(entry.uid ?? 0, 108, 8);
  octal(entry.gid ?? 0, 116, 8);
  octal(size, 124, 12);
  octal(entry.mtime ?? DEFAULT_MTIME, 136, 12);
  block.write("        ", 148, "ascii"); // the checksum is taken with blanks in its own place
  block.write(flag, 156, "ascii");
  Buffer.from(linkTo).copy(block, 157, 0, 100);
  block.write("ustar\u000000", 257, "ascii");
  octal(entry.device?.major ?? 0, 329, 8);
  octal(entry.device?.minor ?? 0, 337, 8);
  octal(
    block.reduce((sum, byte) => sum + byte, 0),
    148,
    7,
  );
  block[154] = 0;
  return block;
}

function paxRecords(entry: TarEntry): Buffer {
  const records: Buffer[] = [];
  const add = (key: string, value: string): void => void records.push(paxRecord(key, value));
  if (Buffer.byteLength(entry.path) > 99) add("path", entry.path);
  if (Buffer.byteLength(entry.linkTo ?? "") > 100) add("linkpath", entry.linkTo ?? "");
  for (const [name, value] of Object.entries(entry.xattrs ?? {})) add(`SCHILY.xattr.${name}`, value);
  return Buffer.concat(records);
}

/** "<length> <key>=<value>\n", where the length counts its own digits. */
function paxRecord(key: string, value: string): Buffer {
  const rest = Buffer.from(` ${key}=${value}\n`);
  let length = rest.length + 1;
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
  return Buffer.concat([Buffer.from(String(length)), rest]);
}

function padded(content: Buffer): Buffer {
  const rest = content.length % BLOCK;
  return rest === 0 ? content : Buffer.concat([content, Buffer.alloc(BLOCK - rest)]);
}
