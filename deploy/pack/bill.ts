/**
 * The bill of materials: which npm packages are in a release, by what is in the bundles and not by what is installed; as a
 * CycloneDX document, and as the text of their licences.
 */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

export interface PackagePart {
  readonly name: string;
  readonly version: string;
  readonly license: string;
  /** As package-lock.json has it. */
  readonly integrity: string;
  /** Relative to the repository. */
  readonly folder: string;
}

interface LockEntry {
  readonly version?: string;
  readonly license?: string;
  readonly integrity?: string;
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

type Lock = Readonly<Record<string, LockEntry>>;

export function readLock(repository: string): Lock {
  return (JSON.parse(readFileSync(join(repository, "package-lock.json"), "utf8")) as { packages: Lock }).packages;
}

/** `node_modules/a/node_modules/@b/c/lib/x.js` is of `node_modules/a/node_modules/@b/c`. */
export function packageFolderOf(file: string): string | undefined {
  return /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+(?=\/)/.exec(file)?.[0];
}

/** The folder of each package, with those that it needs and that are installed here: optional ones are there or not. */
export function closureOf(repository: string, lock: Lock, names: readonly string[]): readonly string[] {
  const found = new Set<string>();
  const visit = (folder: string): void => {
    if (found.has(folder) || !existsSync(join(repository, folder, "package.json"))) return;
    found.add(folder);
    const { dependencies = {}, optionalDependencies = {} } = lock[folder] ?? {};
    for (const name of Object.keys({ ...dependencies, ...optionalDependencies })) visit(`node_modules/${name}`);
  };
  for (const name of names) visit(`node_modules/${name}`);
  return [...found].toSorted();
}

/** @param folders of packages, relative to the repository */
export function partsOf(lock: Lock, folders: Iterable<string>): readonly PackagePart[] {
  return [...new Set(folders)].toSorted().map((folder) => {
    const entry = lock[folder];
    if (entry?.version === undefined) throw new Error(`package-lock.json does not know ${folder}`);
    return {
      name: folder.slice(folder.lastIndexOf("node_modules/") + "node_modules/".length),
      version: entry.version,
      license: entry.license ?? "",
      integrity: entry.integrity ?? "",
      folder,
    };
  });
}

/** CycloneDX 1.5; without a time or a serial number, which would differ from run to run. */
export function billOfMaterials(version: string, parts: readonly PackagePart[]): string {
  const components = parts.map(({ name, version: of, license, integrity }) => ({
    type: "library",
    name,
    version: of,
    purl: `pkg:npm/${name.replace("@", "%40")}@${of}`,
    ...(license === "" ? {} : { licenses: [{ expression: license }] }),
    ...hashesOf(integrity),
  }));
  const document = {
    bomFormat: "CycloneDX",
    specVersion: "1.5",
    version: 1,
    metadata: { component: { type: "application", name: "berth", version, licenses: [{ expression: "Apache-2.0" }] } },
    components,
  };
  return `${JSON.stringify(document, null, 1)}\n`;
}

function hashesOf(integrity: string): { hashes?: readonly { alg: string; content: string }[] } {
  const [, content] = /^sha512-(.+)$/.exec(integrity) ?? [];
  if (content === undefined) return {};
  return { hashes: [{ alg: "SHA-512", content: Buffer.from(content, "base64").toString("hex") }] };
}

/** What the packages' own files say of their licences. */
export function licenseTexts(repository: string, parts: readonly PackagePart[]): string {
  return parts
    .map(({ name, version, license, folder }) => {
      const files = readdirSync(join(repository, folder)).filter((file) =>
        /^(?:licen[cs]e|notice|copying)/i.test(file),
      );
      const texts = files.toSorted().map((file) => readFileSync(join(repository, folder, file), "utf8").trim());
      return [`${"=".repeat(80)}\n${name} ${version}: ${license || "see below"}`, ...texts].join("\n\n");
    })
    .join("\n\n");
}
