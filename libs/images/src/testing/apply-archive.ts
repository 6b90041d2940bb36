/** Applies an archive to a directory, in one go or in chunks, for tests. */
import { closeSync } from "node:fs";
import { openDirectory } from "@berth/linux";
import { TreeWriter, type ApplyOptions } from "../archive/apply.ts";
import { TarReader } from "../archive/reader.ts";

/** @returns warnings */
export function applyArchive(
  root: string,
  archive: Buffer,
  options: Partial<ApplyOptions> & { readonly chunkBytes?: number } = {},
): string[] {
  const warnings: string[] = [];
  const fd = openDirectory(root);
  try {
    using writer = new TreeWriter(fd, { mode: "base", onWarning: (text) => warnings.push(text), ...options });
    const reader = new TarReader(writer, options.limits);
    const step = options.chunkBytes ?? archive.length;
    for (let at = 0; at < archive.length; at += step) reader.push(archive.subarray(at, at + step));
    reader.end();
    writer.finish();
  } finally {
    closeSync(fd);
  }
  return warnings;
}
