/**
 * The operator's `certs.d` folder: per registry a folder with a `hosts.toml`, or with certificates in Docker's layout.
 *
 * Folders are looked for in containerd's order: `host_port_`, `host:port`, `_default`. Files are read again when they have
 * changed, at the next question; they are small and few, so that reading them here and now costs less than keeping watch.
 */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { StatusError } from "@berth/base";
import { invalid, parseHostsToml } from "./hosts-toml.ts";
import type { ClientCertificate, RegistryRoute } from "./route.ts";
import { certificateProblem, keyProblem } from "./checks.ts";

interface Cached {
  /** What was looked at, and what it was like then. */
  readonly seen: ReadonlyMap<string, string>;
  readonly route: RegistryRoute | undefined;
}

export class CertsDir {
  readonly #root: string;
  readonly #cache = new Map<string, Cached>();

  constructor(root: string) {
    this.#root = root;
  }

  /** The registry's route, or undefined where the folder says nothing of it. @throws `REGISTRY_CONFIG_INVALID` */
  route(registry: string): RegistryRoute | undefined {
    const cached = this.#cache.get(registry);
    if (cached !== undefined && [...cached.seen].every(([path, state]) => stateOf(path) === state)) return cached.route;
    this.#cache.delete(registry);
    const files = new Files();
    const route = load(this.#root, registry, files);
    this.#cache.set(registry, { seen: files.seen, route });
    return route;
  }
}

function load(root: string, registry: string, files: Files): RegistryRoute | undefined {
  const folder = folderNames(registry)
    .map((name) => join(root, name))
    .find((path) => files.exists(path));
  if (folder === undefined) return undefined;
  const file = join(folder, "hosts.toml");
  const text = files.exists(file) ? files.read(file) : "";
  if (text !== "") return parseHostsToml(registry, { file, text, read: (path) => files.read(path) });
  return dockerCertificates(registry, folder, files);
}

function folderNames(registry: string): string[] {
  const colon = registry.lastIndexOf(":");
  const names = colon > 0 ? [`${registry.slice(0, colon)}_${registry.slice(colon + 1)}_`, registry] : [registry];
  return [...names, "_default"];
}

/** `*.crt` are CAs, `x.cert` with `x.key` a client certificate. */
function dockerCertificates(registry: string, folder: string, files: Files): RegistryRoute | undefined {
  const names = files.list(folder);
  const ending = (suffix: string): string[] => names.filter((name) => name.endsWith(suffix));
  const read = (name: string, problemOf: (text: string) => string | undefined): string => {
    const path = join(folder, name);
    const text = files.read(path);
    const problem = problemOf(text);
    if (problem !== undefined) throw invalid(`${path}: ${problem}`, name);
    return text;
  };
  const client = ending(".cert").map((name): ClientCertificate => {
    const key = name.replace(/\.cert$/, ".key");
    if (!names.includes(key)) throw invalid(`${join(folder, name)}: there is no ${key} beside it`, name);
    return { cert: read(name, certificateProblem), key: read(key, keyProblem) };
  });
  for (const name of ending(".key")) {
    const cert = name.replace(/\.key$/, ".cert");
    if (!names.includes(cert)) throw invalid(`${join(folder, name)}: there is no ${cert} beside it`, name);
  }
  const ca = ending(".crt").map((name) => read(name, certificateProblem));
  if (ca.length === 0 && client.length === 0) return undefined;
  return { registry, endpoints: [], origin: { ca, client }, source: folder };
}

/** Reads files and remembers what they were like. */
class Files {
  readonly seen = new Map<string, string>();

  exists(path: string): boolean {
    return this.#note(path) !== ABSENT;
  }

  read(path: string): string {
    this.#note(path);
    try {
      return readFileSync(path, "utf8");
    } catch (error) {
      throw unreadable(path, error);
    }
  }

  list(path: string): string[] {
    this.#note(path);
    return readdirSync(path).sort();
  }

  #note(path: string): string {
    const state = stateOf(path);
    this.seen.set(path, state);
    return state;
  }
}

const ABSENT = "absent";

function stateOf(path: string): string {
  try {
    const stat = statSync(path, { bigint: true, throwIfNoEntry: false });
    return stat === undefined ? ABSENT : `${stat.dev}:${stat.ino}:${stat.size}:${stat.mtimeNs}:${stat.ctimeNs}`;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOTDIR") return ABSENT;
    throw unreadable(path, error);
  }
}

function unreadable(path: string, error: unknown): StatusError {
  const cause = StatusError.from(error);
  return new StatusError("FAILED_PRECONDITION", `${path} cannot be read (${cause.reason}); mend its permissions`, {
    reason: "REGISTRY_CONFIG_UNREADABLE",
    cause,
  });
}
