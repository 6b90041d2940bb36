/**
 * What becomes of versions that an upgrade has left behind. The one before stays, for the way back; older ones that ran here, or were
 * tried and taken back, are removed when the next version has proven itself. What never ran was put there on purpose and stays; so does
 * what any process of the host still runs from, such as a controller beside the agent, or the stopper.
 */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { UpgradeOrder, VersionsFolder } from "./versions-folder.ts";

/** @returns the versions whose trees were removed */
export async function prunePast(
  folder: VersionsFolder,
  { from, to }: Pick<UpgradeOrder, "from" | "to">,
): Promise<readonly string[]> {
  folder.pass(from);
  const removed: string[] = [];
  for (const version of folder.past()) {
    const tree = folder.tree(version);
    if (version === from || version === to || version === folder.current() || isUsed(tree)) continue;
    try {
      await rm(tree, { recursive: true, force: true });
      removed.push(version);
    } catch {
      // The next upgrade tries again.
    }
  }
  folder.keepPast(folder.past().filter((version) => !removed.includes(version)));
  return removed;
}

/** Does a process have its program or a script of it beneath the folder? */
export function isUsed(tree: string): boolean {
  return readdirSync("/proc").some((pid) => /^\d+$/.test(pid) && programsOf(pid).includes(`${tree}/`));
}

function programsOf(pid: string): string {
  const read = (look: () => string): string => {
    try {
      return look();
    } catch {
      return ""; // It has ended.
    }
  };
  const exe = read(() => readlinkSync(join("/proc", pid, "exe")));
  return `${exe}\0${read(() => readFileSync(join("/proc", pid, "cmdline"), "utf8"))}`;
}
