/** The directory that mounts show, held open: a bind mount's own source, or the mounts made for the time being. */
import { closeSync } from "node:fs";
import { openDirectory } from "@berth/linux";
import { mountAll, unmountTarget, type Mount } from "@berth/snapshots/mounting";

export interface OpenMounts extends Disposable {
  readonly fd: number;
}

/** @param mountPoint an empty directory; unused for a single bind mount */
export function openMounts(mounts: readonly Mount[], mountPoint: string): OpenMounts {
  const [only] = mounts;
  if (only?.type === "bind" && mounts.length === 1) return ownFd(only.source, () => {});
  mountAll(mounts, mountPoint);
  const unmount = (): void => unmountTarget(mountPoint);
  try {
    return ownFd(mountPoint, unmount);
  } catch (error) {
    unmount();
    throw error;
  }
}

function ownFd(path: string, after: () => void): OpenMounts {
  const fd = openDirectory(path);
  return {
    fd,
    [Symbol.dispose]() {
      closeSync(fd);
      after();
    },
  };
}
