/**
 * One place that turns errno into a StatusError.
 *
 * `code` follows the table below, `reason` is the errno's name (`ENOENT`), and the message names the call and its subject:
 * `mount "/a" on "/b": ENOENT`. Node's own fs errors are mapped by the same table, so that callers see one shape whether a
 * call went through Node or through koffi.
 */
import { constants } from "node:os";
import { StatusError, type StatusCode } from "@berth/base";

const NAME_BY_NUMBER: ReadonlyMap<number, string> = new Map(
  Object.entries(constants.errno).map(([name, number]) => [number, name]),
);

const CODE_BY_NAME: Readonly<Record<string, StatusCode>> = {
  ENOENT: "NOT_FOUND",
  ESRCH: "NOT_FOUND",
  ENODEV: "NOT_FOUND",
  ENXIO: "NOT_FOUND",
  ENODATA: "NOT_FOUND",
  EEXIST: "ALREADY_EXISTS",
  EACCES: "PERMISSION_DENIED",
  EPERM: "PERMISSION_DENIED",
  EROFS: "FAILED_PRECONDITION",
  ENOTEMPTY: "FAILED_PRECONDITION",
  ENOTDIR: "FAILED_PRECONDITION",
  EISDIR: "FAILED_PRECONDITION",
  ELOOP: "FAILED_PRECONDITION",
  ESTALE: "FAILED_PRECONDITION",
  ETXTBSY: "FAILED_PRECONDITION",
  EBUSY: "UNAVAILABLE",
  ECONNREFUSED: "UNAVAILABLE",
  EAGAIN: "UNAVAILABLE",
  EINTR: "UNAVAILABLE",
  ENOSPC: "RESOURCE_EXHAUSTED",
  EDQUOT: "RESOURCE_EXHAUSTED",
  EMFILE: "RESOURCE_EXHAUSTED",
  ENFILE: "RESOURCE_EXHAUSTED",
  ENOMEM: "RESOURCE_EXHAUSTED",
  EMLINK: "RESOURCE_EXHAUSTED",
  EFBIG: "OUT_OF_RANGE",
  EOVERFLOW: "OUT_OF_RANGE",
  ERANGE: "OUT_OF_RANGE",
  EINVAL: "INVALID_ARGUMENT",
  ENAMETOOLONG: "INVALID_ARGUMENT",
  EXDEV: "INVALID_ARGUMENT",
  EBADF: "INTERNAL",
  EFAULT: "INTERNAL",
  EIO: "DATA_LOSS",
  ENOSYS: "UNIMPLEMENTED",
  EOPNOTSUPP: "UNIMPLEMENTED",
  ENOTSUP: "UNIMPLEMENTED",
  ETIMEDOUT: "DEADLINE_EXCEEDED",
};

/** `ENOENT` for 2; `E999` for a number that nobody named. */
export function errnoName(errno: number): string {
  // EAGAIN and EWOULDBLOCK share a number, as do EOPNOTSUPP and ENOTSUP: the names of the table above win.
  if (errno === constants.errno.EAGAIN) return "EAGAIN";
  if (errno === constants.errno.EOPNOTSUPP) return "EOPNOTSUPP";
  return NAME_BY_NUMBER.get(errno) ?? `E${errno}`;
}

/** The error of a failed call. `subject` names what it was about, usually a quoted path. */
export function kernelError(call: string, subject: string, errno: number, hint?: string): StatusError {
  const reason = errnoName(errno);
  const text = `${call} ${subject}: ${reason}${hint === undefined || hint === "" ? "" : ` (${hint})`}`;
  return new StatusError(CODE_BY_NAME[reason] ?? "UNKNOWN", text, { reason, details: { call, errno } });
}

/** The same for an error that one of Node's own file system calls threw; anything else goes through unchanged. */
export function fromNodeError(error: unknown, call: string, subject: string): unknown {
  const number = (error as NodeJS.ErrnoException | undefined)?.errno;
  const name = (error as NodeJS.ErrnoException | undefined)?.code;
  if (!(error instanceof Error) || error instanceof StatusError || typeof number !== "number") return error;
  if (name === undefined || !(name in CODE_BY_NAME)) return error;
  return new StatusError(CODE_BY_NAME[name]!, `${call} ${subject}: ${name}`, {
    reason: name,
    details: { call, errno: -number },
    cause: error,
  });
}

/** True for a StatusError whose reason is one of these errno names. */
export function hasErrno(error: unknown, ...names: string[]): error is StatusError {
  return error instanceof StatusError && names.includes(error.reason);
}
