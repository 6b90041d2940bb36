/**
 * The file that `docker login` writes (`config.json`): credentials by host, and the helper programs that keep them.
 *
 * As Docker does it, a helper of `credHelpers` answers for its host alone, then `credsStore` for every host, then `auths`.
 * The file is read again when it has changed. Its content never appears in errors.
 */
import { readFileSync, statSync } from "node:fs";
import { StatusError } from "@berth/base";
import { IDENTITY_USER, type RegistryCredentials } from "../registry.ts";
import { askHelper, type HelperConfig } from "./helper.ts";

/** Structured-cloneable. */
export interface DockerConfigSource extends HelperConfig {
  readonly path: string;
}

interface Entry {
  readonly auth?: unknown;
  readonly username?: unknown;
  readonly password?: unknown;
  readonly identitytoken?: unknown;
  readonly registrytoken?: unknown;
}

interface ConfigFile {
  readonly auths: Readonly<Record<string, Entry>>;
  readonly credHelpers: Readonly<Record<string, string>>;
  readonly credsStore: string | undefined;
}

/** Docker Hub's names, the one that `docker login` writes first. */
const HUB = ["https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io"];
const MAX_BYTES = 4 * 1024 * 1024;

export class DockerConfig {
  readonly #source: DockerConfigSource;
  #read: { readonly state: string; readonly file: ConfigFile } | undefined;

  constructor(source: DockerConfigSource) {
    this.#source = source;
  }

  /** @throws FAILED_PRECONDITION `DOCKER_CONFIG_INVALID`; what {@link askHelper} throws */
  async credentials(host: string, signal: AbortSignal | undefined): Promise<RegistryCredentials | undefined> {
    const { auths, credHelpers, credsStore } = this.#file();
    const names = HUB.includes(host) ? HUB : [host];
    const helped = names.find((name) => Object.hasOwn(credHelpers, name));
    if (helped !== undefined) return await askHelper(credHelpers[helped]!, helped, this.#source, signal);
    if (credsStore !== undefined) {
      const stored = await askHelper(credsStore, names[0]!, this.#source, signal);
      if (stored !== undefined) return stored;
    }
    const key = Object.keys(auths).find((name) => names.includes(name) || names.includes(hostOf(name)));
    return key === undefined ? undefined : this.#entry(key, auths[key]!);
  }

  #entry(name: string, entry: Entry): RegistryCredentials | undefined {
    const { auth, username, password, identitytoken, registrytoken } = entry;
    const at = `auths[${JSON.stringify(name)}]`;
    if (typeof identitytoken === "string" && identitytoken !== "") {
      return { username: IDENTITY_USER, password: identitytoken };
    }
    if (typeof registrytoken === "string" && registrytoken !== "") {
      throw this.#invalid(`${at}.registrytoken is not supported; give auth or identitytoken`);
    }
    if (typeof auth === "string" && auth !== "") {
      const [user, ...secret] = Buffer.from(auth, "base64").toString("utf8").replace(/\0+$/, "").split(":");
      if (user === undefined || user === "" || secret.length === 0)
        throw this.#invalid(`${at}.auth is not user:password in base64`);
      return { username: user, password: secret.join(":") };
    }
    if (typeof username === "string" && typeof password === "string") return { username, password };
    return undefined;
  }

  #file(): ConfigFile {
    const { path } = this.#source;
    const state = this.#state();
    if (this.#read?.state === state) return this.#read.file;
    let value: unknown;
    try {
      value = state === ABSENT ? {} : JSON.parse(readFileSync(path, "utf8"));
    } catch (error) {
      // A JSON error quotes the text, which is secret.
      throw this.#invalid(
        error instanceof SyntaxError ? "is not JSON" : `cannot be read: ${StatusError.from(error).reason}`,
      );
    }
    const file = this.#checked(value);
    this.#read = { state, file };
    return file;
  }

  #state(): string {
    const stat = statSync(this.#source.path, { bigint: true, throwIfNoEntry: false });
    if (stat === undefined) return ABSENT;
    if (stat.size > MAX_BYTES) throw this.#invalid(`has more than ${MAX_BYTES} bytes`);
    return `${stat.ino}:${stat.size}:${stat.mtimeNs}:${stat.ctimeNs}`;
  }

  #checked(value: unknown): ConfigFile {
    if (!isRecord(value)) throw this.#invalid("is not an object");
    const { auths = {}, credHelpers = {}, credsStore } = value;
    if (!isRecord(auths) || !Object.values(auths).every(isRecord))
      throw this.#invalid("auths is not an object of objects");
    if (!isRecord(credHelpers) || !Object.values(credHelpers).every((name) => typeof name === "string")) {
      throw this.#invalid("credHelpers is not an object of strings");
    }
    if (credsStore !== undefined && typeof credsStore !== "string") throw this.#invalid("credsStore is not a string");
    return {
      auths: auths as Record<string, Entry>,
      credHelpers: credHelpers as Record<string, string>,
      credsStore: credsStore === "" ? undefined : credsStore,
    };
  }

  #invalid(why: string): StatusError {
    return new StatusError("FAILED_PRECONDITION", `${this.#source.path}: ${why}`, { reason: "DOCKER_CONFIG_INVALID" });
  }
}

const ABSENT = "absent";

/** `https://host/v1/` → `host`. A deeper path is somebody's repository and stands for no host. */
function hostOf(name: string): string {
  const match = /^(?:https?:\/\/)?([^/]+)(?:\/(?:v[12]\/?)?)?$/.exec(name);
  return match?.[1] ?? "";
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
