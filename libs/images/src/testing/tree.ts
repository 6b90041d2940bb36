/** A directory tree as data, to be compared in tests: everything that an archive can say of it. */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { join } from "node:path";
import { getXattr, listXattrs, statPath } from "@berth/linux";

export interface TreeOptions {
  /** Times of directories count by default. */
  readonly directoryTimes?: boolean;
}

/** One line per entry, by path: type, mode, owner, time, device, attributes, content, and what it is linked with. */
export function describeTree(root: string, options: TreeOptions = {}): Record<string, string> {
  const lines: Record<string, string> = {};
  const links = new Map<bigint, string>();
  const visit = (path: string): void => {
    const full = Buffer.concat([Buffer.from(root), Buffer.from(`/${path}`, "latin1")]);
    const info = statPath(full)!;
    const parts: unknown[] = [info.type, info.mode.toString(8), `${info.uid}:${info.gid}`];
    const timed = info.type !== "directory" || options.directoryTimes !== false;
    if (timed) parts.push(`${info.modified.seconds}.${info.modified.nanoseconds}`);
    if (info.type === "character" || info.type === "block") parts.push(`${info.rdevMajor}:${info.rdevMinor}`);
    for (const name of listXattrs(full)) {
      if (name.includes("overlay.") || name === "security.selinux") continue;
      parts.push(`${name}=${getXattr(full, name)!.toString("hex")}`);
    }
    if (info.type === "symlink") parts.push(readlinkSync(full, "latin1"));
    if (info.type === "file") parts.push(`${info.sizeBytes}`, readFileSync(full, "latin1").slice(0, 4096));
    if (info.type !== "directory" && info.links > 1) {
      parts.push(`= ${links.get(info.inode) ?? path}`);
      if (!links.has(info.inode)) links.set(info.inode, path);
    }
    if (path !== "") lines[path] = parts.join(" ");
    if (info.type !== "directory") return;
    for (const name of readdirSync(full, "latin1").sort()) visit(path === "" ? name : join(path, name));
  };
  visit("");
  return lines;
}
