export {
  btrfsQuotaEnabled,
  createSubvolume,
  destroySubvolume,
  isSubvolume,
  isSubvolumeReadonly,
  limitSubvolume,
  setSubvolumeReadonly,
  snapshotSubvolume,
  subvolumeOwnBytes,
} from "./btrfs.ts";
export {
  addToCgroup,
  cgroupExists,
  cgroupPids,
  createCgroup,
  killCgroup,
  removeCgroup,
  type RemoveCgroupOptions,
} from "./cgroup/cgroup.ts";
export { detectCgroupLayout, type CgroupLayout } from "./cgroup/layout.ts";
export { cgroupOomKills, cgroupStats, type CgroupStats } from "./cgroup/stats.ts";
export { diskInfo, type DiskInfo } from "./disk.ts";
export { errnoName, fromNodeError, hasErrno, kernelError } from "./errno.ts";
export { statAt, statFd, statPath, type FileInfo, type FileType } from "./file-info.ts";
export { idmapProblem, mapId, mountIdmapped, parseIdRanges, type IdMapping, type IdRange } from "./idmap.ts";
export type { PathArg } from "./libc.ts";
export { parseMountOptions, type ParsedMountOptions } from "./mount-options.ts";
export { mount, unmount, unmountAll, unmountUnder, type MountRequest, type UnmountOptions } from "./mount.ts";
export { isMountPoint, mounts, mountsUnder, parseMountInfo, type MountInfo } from "./mountinfo.ts";
export { connectInNetns } from "./netns-socket.ts";
export { createNetns, listNetns, removeNetns, type NetnsEntry } from "./netns.ts";
export {
  chmodAt,
  chownAt,
  linkAt,
  linkFdAt,
  makeDevice,
  mkdirAt,
  mknodAt,
  O_CLOEXEC,
  O_PATH,
  O_TMPFILE,
  openAt,
  openBeneath,
  openDirectory,
  pathAt,
  readlinkAt,
  renameAt,
  Resolve,
  setTimes,
  setTimesAt,
  symlinkAt,
  tryCreateAt,
  tryLinkAt,
  tryOpenBeneath,
  unlinkAt,
  type Timestamp,
} from "./paths.ts";
export { openPipe, type Pipe } from "./pipe.ts";
export {
  bootId,
  boottimeMs,
  isAlive,
  killProcess,
  processStartTicks,
  processStat,
  type ProcessStat,
} from "./process.ts";
export { limitProject, projectBytes, projectQuotaProblem, unlimitProject } from "./project-quota.ts";
export { connectSeqpacket, shutdownReading } from "./packet-socket.ts";
export { openPty, setWindowSize, windowSize, type Pty, type WindowSize } from "./pty.ts";
export { signalName, signalNumber } from "./signals.ts";
export { fsyncDirectory, syncfs, syncfsBlocking } from "./sync.ts";
export { isOpaque, isWhiteout, makeWhiteoutAt, setOpaque, type OverlayXattrPrefix } from "./whiteout.ts";
export { getXattr, listXattrs, removeXattr, setXattr, type XattrTarget } from "./xattr.ts";
