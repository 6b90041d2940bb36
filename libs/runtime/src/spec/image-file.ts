/** Reading small files of an image safely (A5): beneath its root whatever its links say, regular files only, bounded. */
import { closeSync, constants, fstatSync, readFileSync } from "node:fs";
import { StatusError } from "@berth/base";
import { openDirectory, tryOpenBeneath } from "@berth/linux";
import type { ReadImageFile } from "./user.ts";

/** The passwd of a large site is well below this; more would be an attack on the agent's memory. */
const MAX_BYTES = 4 * 1024 * 1024;

/** Reads files beneath `rootfs`; gives undefined for one that does not exist. */
export function imageFileReader(rootfs: string): ReadImageFile {
  return (path) => Promise.resolve(readBeneath(rootfs, path));
}

function readBeneath(rootfs: string, path: string): string | undefined {
  const root = openDirectory(rootfs);
  try {
    // O_NONBLOCK: an image may have put a FIFO there, whose opening would otherwise wait forever.
    const file = tryOpenBeneath(root, path, constants.O_RDONLY | constants.O_NONBLOCK);
    if (file === undefined) return undefined;
    try {
      return readRegular(file, path);
    } finally {
      closeSync(file);
    }
  } finally {
    closeSync(root);
  }
}

function readRegular(file: number, path: string): string {
  const info = fstatSync(file);
  if (!info.isFile() || info.size > MAX_BYTES) {
    throw new StatusError("FAILED_PRECONDITION", `the image's ${path} is not a regular file of at most 4 MiB`, {
      reason: "IMAGE_FILE_UNUSABLE",
    });
  }
  return readFileSync(file, "utf8");
}
