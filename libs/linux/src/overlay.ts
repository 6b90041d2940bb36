/**
 * Overlay mounts that do not fit into mount(2).
 *
 * mount(2) takes one page of options, about 40 layers of ordinary paths, and splits it at commas and colons. Beyond that:
 *  1. The new mount API, one `lowerdir+` per layer (Linux 6.8). No path needs escaping there.
 *  2. On older kernels, mount(2) with `/proc/self/fd/N` in place of each path: short, without special characters, and
 *     without changing the working directory, which all threads share. The kernel resolves them while mounting; the mount
 *     table then shows these names instead of the paths.
 */
import { constants } from "node:fs";
import { hasErrno, kernelError } from "./errno.ts";
import { AT_FDCWD, check, cPath, lastErrno, libc, show, SYS, syscalls, type PathArg } from "./libc.ts";
import { O_CLOEXEC, O_PATH } from "./paths.ts";
import { MS } from "./mount-options.ts";

/** mount(2) copies at most one page, and its last byte must be NUL. */
export const MAX_MOUNT_DATA_BYTES = 4095;

const FSCONFIG = { setFlag: 0, setString: 1, create: 6 } as const;
/** The kernel cuts FSCONFIG_SET_STRING at 256 bytes, NUL included. */
const MAX_CONFIG_BYTES = 255;
const FSOPEN_CLOEXEC = 1;
const FSMOUNT_CLOEXEC = 1;
const MOVE_MOUNT_F_EMPTY_PATH = 4;

// mount(2) flags that belong to the mount rather than to the file system, as fsmount wants them.
const MOUNT_ATTRIBUTES: readonly (readonly [flag: number, attribute: number])[] = [
  [MS.rdonly, 0x01],
  [MS.nosuid, 0x02],
  [MS.nodev, 0x04],
  [MS.noexec, 0x08],
  [MS.noatime, 0x10],
  [MS.strictatime, 0x20],
  [MS.nodiratime, 0x80],
  [MS.nosymfollow, 0x200000],
];

interface OverlayOptions {
  readonly lower: readonly string[];
  readonly rest: readonly (readonly [key: string, value: string | undefined])[];
}

/** Does an overlay with this data need more than mount(2) gives? */
export function exceedsMountData(data: readonly string[]): boolean {
  return Buffer.byteLength(data.join(",")) > MAX_MOUNT_DATA_BYTES || data.some((option) => option.includes(","));
}

/** Mounts an overlay of any length. `data` are the options as mount(8) takes them, one per element. */
export function mountLargeOverlay(source: string, target: string, flags: number, data: readonly string[]): void {
  const options = splitOverlayOptions(data);
  try {
    mountByConfig(source, target, flags, options);
  } catch (error) {
    // Before 5.2 there is no fsopen (ENOSYS), before 6.8 no `lowerdir+` (EINVAL); some seccomp filters say EPERM.
    if (!hasErrno(error, "ENOSYS", "EINVAL", "EPERM")) throw error;
    mountByDescriptors(source, target, flags, options);
  }
}

/** Takes `lowerdir=a:b` apart; a colon or backslash of a path is escaped by a backslash there. */
export function splitOverlayOptions(data: readonly string[]): OverlayOptions {
  const lower: string[] = [];
  const rest: [string, string | undefined][] = [];
  for (const option of data) {
    const at = option.indexOf("=");
    const [key, value] = at < 0 ? [option, undefined] : [option.slice(0, at), option.slice(at + 1)];
    if (key === "lowerdir" && value !== undefined) {
      for (const path of value.match(/(?:\\.|[^:\\])+/gs) ?? []) lower.push(path.replace(/\\(.)/gs, "$1"));
    } else {
      rest.push([key, isPathOption(key) ? value?.replace(/\\(.)/gs, "$1") : value]);
    }
  }
  return { lower, rest };
}

function isPathOption(key: string): boolean {
  return key === "upperdir" || key === "workdir";
}

