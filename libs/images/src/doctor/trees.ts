/**
 * In what two trees differ, as far as an archive decides it: names, kinds, modes, owners, sizes, times, device numbers,
 * attributes, link targets, the bytes of files. Blocks the thread.
 *
 * Left out: times of directories (whoever writes below changes them), inode numbers and link counts (an overlay copies up),
 * and overlayfs' own attributes.
 */
import { closeSync, openSync, readdirSync, readlinkSync, readSync } from "node:fs";
import { getXattr, listXattrs, statPath, type FileInfo } from "@berth/linux";

const MAX_NAMED = 10;
const CHUNK_BYTES = 256 * 1024;
const OVERLAY = /^(?:trusted|user)\.overlay\./;

export function treeDifferences(one: string, other: string): string[] {
  const named: string[] = [];
  let more = 0;
  const differs = (path: string, what: string): void => {
    if (named.length < MAX_NAMED) named.push(`${JSON.stringify(path)} (${what})`);
    else more += 1;
  };
  compareEntry(Buffer.from(one), Buffer.from(other), "/", differs);
  return more === 0 ? named : [...named, `${more} more`];
}

type Differs = (path: string, what: string) => void;

function compareEntry(one: Buffer, other: Buffer, path: string, differs: Differs): void {
  const [a, b] = [statPath(one), statPath(other)];
  if (a === undefined || b === undefined) {
    if (a !== b) differs(path, a === undefined ? "missing" : "not in the blob");
    return;
  }
  if (a.type !== b.type) {
    differs(path, `a ${a.type}, not a ${b.type}`);
    return;
  }
  const what = [...attributesThatDiffer(a, b), ...(sameXattrs(one, other) ? [] : ["extended attributes"])];
  if (what.length === 0 && !sameContent(one, other, a)) what.push("content");
  if (what.length > 0) differs(path, what.join(" and "));
  if (a.type === "directory") compareDirectory(one, other, path, differs);
}

function attributesThatDiffer(a: FileInfo, b: FileInfo): string[] {
  const isDirectory = a.type === "directory";
  const sameTime = a.modified.seconds === b.modified.seconds && a.modified.nanoseconds === b.modified.nanoseconds;
  return [
    ...(a.type === "symlink" || a.mode === b.mode
      ? []
      : [`mode ${a.mode.toString(8)} instead of ${b.mode.toString(8)}`]),
    ...(a.uid === b.uid && a.gid === b.gid ? [] : [`owner ${a.uid}:${a.gid} instead of ${b.uid}:${b.gid}`]),
    ...(isDirectory || a.sizeBytes === b.sizeBytes ? [] : [`${a.sizeBytes} bytes instead of ${b.sizeBytes}`]),
    ...(isDirectory || sameTime ? [] : ["time"]),
    ...(a.rdevMajor === b.rdevMajor && a.rdevMinor === b.rdevMinor ? [] : ["device number"]),
  ];
}

function compareDirectory(one: Buffer, other: Buffer, path: string, differs: Differs): void {
  const names = new Map<string, Buffer>();
  for (const directory of [one, other]) {
    for (const name of readdirSync(directory, { encoding: "buffer" })) names.set(name.toString("latin1"), name);
  }
  for (const key of [...names.keys()].sort()) {
    const name = names.get(key)!;
    const inside = `${path === "/" ? "" : path}/${name.toString()}`;
    compareEntry(joined(one, name), joined(other, name), inside, differs);
  }
}

function joined(directory: Buffer, name: Buffer): Buffer {
  return Buffer.concat([directory, Buffer.from("/"), name]);
}

function sameXattrs(one: Buffer, other: Buffer): boolean {
  const [a, b] = [one, other].map((path) => listXattrs(path).filter((name) => !OVERLAY.test(name)));
  if (a!.join("\0") !== b!.join("\0")) return false;
  return a!.every((name) => sameBytes(getXattr(one, name), getXattr(other, name)));
}

function sameBytes(a: Buffer | undefined, b: Buffer | undefined): boolean {
  return a === undefined || b === undefined ? a === b : a.equals(b);
}

function sameContent(one: Buffer, other: Buffer, info: FileInfo): boolean {
  if (info.type === "symlink") {
    const [a, b] = [one, other].map((path) => readlinkSync(path, { encoding: "buffer" }));
    return a!.equals(b!);
  }
  return info.type !== "file" || sameFile(one, other);
}

const [left, right] = [Buffer.allocUnsafeSlow(CHUNK_BYTES), Buffer.allocUnsafeSlow(CHUNK_BYTES)];

function sameFile(one: Buffer, other: Buffer): boolean {
  const a = openSync(one, "r");
  try {
    const b = openSync(other, "r");
    try {
      return sameRest(a, b);
    } finally {
      closeSync(b);
    }
  } finally {
    closeSync(a);
  }
}

function sameRest(a: number, b: number): boolean {
  for (;;) {
    const [readA, readB] = [fill(a, left), fill(b, right)];
    if (readA !== readB || left.compare(right, 0, readB, 0, readA) !== 0) return false;
    if (readA === 0) return true;
  }
}

/** Short only at the end of the file. */
function fill(fd: number, into: Buffer): number {
  for (let filled = 0; ;) {
    const read = readSync(fd, into, filled, into.length - filled, null);
    filled += read;
    if (read === 0 || filled === into.length) return filled;
  }
}
