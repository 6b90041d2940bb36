/**
 * Mounting and unmounting, with options as mount(8), containerd and the OCI specification write them.
 *
 * A mount that mount(2) makes in several steps (bind + flags, propagation) is undone when a later step fails. Calls are
 * synchronous: an overlay takes some 50 µs; an unmount of a dirty disk file system may take as long as writing it out.
 */
import { diskInfo } from "./disk.ts";
import { hasErrno, kernelError } from "./errno.ts";
import { cPath, lastErrno, libc, show } from "./libc.ts";
import { MS, parseMountOptions } from "./mount-options.ts";
import { mountsUnder } from "./mountinfo.ts";
import { exceedsMountData, mountLargeOverlay } from "./overlay.ts";

export interface MountRequest {
  /** `overlay`, `tmpfs`, `bind`… For bind mounts the options decide (`bind`, `rbind`); the type is then ignored. */
  readonly type: string;
  readonly source: string;
  readonly target: string;
  readonly options: readonly string[];
}

const MNT_FORCE = 1;
const MNT_DETACH = 2;
const UMOUNT_NOFOLLOW = 8;

/** More mounts stacked on one path than anyone makes; keeps {@link unmountAll} finite. */
const MAX_STACKED = 1000;

/** Flags that a bind mount has of its own, settable by a remount only. */
const BIND_FLAGS = MS.rdonly | MS.nosuid | MS.nodev | MS.noexec | MS.noatime | MS.nodiratime | MS.relatime;

/**
 * Makes one mount; the target must exist.
 * @throws NOT_FOUND for a missing source or target, INVALID_ARGUMENT `EINVAL` for what the file system refuses.
 */
export function mount(request: MountRequest): void {
  const { flags, cleared, propagation, data } = parseMountOptions(request.options);
  const remount = (flags & MS.remount) !== 0;
  const bind = !remount && ((flags & MS.bind) !== 0 || request.type === "bind");
  const propagationOnly =
    propagation.length > 0 && flags === 0 && data.length === 0 && (request.type === "" || request.type === "none");
  if (bind) call(request, MS.bind | (flags & MS.rec), null);
  else if (request.type === "overlay" && exceedsMountData(data)) {
    mountLargeOverlay(request.source, request.target, flags, data);
  } else if (!propagationOnly) call(request, flags, data.length === 0 ? null : data.join(","));
  try {
    const own = flags & BIND_FLAGS;
    if (bind && (own !== 0 || (cleared & BIND_FLAGS) !== 0)) remountBind(request, own, cleared);
    for (const kind of propagation) call(request, kind, null);
  } catch (error) {
    if (!remount && !propagationOnly) unmount(request.target, { detach: true });
    throw error;
  }
}

/** A bind mount takes its flags in a second step, which would drop those it has from its source: they are kept, unless
 *  an option takes them away by name. */
function remountBind(request: MountRequest, own: number, cleared: number): void {
  const current = flagsOf(request.target) & ~cleared;
  call(request, MS.bind | MS.remount | own | current, null);
}

/** statfs's ST_ flags as mount(2)'s; they differ in one. */
function flagsOf(target: string): number {
  const { mountFlags } = diskInfo(target);
  const same = MS.rdonly | MS.nosuid | MS.nodev | MS.noexec | MS.noatime | MS.nodiratime;
  return (mountFlags & same) | (mountFlags & 4096 ? MS.relatime : 0);
}

function call(request: MountRequest, flags: number, data: string | null): void {
  const { source, target, type } = request;
  if (libc.mount(cPath(source), cPath(target), cPath(type), flags, data === null ? null : cPath(data)) === 0) return;
  throw kernelError(`mount ${type || "none"} ${show(source)} on`, show(target), lastErrno());
}

export interface UnmountOptions {
  /** Takes the mount out of the tree at once, and lets it end when its last user does. */
  readonly detach?: boolean;
  /** Aborts pending requests of a network file system. */
  readonly force?: boolean;
}

/**
 * Unmounts what is on top at this path; a symbolic link in its last component is not followed.
 * @throws INVALID_ARGUMENT `EINVAL` when nothing is mounted there; UNAVAILABLE `EBUSY` while it is in use.
 */
export function unmount(target: string, options: UnmountOptions = {}): void {
  const errno = tryUnmount(target, options);
  if (errno !== 0) throw kernelError("umount", show(target), errno);
}

function tryUnmount(target: string, options: UnmountOptions): number {
  const flags = UMOUNT_NOFOLLOW | (options.detach ? MNT_DETACH : 0) | (options.force ? MNT_FORCE : 0);
  return libc.umount2(cPath(target), flags) === 0 ? 0 : lastErrno();
}

/** Unmounts all that is stacked at exactly this path; nothing there, or no such path, is success. Returns how many. */
export function unmountAll(target: string, options: UnmountOptions = {}): number {
  for (let count = 0; count < MAX_STACKED; count += 1) {
    try {
      unmount(target, options);
    } catch (error) {
      if (hasErrno(error, "EINVAL", "ENOENT")) return count;
      throw error;
    }
  }
  throw kernelError("umount", show(target), 16, `more than ${MAX_STACKED} mounts`);
}

/** Unmounts everything at a real path and below it, the newest first. Returns how many. */
export function unmountUnder(prefix: string, options: UnmountOptions = {}): number {
  const found = mountsUnder(prefix).reverse();
  for (const { target } of found) unmount(target, options);
  return found.length;
}
