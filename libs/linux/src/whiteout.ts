/** How overlayfs writes down that something of a lower layer is gone (kernel, Documentation/filesystems/overlayfs.rst). */
import type { FileInfo } from "./file-info.ts";
import type { PathArg } from "./libc.ts";
import { mknodAt } from "./paths.ts";
import { getXattr, setXattr, type XattrTarget } from "./xattr.ts";

const S_IFCHR = 0o020000;

/** `user` where the overlay is mounted with `userxattr`, as it must be in a user namespace. */
export type OverlayXattrPrefix = "trusted" | "user";

/** Makes the name as deleted: a character device 0:0. The name must be free. */
export function makeWhiteoutAt(dirFd: number, name: PathArg): void {
  mknodAt(dirFd, name, S_IFCHR, 0, 0);
}

export function isWhiteout(info: FileInfo): boolean {
  return info.type === "character" && info.rdevMajor === 0 && info.rdevMinor === 0;
}

/** Marks a directory as hiding everything below it. */
export function setOpaque(directory: XattrTarget, prefix: OverlayXattrPrefix = "trusted"): void {
  setXattr(directory, `${prefix}.overlay.opaque`, Buffer.from("y"));
}

export function isOpaque(directory: XattrTarget, prefix: OverlayXattrPrefix = "trusted"): boolean {
  return getXattr(directory, `${prefix}.overlay.opaque`)?.toString() === "y";
}
