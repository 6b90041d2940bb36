/**
 * containerd's `hosts.toml` as a route. Everything in it must be understood: what is not TOML, an unknown field, a wrong
 * type or an unreadable certificate is an error that names file, line and field. containerd itself logs such an error and
 * goes on without the mirrors.
 */
import { dirname, isAbsolute, join } from "node:path";
import { StatusError } from "@berth/base";
import { parse, TomlError, type TomlTable, type TomlValue } from "smol-toml";
import { capabilityProblem, certificateProblem, headerProblem, keyProblem, urlProblem } from "./checks.ts";
import { lineOf } from "./toml-lines.ts";
import { parseGoDuration } from "./go-duration.ts";
import type { ClientCertificate, EndpointCapability, RegistryEndpoint, RegistryRoute, RouteOrigin } from "./route.ts";

const HOST_FIELDS = ["capabilities", "ca", "client", "skip_verify", "header", "override_path", "dial_timeout"] as const;
/** `fallback_to_origin` is Berth's own; containerd passes it by. */
const ROOT_FIELDS = [...HOST_FIELDS, "server", "host", "fallback_to_origin"] as const;

export interface HostsFileSource {
  readonly file: string;
  readonly text: string;
  /** The text of a file that this one names. */
  readonly read: (path: string) => string;
}

/** @throws INVALID_ARGUMENT `REGISTRY_CONFIG_INVALID` */
export function parseHostsToml(registry: string, source: HostsFileSource): RegistryRoute {
  return new HostsFile(source).route(registry);
}

class HostsFile {
  readonly #source: HostsFileSource;

  constructor(source: HostsFileSource) {
    this.#source = source;
  }

  route(registry: string): RegistryRoute {
    const root = this.#parse();
    this.#known(root, [], ROOT_FIELDS);
    const hosts = root["host"] ?? {};
    if (!isTable(hosts)) throw this.#wrong(["host"], 'is not a table; write [host."https://mirror.example"]');
    const endpoints = Object.entries(hosts).map(([name, table]) => {
      if (!isTable(table)) throw this.#wrong(["host", name], "is not a table");
      this.#known(table, ["host", name], HOST_FIELDS);
      return this.#endpoint(name, table);
    });
    const fallback = this.#boolean(root, [], "fallback_to_origin") ?? true;
    if (!fallback && endpoints.length === 0) {
      throw this.#wrong(["fallback_to_origin"], "is false without any host, so nothing could ever be pulled");
    }
    return {
      registry,
      endpoints,
      origin: this.#origin(root),
      fallbackToOrigin: fallback,
      source: this.#source.file,
    };
  }

  #endpoint(name: string, table: TomlTable): RegistryEndpoint {
    const path = ["host", name];
    return { ...this.#fields(table, path), url: this.#url(name, path) };
  }

  /** The root's own fields, which are about `server`, or about the registry under its own name. */
  #origin(root: TomlTable): RouteOrigin {
    const server = this.#text(root, [], "server") ?? "";
    const fields = this.#fields(root, []);
    return server === "" ? fields : { ...fields, url: this.#url(server, ["server"]) };
  }

  #url(name: string, at: readonly string[]): string {
    if (/^\d+$/.test(name) || /^(?!https?:)[a-z]+:\/\//.test(name))
      throw this.#wrong(at, "is not a host or an http(s) URL");
    const url = /^https?:\/\//.test(name) ? name : `https://${name}`;
    const problem = urlProblem(url);
    if (problem !== undefined) throw this.#wrong(at, problem);
    return url;
  }

