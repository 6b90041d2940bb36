/**
 * What a release looks like, unpacked:
 *
 *   VERSION LICENSE NOTICE LICENSES.txt sbom.json install.sh
 *   bin/berth berthd berth-controller      launchers, by the Node of this tree
 *   lib/{cli,controller,agent}/*.js        bundles (bundle.ts)
 *   lib/package.json lib/migrations/       what bundles find beside their folder: the version, the steps of the schema
 *   lib/node_modules/                      packages with native parts
 *   libexec/node                           Node, as npm has it
 *   share/{systemd,compose,doc}/           units, sample configurations, documents
 */
import { chmodSync, cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { billOfMaterials, closureOf, licenseTexts, packageFolderOf, partsOf, readLock } from "./bill.ts";
import { bundlePrograms, NATIVE } from "./bundle.ts";
import type { Release } from "./release.ts";

const PROGRAMS = ["berth", "berthd", "berth-controller"];

/** @param root an empty folder */
export async function layTree(repository: string, root: string, release: Release): Promise<void> {
  const from = (path: string): string => join(repository, path);
  const to = (path: string): string => join(root, path);
  for (const folder of ["bin", "lib", "libexec"]) mkdirSync(to(folder), { recursive: true });
  const inputs = await bundlePrograms(repository, to("lib"));
  cpSync(from("apps/node-agent/src/stopper/stopper.sh"), to("lib/agent/stopper.sh"));
  cpSync(from("apps/node-agent/src/drill/pause.sh"), to("lib/agent/pause.sh"));
  cpSync(from("libs/store/migrations"), to("lib/migrations"), { recursive: true });
  const manifest = { name: "berth", version: release.version, license: "Apache-2.0", type: "module" };
  writeFileSync(to("lib/package.json"), `${JSON.stringify(manifest, null, 2)}\n`);

  const lock = readLock(repository);
  const native = closureOf(repository, lock, NATIVE);
  for (const folder of native) cpSync(from(folder), to(join("lib", folder)), { recursive: true, dereference: true });
  const node = `node_modules/node-linux-${release.arch}`;
  cpSync(from(`${node}/bin/node`), to("libexec/node"));

  const bundled = [...inputs].flatMap((file) => packageFolderOf(file) ?? []);
  const parts = partsOf(lock, [...bundled, ...native, node]);
  writeFileSync(to("sbom.json"), billOfMaterials(release.version, parts));
  writeFileSync(to("LICENSES.txt"), `${licenseTexts(repository, parts)}\n`);
  cpSync(from("LICENSE"), to("LICENSE"));
  writeFileSync(to("NOTICE"), notice(release, parts.length));
  writeFileSync(to("VERSION"), `version=${release.version}\ncommit=${release.commit}\narch=${release.arch}\n`);

  for (const name of PROGRAMS) copyProgram(from(`deploy/pack/launchers/${name}`), to(`bin/${name}`));
  copyProgram(from("deploy/pack/install.sh"), to("install.sh"));
  copyProgram(from("bin/berthd-start"), to("bin/berthd-start"));
  for (const folder of ["systemd", "compose"]) {
    const isSample = (path: string): boolean => !path.endsWith(".ts");
    cpSync(from(`deploy/${folder}`), to(`share/${folder}`), { recursive: true, filter: isSample });
  }
  cpSync(from("docs"), to("share/doc"), { recursive: true });
}

function copyProgram(from: string, to: string): void {
  writeFileSync(to, readFileSync(from));
  chmodSync(to, 0o755);
}

function notice({ version }: Release, packages: number): string {
  return `Berth ${version}\nLicensed under the Apache License, Version 2.0 (LICENSE).\nIt contains Node.js and ${packages - 1} packages from npm: sbom.json names them, LICENSES.txt has their licences.\n`;
}
