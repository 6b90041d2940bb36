/** A host's folder of versions, made of one release: others are the same with another name, or with an agent that fails. */
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { checkoutBuild, type Build } from "@berth/testkit";

const ROOT = resolve(import.meta.dirname, "../../..");

export interface Versions {
  /** As `/opt/berth`. */
  readonly folder: string;
  /** Agents of it under a service manager; the rest is of this repository. */
  readonly build: Build;
  /** Makes another version, in the folder. `agent` is the program that it has for one; default the release's own. */
  add(version: string, agent?: string): string;
  /** The same as an archive, and not in the folder. */
  archive(version: string): { readonly file: string; readonly sha256: string };
  /** The same as an image in OCI's layout, with its digest. */
  image(version: string): { readonly folder: string; readonly digest: string };
}

/** An agent that says its version, and otherwise does this. */
export const failingAgent = (version: string, body: string): string =>
  `if (process.argv.includes("--version")) { console.log(${JSON.stringify(version)}); process.exit(0); }\n${body}\n`;

export function makeVersions(dir: string, first: string): Versions {
  const folder = join(dir, "opt");
  const out = join(dir, "dist");
  const run = (command: string, ...args: string[]): string => execFileSync(command, args, { encoding: "utf8" });
  run(process.execPath, join(ROOT, "deploy/pack/pack.ts"), "--out", out, "--version", first);
  const unpacked = join(dir, "unpacked");
  mkdirSync(unpacked);
  run(
    "tar",
    "-xzf",
    join(
      out,
      readdirSync(out).find((name) => name.endsWith(".gz"))!,
    ),
    "-C",
    unpacked,
  );
  run("sh", join(unpacked, readdirSync(unpacked)[0]!, "install.sh"), folder);
  rmSync(unpacked, { recursive: true });

  const make = (tree: string, version: string, agent?: string): void => {
    run("cp", "-al", join(folder, "versions", first), tree);
    const replace = (name: string, change: (text: string) => string): void => {
      const text = change(readFileSync(join(tree, name), "utf8"));
      // The links share their content.
      rmSync(join(tree, name));
      writeFileSync(join(tree, name), text);
    };
    rmSync(join(tree, "cache"), { recursive: true, force: true });
    replace("VERSION", (text) => text.replace(/^version=.*/, `version=${version}`));
    replace("lib/package.json", (text) => text.replace(JSON.stringify(first), JSON.stringify(version)));
    if (agent !== undefined) replace("lib/agent/main.js", () => agent);
  };
  const archive: Versions["archive"] = (version) => {
    const tree = join(dir, `berth-${version}`);
    const file = `${tree}.tar.gz`;
    make(tree, version);
    run("tar", "--use-compress-program=gzip -1", "-cf", file, "-C", dir, `berth-${version}`);
    rmSync(tree, { recursive: true });
    return { file, sha256: run("sha256sum", file).slice(0, 64) };
  };
  return {
    folder,
    archive,
    image(version) {
      const { file, sha256 } = archive(version);
      const layout = join(dir, `image-${version}`);
      const program = join(ROOT, "deploy/pack/image.ts");
      return { folder: layout, digest: run(process.execPath, program, file, sha256, version, layout).trim() };
    },
    build: (program, ...args) =>
      program === "node-agent"
        ? ["sh", join(import.meta.dirname, "service-manager.sh"), join(folder, "bin/berthd-start"), ...args]
        : checkoutBuild(ROOT)(program, ...args),
    add(version, agent) {
      const tree = join(folder, "versions", version);
      make(tree, version, agent);
      return tree;
    },
  };
}
