/**
 * Headers of entries that are written for others to read: ustar, with a pax header before it for what that cannot say (long
 * names, names that are not ASCII, sizes beyond 8 GiB, parts of seconds). Pure: it knows nothing of file systems.
 */
import type { EntryType, TarEntry } from "./entry.ts";
import { BLOCK } from "./header.ts";

/** What a written entry says; names are byte strings. */
export type WrittenEntry = Pick<
  TarEntry,
  "name" | "type" | "mode" | "uid" | "gid" | "sizeBytes" | "modified" | "linkName" | "deviceMajor" | "deviceMinor"
>;

const FLAGS: Readonly<Record<EntryType, string>> = {
  file: "0",
  hardlink: "1",
  symlink: "2",
  character: "3",
  block: "4",
  directory: "5",
  fifo: "6",
};
const MAX_NAME = 100;
const MAX_ID = 8 ** 7 - 1;
const MAX_NUMBER = 8 ** 11 - 1;

/** One or more blocks; the data follows, then {@link entryPadding}. */
export function entryHeader(entry: WrittenEntry): Buffer {
  const name = entry.type === "directory" && !entry.name.endsWith("/") ? `${entry.name}/` : entry.name;
  const records = paxRecords({ ...entry, name });
  const main = block({ ...entry, name }, FLAGS[entry.type]);
  if (records === "") return main;
  const body = Buffer.from(records, "latin1");
  const header = {
    ...entry,
    name: "pax",
    linkName: "",
    sizeBytes: body.length,
    modified: { seconds: 0, nanoseconds: 0 },
  };
  return Buffer.concat([block(header, "x"), body, entryPadding(body.length), main]);
}

/** What fills the last block of an entry's data. */
export function entryPadding(sizeBytes: number): Buffer {
  return Buffer.alloc((BLOCK - (sizeBytes % BLOCK)) % BLOCK);
}

/** What ends an archive. */
export const archiveEnd: Buffer = Buffer.alloc(2 * BLOCK);

function paxRecords({ name, linkName, sizeBytes, uid, gid, modified }: WrittenEntry): string {
  const { seconds, nanoseconds } = modified;
  return [
    needsPax(name) ? record("path", name) : "",
    needsPax(linkName) ? record("linkpath", linkName) : "",
    sizeBytes > MAX_NUMBER ? record("size", String(sizeBytes)) : "",
    uid > MAX_ID ? record("uid", String(uid)) : "",
    gid > MAX_ID ? record("gid", String(gid)) : "",
    nanoseconds !== 0 || seconds < 0 || seconds > MAX_NUMBER ? record("mtime", time(seconds, nanoseconds)) : "",
  ].join("");
}

function needsPax(text: string): boolean {
  // oxlint-disable-next-line no-control-regex -- all of ASCII is meant, control characters included
  return text.length > MAX_NAME || /[^\x00-\x7f]/.test(text);
}

/** Nanoseconds count forward, also before 1970: -2 s and half a second is -1.5. */
function time(seconds: number, nanoseconds: number): string {
  const total = BigInt(seconds) * 1_000_000_000n + BigInt(nanoseconds);
  const [sign, size] = total < 0n ? ["-", -total] : ["", total];
  const digits = String(size).padStart(10, "0");
  return `${sign}${digits.slice(0, -9)}.${digits.slice(-9)}`;
}

/** `LENGTH KEY=VALUE\n`, where the length counts itself. */
function record(key: string, value: string): string {
  const rest = ` ${key}=${value}\n`;
  let length = rest.length + 1;
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
  return `${length}${rest}`;
}

function block(entry: WrittenEntry, flag: string): Buffer {
  const { name, linkName, mode, uid, gid, sizeBytes, modified, deviceMajor, deviceMinor } = entry;
  const header = Buffer.alloc(BLOCK);
  // What does not fit is in the pax header; whoever cannot read that gets the beginning.
  header.write(name.slice(0, MAX_NAME), 0, "latin1");
  octal(header, 100, 8, mode & 0o7777);
  octal(header, 108, 8, Math.min(uid, MAX_ID));
  octal(header, 116, 8, Math.min(gid, MAX_ID));
  octal(header, 124, 12, Math.min(sizeBytes, MAX_NUMBER));
  octal(header, 136, 12, Math.min(Math.max(modified.seconds, 0), MAX_NUMBER));
  header.write(flag, 156, "latin1");
  header.write(linkName.slice(0, MAX_NAME), 157, "latin1");
  header.write("ustar\x0000", 257, "latin1");
  octal(header, 329, 8, deviceMajor);
  octal(header, 337, 8, deviceMinor);
  header.fill(0x20, 148, 156);
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return header;
}

function octal(header: Buffer, offset: number, length: number, value: number): void {
  header.write(`${value.toString(8).padStart(length - 1, "0")}\0`, offset, "latin1");
}
