/** The mount table of this process (/proc/self/mountinfo, proc(5)). */
import { readFileSync } from "node:fs";

export interface MountInfo {
  readonly id: number;
  readonly parentId: number;
  /** `major:minor` of the file system. */
  readonly device: string;
  /** The directory of the file system that is mounted; for nsfs the namespace (`net:[4026531992]`). */
  readonly root: string;
  readonly target: string;
  /** Options of this mount (`ro`, `nosuid`…). */
  readonly options: readonly string[];
  /** `shared:1`, `master:2`… */
  readonly propagation: readonly string[];
  readonly fsType: string;
  readonly source: string;
  /** Options of the file system (`lowerdir=…`). */
  readonly superOptions: readonly string[];
}

/** All mounts, oldest first: of two at the same target, the later one is on top. */
export function mounts(): MountInfo[] {
  return parseMountInfo(readFileSync("/proc/self/mountinfo", "utf8"));
}

/** The mounts at `prefix` and below it. The path is compared as text: pass a real path. */
export function mountsUnder(prefix: string): MountInfo[] {
  const directory = prefix === "/" ? "/" : `${prefix.replace(/\/+$/, "")}/`;
  return mounts().filter((mount) => `${mount.target}/`.startsWith(directory));
}

/** Is something mounted exactly here? */
export function isMountPoint(target: string): boolean {
  return mounts().some((mount) => mount.target === target);
}

export function parseMountInfo(text: string): MountInfo[] {
  return text.split("\n").flatMap((line) => {
    const mount = parseLine(line);
    return mount === undefined ? [] : [mount];
  });
}

// 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue
function parseLine(line: string): MountInfo | undefined {
  const fields = line.split(" ");
  const separator = fields.indexOf("-", 6);
  if (separator < 0) return undefined;
  const [id = "", parentId = "", device = "", root = "", target = "", options = ""] = fields;
  const [fsType = "", source = "", superOptions = ""] = fields.slice(separator + 1);
  return {
    id: Number(id),
    parentId: Number(parentId),
    device,
    root: unescape(root),
    target: unescape(target),
    options: options.split(","),
    propagation: fields.slice(6, separator),
    fsType,
    source: unescape(source),
    superOptions: superOptions.split(",").map(unescape),
  };
}

/** The kernel writes space, tab, newline and backslash as three octal digits (and `#` in some fields). */
function unescape(text: string): string {
  return text.includes("\\")
    ? text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)))
    : text;
}
