/**
 * Extended attributes: values are bytes, names are text. Path forms never follow a link in the last component; for an
 * entry of an open directory pass `pathAt(dirFd, name)`, for an open file (not O_PATH) its number.
 */
import { kernelError } from "./errno.ts";
import { cPath, lastErrno, libc, show, type PathArg } from "./libc.ts";

const ENODATA = 61;
const ERANGE = 34;

// Big enough for almost every value and list; XATTR_SIZE_MAX and XATTR_LIST_MAX are 64 KiB.
const scratch = Buffer.alloc(65_536);

export type XattrTarget = PathArg | number;

/** The value, or undefined when there is no such attribute. */
export function getXattr(target: XattrTarget, name: string): Buffer | undefined {
  const length =
    typeof target === "number"
      ? libc.fgetxattr(target, cPath(name), scratch, scratch.length)
      : libc.lgetxattr(cPath(target), cPath(name), scratch, scratch.length);
  if (length >= 0) return Buffer.from(scratch.subarray(0, length));
  if (lastErrno() === ENODATA) return undefined;
  throw failure("getxattr", target, name);
}

/** Sets or replaces an attribute. @throws UNIMPLEMENTED `EOPNOTSUPP` where the file system or the file has none. */
export function setXattr(target: XattrTarget, name: string, value: Uint8Array): void {
  const result =
    typeof target === "number"
      ? libc.fsetxattr(target, cPath(name), value, value.length, 0)
      : libc.lsetxattr(cPath(target), cPath(name), value, value.length, 0);
  if (result < 0) throw failure("setxattr", target, name);
}

/** Removes an attribute; false when there was none. */
export function removeXattr(target: XattrTarget, name: string): boolean {
  const result =
    typeof target === "number" ? libc.fremovexattr(target, cPath(name)) : libc.lremovexattr(cPath(target), cPath(name));
  if (result === 0) return true;
  if (lastErrno() === ENODATA) return false;
  throw failure("removexattr", target, name);
}

/** The names of all attributes that the caller may see, sorted. Empty where the file system has none. */
export function listXattrs(target: XattrTarget): string[] {
  const length =
    typeof target === "number"
      ? libc.flistxattr(target, scratch, scratch.length)
      : libc.llistxattr(cPath(target), scratch, scratch.length);
  if (length < 0) {
    const errno = lastErrno();
    if (errno === 95) return [];
    throw failure("listxattr", target, errno === ERANGE ? "(list over 64 KiB)" : "");
  }
  return scratch.toString("utf8", 0, length).split("\0").filter(Boolean).sort();
}

function failure(call: string, target: XattrTarget, name: string): Error {
  const errno = lastErrno();
  return kernelError(call, `${typeof target === "number" ? `fd ${target}` : show(target)} ${name}`.trimEnd(), errno);
}