/** The new mount API. Exported for tests. */
export function mountByConfig(source: string, target: string, flags: number, options: OverlayOptions): void {
  using held = new Descriptors();
  const context = held.keep(check(syscalls.pathFlags(SYS.fsopen, "overlay", FSOPEN_CLOEXEC), "fsopen", target));
  const set = (key: string, value: string | undefined): void => {
    // The kernel unescapes upperdir and workdir, but not `lowerdir+`: a descriptor has nothing to unescape.
    const path = isPathOption(key) || key === "lowerdir+";
    const hard = value !== undefined && (Buffer.byteLength(value) > MAX_CONFIG_BYTES || value.includes("\\"));
    const short = path && hard ? held.path(value) : value;
    configure(context, short === undefined ? FSCONFIG.setFlag : FSCONFIG.setString, key, short ?? null);
  };
  set("source", source);
  for (const path of options.lower) set("lowerdir+", path);
  for (const [key, value] of options.rest) set(key, value);
  if (flags & MS.rdonly) configure(context, FSCONFIG.setFlag, "ro", null);
  configure(context, FSCONFIG.create, null, null);
  const attributes = MOUNT_ATTRIBUTES.reduce((sum, [flag, bit]) => (flags & flag ? sum | bit : sum), 0);
  const fd = syscalls.threeInts(SYS.fsmount, context, FSMOUNT_CLOEXEC, attributes);
  const tree = held.keep(check(fd, "fsmount", target));
  check(
    syscalls.moveMount(SYS.moveMount, tree, "", AT_FDCWD, cPath(target), MOVE_MOUNT_F_EMPTY_PATH),
    "move_mount overlay on",
    target,
  );
}

/** mount(2) with descriptors for paths. Exported for tests. */
export function mountByDescriptors(source: string, target: string, flags: number, options: OverlayOptions): void {
  using held = new Descriptors();
  const lower = options.lower.map((path) => held.path(path)).join(":");
  const rest = options.rest.map(([key, value]) => {
    if (value === undefined) return key;
    return `${key}=${isPathOption(key) ? held.path(value) : value}`;
  });
  const data = [...(lower === "" ? [] : [`lowerdir=${lower}`]), ...rest].join(",");
  if (data.length > MAX_MOUNT_DATA_BYTES) {
    throw kernelError("mount overlay on", show(target), 7, `${options.lower.length} layers are too many`);
  }
  check(libc.mount(cPath(source), cPath(target), "overlay", flags, cPath(data)), "mount overlay on", target);
}

function configure(context: number, command: number, key: string | null, value: string | null): void {
  if (syscalls.fsconfig(SYS.fsconfig, context, command, text(key), text(value), 0) >= 0) return;
  const errno = lastErrno();
  const subject = key === null ? "overlay" : `overlay ${key}${value === null ? "" : `=${value}`}`;
  throw kernelError("fsconfig", subject, errno, explanation(context));
}

function text(value: string | null): PathArg | null {
  return value === null ? null : cPath(value);
}

/** What the kernel says about a failed fsconfig: lines such as `e overlay: …`. */
function explanation(context: number): string {
  const buffer = Buffer.alloc(1024);
  const lines: string[] = [];
  for (let length = 1; length > 0 && lines.length < 8;) {
    length = libc.read(context, buffer, buffer.length);
    if (length > 0) lines.push(buffer.toString("utf8", 0, length).trim());
  }
  return lines.join("; ");
}

/** Descriptors that are open while a mount is made. */
class Descriptors implements Disposable {
  readonly #fds: number[] = [];

  keep(fd: number): number {
    this.#fds.push(fd);
    return fd;
  }

  /** A short name for a directory. */
  path(directory: string): string {
    const flags = O_PATH | constants.O_DIRECTORY | O_CLOEXEC;
    return `/proc/self/fd/${this.keep(check(libc.openat(AT_FDCWD, cPath(directory), flags, 0), "open", directory))}`;
  }

  [Symbol.dispose](): void {
    for (const fd of this.#fds.splice(0)) libc.close(fd);
  }
}
