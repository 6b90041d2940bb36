/** What a release is called: the version of package.json and the commit that it is made of. */
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

export interface Release {
  /** `0.1.0+1a2b3c4d5e6f`; with `.dirty` when files differ from the commit. */
  readonly version: string;
  readonly commit: string;
  /** Of the commit. */
  readonly timeSeconds: number;
  readonly arch: string;
}

/** `berth-VERSION-linux-ARCH`: the archive's name without its suffix, and the folder in it. */
export function releaseName({ version, arch }: Release): string {
  return `berth-${version}-linux-${arch}`;
}

/**
 * @param version instead of the one of package.json and the commit
 * @throws when the Node of this machine's architecture is not installed
 */
export function releaseOf(repository: string, version?: string): Release {
  const { arch } = process;
  const node = `node_modules/node-linux-${arch}/bin/node`;
  if (!existsSync(join(repository, node))) throw new Error(`${node} is missing: run sh deploy/dev/install.sh first`);
  const git = (...args: string[]): string =>
    execFileSync("git", ["-C", repository, ...args], { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }).trim();
  const manifest = JSON.parse(readFileSync(join(repository, "package.json"), "utf8")) as { version: string };
  try {
    const commit = git("rev-parse", "HEAD");
    const timeSeconds = Number(git("show", "-s", "--format=%ct", "HEAD"));
    const dirty = git("status", "--porcelain") === "" ? "" : ".dirty";
    const stamped = `${manifest.version}+${commit.slice(0, 12)}${dirty}`;
    return { version: version ?? stamped, commit: `${commit}${dirty}`, timeSeconds, arch };
  } catch {
    // Not a clone: an archive of the sources, say.
    return { version: version ?? manifest.version, commit: "unknown", timeSeconds: 0, arch };
  }
}