  #fields(table: TomlTable, path: readonly string[]): RouteOrigin {
    const dial = this.#text(table, path, "dial_timeout");
    const dialTimeoutMs = dial === undefined ? undefined : parseGoDuration(dial);
    if (dial !== undefined && (dialTimeoutMs === undefined || dialTimeoutMs < 1)) {
      throw this.#wrong([...path, "dial_timeout"], 'is not a duration such as "30s" or "1m30s"');
    }
    return {
      capabilities: this.#capabilities(table, path),
      overridePath: this.#boolean(table, path, "override_path") ?? false,
      skipVerify: this.#boolean(table, path, "skip_verify") ?? false,
      ...(table["ca"] === undefined ? {} : { ca: this.#ca(table["ca"], [...path, "ca"]) }),
      ...(table["client"] === undefined ? {} : { client: this.#client(table["client"], [...path, "client"]) }),
      ...(table["header"] === undefined ? {} : { headers: this.#headers(table["header"], [...path, "header"]) }),
      ...(dialTimeoutMs === undefined ? {} : { dialTimeoutMs }),
    };
  }

  #capabilities(table: TomlTable, path: readonly string[]): readonly EndpointCapability[] {
    const given = table["capabilities"] ?? [];
    const at = [...path, "capabilities"];
    if (!Array.isArray(given)) throw this.#wrong(at, 'is not a list such as ["pull", "resolve"]');
    // containerd's default, for mirrors too.
    if (given.length === 0) return ["pull", "resolve", "push", "referrers"];
    return given.map((entry) => {
      const name = typeof entry === "string" ? entry.toLowerCase() : entry;
      const problem = capabilityProblem(name);
      if (problem !== undefined) throw this.#wrong(at, `${JSON.stringify(entry)} ${problem}`);
      return name as EndpointCapability;
    });
  }

  #ca(value: TomlValue, at: readonly string[]): string[] {
    const files = typeof value === "string" ? [value] : value;
    if (!isTexts(files)) throw this.#wrong(at, "is not a file's name or a list of them");
    return files.map((file) => this.#pem(file, at, certificateProblem));
  }

  #client(value: TomlValue, at: readonly string[]): ClientCertificate[] {
    const entries = typeof value === "string" ? [value] : value;
    if (!Array.isArray(entries)) throw this.#wrong(at, 'is not a file, a list of files or of ["cert", "key"] pairs');
    return entries.map((entry) => {
      const pair = typeof entry === "string" ? [entry, entry] : entry;
      if (!isTexts(pair) || pair.length !== 2)
        throw this.#wrong(at, 'has an entry that is no file and no ["cert", "key"]');
      return { cert: this.#pem(pair[0]!, at, certificateProblem), key: this.#pem(pair[1]!, at, keyProblem) };
    });
  }

  #headers(value: TomlValue, at: readonly string[]): Record<string, string[]> {
    if (!isTable(value)) throw this.#wrong(at, "is not a table");
    return Object.fromEntries(
      Object.entries(value).map(([name, given]) => {
        const values = typeof given === "string" ? [given] : given;
        const problem = isTexts(values) ? headerProblem(name, values) : "is not a string or a list of strings";
        if (problem !== undefined) throw this.#wrong([...at, name], problem);
        return [name, values as string[]];
      }),
    );
  }

  #pem(name: string, at: readonly string[], problemOf: (text: string) => string | undefined): string {
    const path = isAbsolute(name) ? name : join(dirname(this.#source.file), name);
    let text: string;
    try {
      text = this.#source.read(path);
    } catch (error) {
      throw this.#wrong(at, `cannot be read: ${StatusError.from(error).message}`);
    }
    const problem = problemOf(text);
    if (problem !== undefined) throw this.#wrong(at, `${path} ${problem}`);
    return text;
  }

  #text(table: TomlTable, path: readonly string[], name: string): string | undefined {
    const value = table[name];
    if (value !== undefined && typeof value !== "string") throw this.#wrong([...path, name], "is not a string");
    return value;
  }

  #boolean(table: TomlTable, path: readonly string[], name: string): boolean | undefined {
    const value = table[name];
    if (value !== undefined && typeof value !== "boolean") throw this.#wrong([...path, name], "is not true or false");
    return value;
  }

  #parse(): TomlTable {
    try {
      return parse(this.#source.text);
    } catch (error) {
      if (!(error instanceof TomlError)) throw error;
      const [why] = error.message.replace("Invalid TOML document: ", "").split("\n");
      throw invalid(`${this.#source.file}:${error.line}: is not TOML: ${why}`, "");
    }
  }

  #known(table: TomlTable, path: readonly string[], known: readonly string[]): void {
    for (const name of Object.keys(table)) {
      if (!known.includes(name)) throw this.#wrong([...path, name], `is not a field; there are ${known.join(", ")}`);
    }
  }

  #wrong(path: readonly string[], problem: string): StatusError {
    const field = path.map((part) => (/^[A-Za-z0-9_-]+$/.test(part) ? part : JSON.stringify(part))).join(".");
    return invalid(`${this.#source.file}:${lineOf(this.#source.text, path)}: ${field}: ${problem}`, field);
  }
}

export function invalid(text: string, field: string): StatusError {
  return new StatusError("INVALID_ARGUMENT", `${text}; mend the file, no restart is needed`, {
    reason: "REGISTRY_CONFIG_INVALID",
    violations: [{ field, description: text }],
  });
}

function isTable(value: TomlValue): value is TomlTable {
  return typeof value === "object" && !Array.isArray(value) && !(value instanceof Date);
}

function isTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((entry) => typeof entry === "string");
}
