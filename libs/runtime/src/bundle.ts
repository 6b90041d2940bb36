/**
 * Bundles: the directory of a container with `config.json` and the files bound over the image's /etc.
 *
 * Invariants:
 *  1. A reader sees no half-written file: each is written beside and renamed.
 *  2. A bundle may hold secrets (environment): directory 0700, config.json 0600. The files of /etc are 0644, as the
 *     container's users must read them.
 *  3. `removeBundle` never descends into a mount: whoever mounted the root unmounts it first.
 */
import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { StatusError } from "@berth/base";
import { mountsUnder } from "@berth/linux";
import type { EtcFiles } from "./spec/mounts.ts";
import type { OciSpec } from "./spec/oci-spec.ts";

/** What /etc of a container says. */
export interface EtcContent {
  readonly hostname: string;
  /** The container's own addresses, for /etc/hosts. */
  readonly addresses: readonly string[];
  readonly nameservers: readonly string[];
  readonly searches?: readonly string[];
  readonly options?: readonly string[];
}

/** Where {@link writeEtcFiles} puts its files; the spec binds them. */
export function etcFiles(bundle: string): Required<EtcFiles> {
  return {
    hosts: join(bundle, "etc", "hosts"),
    hostname: join(bundle, "etc", "hostname"),
    resolvConf: join(bundle, "etc", "resolv.conf"),
  };
}

/** Writes hosts, hostname and resolv.conf of a container and gives their paths. */
export async function writeEtcFiles(bundle: string, content: EtcContent): Promise<Required<EtcFiles>> {
  const files = etcFiles(bundle);
  await makeBundle(bundle);
  // 0755: bound files are reached through the mount, but their directory must not keep other users out on its own.
  await mkdir(join(bundle, "etc"), { recursive: true, mode: 0o755 });
  await Promise.all([
    writeAtomically(files.hosts, hostsText(content), 0o644),
    writeAtomically(files.hostname, `${content.hostname}\n`, 0o644),
    writeAtomically(files.resolvConf, resolvConfText(content), 0o644),
  ]);
  return files;
}

export async function writeSpec(bundle: string, spec: OciSpec): Promise<void> {
  await makeBundle(bundle);
  await writeAtomically(join(bundle, "config.json"), JSON.stringify(spec), 0o600);
}

/** @throws NOT_FOUND when there is no config.json; DATA_LOSS when it is none. */
export async function readSpec(bundle: string): Promise<OciSpec> {
  const path = join(bundle, "config.json");
  const text = await readFile(path, "utf8").catch((error: unknown) => {
    throw StatusError.from(error, `bundle ${bundle}`);
  });
  try {
    return JSON.parse(text) as OciSpec;
  } catch (error) {
    throw new StatusError("DATA_LOSS", `bundle ${bundle}: config.json is damaged`, { cause: error });
  }
}

/** @throws FAILED_PRECONDITION `BUNDLE_BUSY` while something is mounted in it. A bundle that is not there is no error. */
export async function removeBundle(bundle: string): Promise<void> {
  const [mounted] = mountsUnder(bundle);
  if (mounted !== undefined) {
    throw new StatusError("FAILED_PRECONDITION", `bundle ${bundle}: ${mounted.target} is still mounted`, {
      reason: "BUNDLE_BUSY",
    });
  }
  await rm(bundle, { recursive: true, force: true });
}

/**
 * The host's name servers, for containers with a network of their own: loopback ones are of no use there, so that where
 * systemd-resolved answers on 127.0.0.53 its upstream list is taken instead.
 */
export async function hostNameservers(
  paths: readonly string[] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"],
): Promise<Pick<EtcContent, "nameservers"> & Required<Pick<EtcContent, "searches" | "options">>> {
  for (const path of paths) {
    const parsed = parseResolvConf(await readFile(path, "utf8").catch(() => ""));
    const nameservers = parsed.nameservers.filter((address) => !/^(127\.|::1$)/.test(address));
    if (nameservers.length > 0) return { ...parsed, nameservers };
  }
  return { nameservers: [], searches: [], options: [] };
}

function parseResolvConf(text: string): Pick<EtcContent, "nameservers"> & {
  readonly searches: readonly string[];
  readonly options: readonly string[];
} {
  const words = text.split("\n").map((line) =>
    line
      .replace(/[#;].*$/, "")
      .trim()
      .split(/\s+/),
  );
  const of = (keyword: string): readonly string[] =>
    words.filter(([first]) => first === keyword).flatMap(([, ...rest]) => rest);
  return { nameservers: of("nameserver"), searches: of("search"), options: of("options") };
}

function hostsText(content: EtcContent): string {
  const own = content.addresses.map((address) => `${address.replace(/\/\d+$/, "")}\t${content.hostname}`);
  const localhost = ["127.0.0.1\tlocalhost", "::1\tlocalhost ip6-localhost ip6-loopback"];
  const lines = own.length > 0 ? [...localhost, ...own] : [...localhost, `127.0.1.1\t${content.hostname}`];
  return `${lines.join("\n")}\n`;
}

function resolvConfText(content: EtcContent): string {
  const line = (keyword: string, words: readonly string[] | undefined): readonly string[] =>
    words === undefined || words.length === 0 ? [] : [`${keyword} ${words.join(" ")}`];
  return [
    ...line("search", content.searches),
    ...content.nameservers.map((address) => `nameserver ${address}`),
    ...line("options", content.options),
    "",
  ].join("\n");
}

async function makeBundle(bundle: string): Promise<void> {
  await mkdir(bundle, { recursive: true, mode: 0o700 });
}

async function writeAtomically(path: string, text: string, mode: number): Promise<void> {
  const temporary = `${path}.new`;
  await writeFile(temporary, text, { mode });
  await rename(temporary, path);
}
