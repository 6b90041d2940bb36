/** What a node holds on its host, counted from the outside: mounts, cgroups, network namespaces, directories, processes. */
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** Mount points beneath a directory, deepest first. */
export function mountsBeneath(dir: string): string[] {
  return readFileSync("/proc/self/mountinfo", "utf8")
    .split("\n")
    .filter(Boolean)
    .map((line) =>
      line
        .split(" ")[4]!
        .replaceAll(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8))),
    )
    .filter((point) => point.startsWith(`${dir}/`))
    .reverse();
}

export function unmountTree(dir: string): void {
  for (const point of mountsBeneath(dir)) execFileSync("umount", ["-l", point]);
}

/** Every file and directory beneath `dir`, relative, bounded to what lies at most `depth` levels down. */
export function entriesBeneath(dir: string, depth: number): string[] {
  if (depth === 0 || !existsSync(dir)) return [];
  return readdirSync(dir, { withFileTypes: true }).flatMap((entry) => {
    const below = entry.isDirectory() ? entriesBeneath(join(dir, entry.name), depth - 1) : [];
    return [entry.name, ...below.map((name) => `${entry.name}/${name}`)];
  });
}
