/** Can overlayfs work here? Answered by trying: a real overlay on the very directory, written through. */
import { mkdtempSync, readFileSync, rmSync, existsSync, mkdirSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { StatusError } from "@berth/base";
import { isWhiteout, mount, statPath, unmountAll } from "@berth/linux";
import type { Probe } from "../probe.ts";
import { overlayOptions } from "./options.ts";

/** Never throws: what fails is the reason. Makes `root` if it is missing. */
export function probe(root: string): Probe {
  const special = /[,:\\]/.exec(root)?.[0];
  if (special !== undefined) {
    // Shims and runtimes get these paths as mount options, which some of them split without escapes.
    return { usable: false, reason: `its directory ${JSON.stringify(root)} has a ${JSON.stringify(special)} in it` };
  }
  let dir: string | undefined;
  try {
    mkdirSync(root, { recursive: true, mode: 0o711 });
    dir = mkdtempSync(join(root, "probe-"));
    return tryOverlay(dir);
  } catch (error) {
    return { usable: false, reason: explain(StatusError.from(error)) };
  } finally {
    if (dir !== undefined) clear(dir);
  }
}

function tryOverlay(dir: string): Probe {
  const [lower, lower2, upper, work, merged] = ["lower", "lower2", "upper", "work", "merged"].map((name) => {
    mkdirSync(join(dir, name));
    return join(dir, name);
  }) as [string, string, string, string, string];
  writeFileSync(join(lower, "file"), "");
  mount({
    type: "overlay",
    source: "overlay",
    target: merged,
    options: [...overlayOptions(), `workdir=${work}`, `upperdir=${upper}`, `lowerdir=${lower}:${lower2}`],
  });
  unlinkSync(join(merged, "file"));
  const whiteout = statPath(join(upper, "file"));
  if (whiteout === undefined || !isWhiteout(whiteout)) return { usable: false, reason: "deleting leaves no whiteout" };
  return { usable: true };
}

function explain(error: StatusError): string {
  if (error.reason === "ENODEV" || !knowsOverlay()) return "the kernel has no overlayfs (is the module loaded?)";
  if (error.reason === "EPERM") return "mounting is not permitted (needs CAP_SYS_ADMIN)";
  if (error.reason === "EINVAL")
    return "this file system cannot hold an overlay's upper directory (is it itself an overlay?)";
  return error.message;
}

function knowsOverlay(): boolean {
  return existsSync("/proc/filesystems") && /\boverlay$/m.test(readFileSync("/proc/filesystems", "utf8"));
}

function clear(dir: string): void {
  try {
    unmountAll(join(dir, "merged"), { detach: true });
    rmSync(dir, { recursive: true, force: true });
  } catch {
    // The answer stands; the directory is empty but for the probe's own, and the next probe uses another.
  }
}
