/** A host's folder of versions, made of one release: others are the same with another name, or with an agent that fails. */
import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
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
  /** The release as `npm run pack` made it: not in the folder yet. */
  readonly archive: { readonly file: string; readonly sha256: string };
  /** The same as an image in OCI's layout, with its digest. */
  readonly image: { readonly folder: string; readonly digest: string };
}

/** An agent that says its version, and otherwise does this. The release's own lies beside it, as `own.js`. */
export const failingAgent = (version: string, body: string): string =>
  `if (process.argv.includes("--version")) { console.log(${JSON.stringify(version)}); process.exit(0); }\n${body}\n`;

/** @param first the version in the folder; @param packed the one that is packed */
export function makeVersions(dir: string, first: string, packed: string): Versions {
  const folder = join(dir, "opt");
  const out = join(dir, "dist");
  const run = (command: string, ...args: string[]): string => execFileSync(command, args, { encoding: "utf8" });
  const said = run(process.execPath, join(ROOT, "deploy/pack/pack.ts"), "--out", out, "--version", packed);
  const file = join(
    out,
    readdirSync(out).find((name) => name.endsWith(".gz"))!,
  );
  const unpacked = join(dir, "unpacked");
  mkdirSync(unpacked);
  run("tar", "-xzf", file, "-C", unpacked);
  const release = join(unpacked, readdirSync(unpacked)[0]!);

  const make = (tree: string, version: string, agent?: string): void => {
    run("cp", "-al", release, tree);
    const replace = (name: string, change: (text: string) => string): void => {
      const text = change(readFileSync(join(tree, name), "utf8"));
      // The links share their content.
      rmSync(join(tree, name));
      writeFileSync(join(tree, name), text);
    };
    replace("VERSION", (text) => text.replace(/^version=.*/, `version=${version}`));
    replace("lib/package.json", (text) => text.replace(JSON.stringify(packed), JSON.stringify(version)));
    if (agent === undefined) return;
    cpSync(join(tree, "lib/agent/main.js"), join(tree, "lib/agent/own.js"));
    replace("lib/agent/main.js", () => agent);
  };
  const installed = join(dir, `berth-${first}`);
  make(installed, first);
  run("sh", join(installed, "install.sh"), folder);
  return {
    folder,
    archive: { file, sha256: readFileSync(join(out, "SHA256SUMS"), "utf8").slice(0, 64) },
    image: { folder: join(out, "image"), digest: /sha256:[0-9a-f]{64}$/.exec(said.trim())![0] },
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
