/** Extended attributes of entries, as bytes. */
import { hasErrno, listXattrs, removeXattr, setXattr, type XattrTarget } from "@berth/linux";
import { invalidArchive, showName, type TarEntry } from "./entry.ts";

/** XATTR_SIZE_MAX. */
const MAX_VALUE_BYTES = 65_536;

/**
 * Sets what the archive says. `trusted.*` and `user.overlay.*` are left out: overlayfs keeps its own state there, and an image
 * must not forge it. What this file system cannot hold is left out as well; both are told to `onWarning`.
 * @throws LAYER_INVALID for a value that no file system takes
 */
export function setAttributes(
  target: XattrTarget,
  entry: TarEntry,
  onWarning: ((message: string) => void) | undefined,
): void {
  for (const [name, value] of entry.xattrs) {
    if (name.startsWith("trusted.") || name.startsWith("user.overlay.")) {
      onWarning?.(`entry ${showName(entry.name)}: attribute ${showName(name)} is left out`);
      continue;
    }
    if (value.length > MAX_VALUE_BYTES) {
      throw invalidArchive(
        `entry ${showName(entry.name)}: attribute ${showName(name)} has ${value.length} bytes, more than ${MAX_VALUE_BYTES}`,
      );
    }
    try {
      setXattr(target, name, value);
    } catch (error) {
      const special = entry.type !== "file" && entry.type !== "directory" && name.startsWith("user.");
      if (!hasErrno(error, "EOPNOTSUPP") && !(special && hasErrno(error, "EPERM"))) throw error;
      onWarning?.(`entry ${showName(entry.name)}: attribute ${showName(name)} is not supported here`);
    }
  }
}

/** A layer's directory has the attributes that its entry names, not those of the directory below that it merges with. */
export function clearAttributes(directoryFd: number): void {
  for (const name of listXattrs(directoryFd)) {
    const others = name.startsWith("trusted.") || name.startsWith("user.overlay.") || name === "security.selinux";
    if (!others) removeXattr(directoryFd, name);
  }
}
