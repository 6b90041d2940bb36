/** Options that overlay mounts need on this host. */
import { existsSync, readFileSync } from "node:fs";

/**
 * What every overlay is mounted with. `index=off`: with an index, a layer could not be the upper directory of one mount
 * and, once committed, the lower one of another. `userxattr`: in a user namespace, `trusted.*` cannot be written.
 */
export function overlayOptions(): readonly string[] {
  return [
    ...(existsSync("/sys/module/overlay/parameters/index") ? ["index=off"] : []),
    ...(inUserNamespace() ? ["userxattr"] : []),
  ];
}

function inUserNamespace(): boolean {
  try {
    return !/^\s*0\s+0\s+4294967295\s*$/.test(readFileSync("/proc/self/uid_map", "utf8"));
  } catch {
    return false;
  }
}
