/**
 * Mounts that show other owners than the disk has (mount_setattr(2) with MOUNT_ATTR_IDMAP, Linux 5.12; as a layer of an
 * overlay 5.19): what a container in a user namespace needs to see shared files as its own.
 *
 * The mapping is carried by a user namespace. One is made per mapping and process: a child enters it, its maps are written,
 * a descriptor of it is kept, the child ends. No namespace of this process is changed.
 */
import { spawn } from "node:child_process";
import { openSync, readFileSync, readlinkSync, writeFileSync } from "node:fs";
import { StatusError } from "@berth/base";
import { fromNodeError, kernelError } from "./errno.ts";
import { AT_EMPTY_PATH, AT_FDCWD, check, cPath, lastErrno, libc, show, SYS, syscalls } from "./libc.ts";

const OPEN_TREE_CLONE = 1;
const OPEN_TREE_CLOEXEC = 0o2000000;
const MOVE_MOUNT_F_EMPTY_PATH = 4;
const MOUNT_ATTR_IDMAP = 0x100000n;
const MOUNT_ATTR_RDONLY = 1n;
const MOUNT_ATTR_BYTES = 32;
const USERNS_WAIT_MS = 5_000;

/** `container` is what is on the disk and inside, `host` what everyone outside sees. */
export interface IdRange {
  readonly container: number;
  readonly host: number;
  readonly size: number;
}

export interface IdMapping {
  readonly uid: readonly IdRange[];
  readonly gid: readonly IdRange[];
}

/** Reads `0:100000:65536`, several with commas. @throws INVALID_ARGUMENT naming `field`. */
export function parseIdRanges(text: string, field: string): IdRange[] {
  return text.split(",").map((range) => {
    const match = /^(\d{1,10}):(\d{1,10}):(\d{1,10})$/.exec(range);
    const [container, host, size] = (match ?? []).slice(1).map(Number);
    if (container === undefined || host === undefined || size === undefined || size === 0) {
      const description = `${JSON.stringify(range)} is no mapping such as 0:100000:65536 (inside, outside, how many)`;
      throw StatusError.invalid([{ field, description }]);
    }
    return { container, host, size };
  });
}

/** What an owner on the disk looks like outside; the overflow id where it is not mapped. */
export function mapId(ranges: readonly IdRange[], id: number): number {
  const range = ranges.find(({ container, size }) => id >= container && id < container + size);
  return range === undefined ? 65_534 : range.host + (id - range.container);
}

/** Mounts the directory `source` on `target` with other owners. */
export function mountIdmapped(
  source: string,
  target: string,
  mapping: IdMapping,
  options: { readonly readonly?: boolean } = {},
): void {
  const tree = idmappedTree(source, mapping, options.readonly ?? false);
  try {
    const moved = syscalls.moveMount(SYS.moveMount, tree, "", AT_FDCWD, cPath(target), MOVE_MOUNT_F_EMPTY_PATH);
    check(moved, "move_mount on", target);
  } finally {
    libc.close(tree);
  }
}

/** Why directories here cannot be shown with other owners; undefined when they can. Mounts nothing. */
export function idmapProblem(directory: string): string | undefined {
  try {
    const range = [{ container: 0, host: 100_000, size: 65_536 }];
    libc.close(idmappedTree(directory, { uid: range, gid: range }, true));
    return undefined;
  } catch (error) {
    const { reason, message } = StatusError.from(error);
    if (reason === "EINVAL") return "the file system cannot be mounted with other owners (idmapped)";
    if (reason === "ENOSYS") return "the kernel has no idmapped mounts (needs Linux 5.12)";
    return message;
  }
}

function idmappedTree(source: string, mapping: IdMapping, readonly: boolean): number {
  const userns = userNamespaceFd(mapping);
  const flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
  const tree = check(syscalls.openTree(SYS.openTree, AT_FDCWD, cPath(source), flags), "open_tree", source);
  const attributes = Buffer.alloc(MOUNT_ATTR_BYTES);
  attributes.writeBigUInt64LE(MOUNT_ATTR_IDMAP | (readonly ? MOUNT_ATTR_RDONLY : 0n), 0);
  attributes.writeBigUInt64LE(BigInt(userns), 24);
  if (syscalls.mountSetattr(SYS.mountSetattr, tree, "", AT_EMPTY_PATH, attributes, MOUNT_ATTR_BYTES) < 0) {
    const errno = lastErrno();
    libc.close(tree);
    throw kernelError("mount_setattr idmap", show(source), errno);
  }
  return tree;
}

/** By mapping; kept for the life of the process, or of the thread that asked. */
const namespaces = new Map<string, number>();

function userNamespaceFd(mapping: IdMapping): number {
  const [uid, gid] = [mapText(mapping.uid), mapText(mapping.gid)];
  const key = `${uid}|${gid}`;
  let fd = namespaces.get(key);
  if (fd === undefined) {
    fd = makeUserNamespace(uid, gid);
    namespaces.set(key, fd);
  }
  return fd;
}

function mapText(ranges: readonly IdRange[]): string {
  return ranges.map(({ container, host, size }) => `${container} ${host} ${size}\n`).join("");
}

function makeUserNamespace(uid: string, gid: string): number {
  // util-linux's unshare; it waits for a word on its standard input that never comes.
  const child = spawn("unshare", ["--user", "--", "cat"], { stdio: ["pipe", "ignore", "ignore"] });
  child.on("error", () => {});
  child.unref();
  const { pid } = child;
  if (pid === undefined) throw new StatusError("FAILED_PRECONDITION", "unshare (util-linux) is not installed");
  try {
    awaitOwnNamespace(pid);
    writeFileSync(`/proc/${pid}/uid_map`, uid);
    writeFileSync(`/proc/${pid}/gid_map`, gid);
    return openSync(`/proc/${pid}/ns/user`, "r");
  } catch (error) {
    throw fromNodeError(error, "make user namespace", JSON.stringify(`${uid}|${gid}`));
  } finally {
    child.kill("SIGKILL");
  }
}

/** Some milliseconds, once per mapping: the namespace is needed in the middle of a synchronous mount. */
function awaitOwnNamespace(pid: number): void {
  const ours = readlinkSync("/proc/self/ns/user");
  const sleeper = new Int32Array(new SharedArrayBuffer(4));
  for (let waitedMs = 0; waitedMs < USERNS_WAIT_MS; waitedMs += 1) {
    if (readlinkSync(`/proc/${pid}/ns/user`) !== ours) return;
    if (/\bState:\s+[ZX]/.test(readFileSync(`/proc/${pid}/status`, "utf8"))) break;
    Atomics.wait(sleeper, 0, 0, 1);
  }
  throw new StatusError("FAILED_PRECONDITION", "user namespaces cannot be made here (see user.max_user_namespaces)", {
    reason: "USER_NAMESPACE_UNUSABLE",
  });
}
