/** Puts everything of a directory's file system on disk. */
import { closeSync } from "node:fs";
import { openDirectory, syncfs } from "@berth/linux";

export async function syncFileSystem(directory: string): Promise<void> {
  const fd = openDirectory(directory);
  try {
    await syncfs(fd);
  } finally {
    closeSync(fd);
  }
}
