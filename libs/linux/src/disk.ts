/** How full a file system is, and of which kind. */
import { kernelError } from "./errno.ts";
import { cPath, lastErrno, libc, show, type PathArg } from "./libc.ts";

export interface DiskInfo {
  /** `ext4` (ext2 and ext3 too), `xfs`, `btrfs`, `tmpfs`, `overlay`…; `0x…` for one without a name here. */
  readonly fsType: string;
  readonly totalBytes: number;
  readonly freeBytes: number;
  /** Free for anyone, without what is reserved for root. */
  readonly availableBytes: number;
  readonly totalInodes: number;
  readonly freeInodes: number;
  /** Flags of the mount that the path is on (ST_RDONLY 1, ST_NOSUID 2, ST_NODEV 4, ST_NOEXEC 8…). */
  readonly mountFlags: number;
}

// linux/magic.h
const FS_TYPES: Readonly<Record<number, string>> = {
  0xef53: "ext4",
  0x58465342: "xfs",
  0x9123683e: "btrfs",
  0x01021994: "tmpfs",
  0x794c7630: "overlay",
  0x2fc12fc1: "zfs",
  0x6969: "nfs",
  0x65735546: "fuse",
  0xe0f5e1e2: "erofs",
  0x73717368: "squashfs",
  0xf2f52010: "f2fs",
  0x858458f6: "ramfs",
  0x62656572: "sysfs",
  0x9fa0: "proc",
  0x27e0eb: "cgroup",
  0x63677270: "cgroup2",
  0x6e736673: "nsfs",
  0x6a656a63: "virtiofs",
  0xca451a4e: "bcachefs",
};

const buffer = Buffer.alloc(256);

/** @throws NOT_FOUND for a path that is not there. */
export function diskInfo(path: PathArg): DiskInfo {
  if (libc.statfs(cPath(path), buffer) < 0) throw kernelError("statfs", show(path), lastErrno());
  // struct statfs of 64-bit Linux: eleven longs (type, bsize, blocks, bfree, bavail, files, ffree, fsid, namelen, frsize, flags).
  const field = (index: number): number => Number(buffer.readBigUInt64LE(index * 8));
  const type = field(0) % 2 ** 32;
  const blockBytes = field(9) || field(1);
  return {
    fsType: FS_TYPES[type] ?? `0x${type.toString(16)}`,
    totalBytes: field(2) * blockBytes,
    freeBytes: field(3) * blockBytes,
    availableBytes: field(4) * blockBytes,
    totalInodes: field(5),
    freeInodes: field(6),
    mountFlags: field(10),
  };
}
