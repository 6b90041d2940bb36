/**
 * The build before this one, to run beside it: an earlier commit of this repository, unpacked out of its history, with the npm
 * packages that are installed here. It needs the commit: a shallow clone may lack it.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, readdirSync, symlinkSync } from "node:fs";
import { join, resolve } from "node:path";
import { checkoutBuild, type Build } from "@berth/testkit";

const ROOT = resolve(import.meta.dirname, "../../..");

/**
 * What this build has to work with: its controllers with these agents and on one database with these controllers, its agents with
 * these controllers. Moved on by each release, to the one that it replaces on hosts.
 */
export const PREVIOUS_COMMIT = "5c89481264dd29604a98db837d4b6b77f21b43dc";

/** Why the commit cannot be had here; undefined when it can. */
export function whyNotThere(commit: string): string | undefined {
  try {
    git("rev-parse", "--git-dir");
  } catch {
    return "this is no git repository, so there is no build before it";
  }
  try {
    git("cat-file", "-e", `${commit}^{commit}`);
    return undefined;
  } catch {
    const shallow = git("rev-parse", "--is-shallow-repository").trim() === "true";
    return `this clone has no commit ${commit}${shallow ? ": it is shallow; git fetch --unshallow" : ""}`;
  }
}

/** @param dir where it is unpacked; made here */
export function previousBuild(commit: string, dir: string): Build {
  mkdirSync(dir, { recursive: true });
  const archive = execFileSync("git", ["-C", ROOT, "archive", "--format=tar", commit], {
    maxBuffer: 256 * 1024 * 1024,
  });
  execFileSync("tar", ["-x", "-C", dir], { input: archive });
  linkPackages(dir);
  return checkoutBuild(dir);
}

/** Foreign packages are those installed here; Berth's own are that commit's. */
function linkPackages(dir: string): void {
  const modules = join(dir, "node_modules");
  mkdirSync(join(modules, "@berth"), { recursive: true });
  for (const name of readdirSync(join(ROOT, "node_modules")))
    if (name !== "@berth" && name !== ".cache") symlinkSync(join(ROOT, "node_modules", name), join(modules, name));
  for (const lib of readdirSync(join(dir, "libs"))) symlinkSync(join(dir, "libs", lib), join(modules, "@berth", lib));
}

function git(...args: string[]): string {
  return execFileSync("git", ["-C", ROOT, ...args], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] });
}
