/**
 * Which controller the CLI speaks to, as whom, and in which namespace.
 *
 * The first of these that says something wins: `--endpoint` (with BERTH_TOKEN), `--context`, BERTH_CONTEXT,
 * BERTH_ENDPOINT, the user's config (`$XDG_CONFIG_HOME/berth/config.json`), then `.berth/config.json` upward from the
 * working directory, which `npm run up` writes. Files that hold a token are 0600; one that others may read is refused.
 */
import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { StatusError } from "@berth/base";
import type { GlobalOptions } from "./global-options.ts";

export interface ContextEntry {
  /** `http://host:port` of the gRPC door. */
  readonly endpoint: string;
  readonly token?: string;
  readonly namespace?: string;
}

export interface ContextFile {
  readonly currentContext?: string;
  readonly contexts: Readonly<Record<string, ContextEntry>>;
}

export interface ResolvedContext extends ContextEntry {
  readonly name: string;
  /** The file or variable it came from. */
  readonly origin: string;
}

/**
 * `http://host:port` (or `host:port`) as gRPC takes it.
 * @throws INVALID_ARGUMENT `ENDPOINT_INVALID` with the form that is right
 */
export function grpcAddress(endpoint: string): string {
  const url = endpoint.includes("://") ? endpoint : `http://${endpoint}`;
  const parsed = URL.canParse(url) ? new URL(url) : undefined;
  const port = /:(\d+)\/?$/.exec(url)?.[1];
  if (parsed?.protocol === "http:" && port !== undefined && parsed.hostname !== "" && parsed.pathname === "/") {
    return `${parsed.hostname}:${port}`;
  }
  const hint = parsed?.protocol === "https:" ? "; the controller's gRPC door speaks plain HTTP/2" : "";
  throw new StatusError("INVALID_ARGUMENT", `endpoint ${JSON.stringify(endpoint)} is not http://host:port${hint}`, {
    reason: "ENDPOINT_INVALID",
  });
}

export function userConfigPath(env: NodeJS.ProcessEnv): string {
  return join(env["XDG_CONFIG_HOME"] ?? join(env["HOME"] ?? homedir(), ".config"), "berth", "config.json");
}

/** @throws NOT_FOUND `CONTEXT_MISSING` that says how to get one. */
export function resolveContext(options: GlobalOptions, env: NodeJS.ProcessEnv, cwd: string): ResolvedContext {
  const token = env["BERTH_TOKEN"];
  const direct = options.endpoint ?? ((options.context ?? env["BERTH_CONTEXT"]) ? undefined : env["BERTH_ENDPOINT"]);
  if (direct !== undefined) {
    const origin = options.endpoint === undefined ? "BERTH_ENDPOINT" : "--endpoint";
    return { name: "", origin, endpoint: direct, ...(token === undefined ? {} : { token }) };
  }
  const wanted = options.context ?? env["BERTH_CONTEXT"];
  const found: string[] = [];
  for (const path of [userConfigPath(env), findUpward(cwd)]) {
    if (path === undefined || !existsSync(path)) continue;
    const file = readContextFile(path);
    found.push(...Object.keys(file.contexts));
    const name = wanted ?? file.currentContext;
    const entry = name === undefined ? undefined : file.contexts[name];
    if (name === undefined || entry === undefined) continue;
    return { ...entry, ...(token === undefined ? {} : { token }), name, origin: path };
  }
  if (wanted !== undefined) {
    const known = found.length === 0 ? "there are none" : `there are: ${found.join(", ")}`;
    throw new StatusError("NOT_FOUND", `context "${wanted}" is not known (${known})`, { reason: "CONTEXT_MISSING" });
  }
  throw new StatusError(
    "NOT_FOUND",
    "no context: run `npm run up` in a clone and call berth from there, or `berth context set NAME --url URL`",
    { reason: "CONTEXT_MISSING" },
  );
}

export function readContextFile(path: string): ContextFile {
  if (!existsSync(path)) return { contexts: {} };
  if ((statSync(path).mode & 0o077) !== 0) {
    throw new StatusError("FAILED_PRECONDITION", `${path} holds tokens and others may read it: chmod 600 it`, {
      reason: "CONTEXT_FILE_OPEN",
    });
  }
  try {
    const file = JSON.parse(readFileSync(path, "utf8")) as ContextFile;
    if (typeof file.contexts !== "object" || file.contexts === null) throw new Error('"contexts" is not an object');
    return file;
  } catch (error) {
    throw new StatusError("INVALID_ARGUMENT", `${path}: ${(error as Error).message}`, { cause: error });
  }
}

/** Whole or not at all, and never readable by others. */
export function writeContextFile(path: string, file: ContextFile): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const temporary = `${path}.${process.pid}`;
  writeFileSync(temporary, `${JSON.stringify(file, null, 2)}\n`, { mode: 0o600 });
  chmodSync(temporary, 0o600);
  renameSync(temporary, path);
}

function findUpward(from: string): string | undefined {
  for (let folder = from; ; folder = dirname(folder)) {
    const path = join(folder, ".berth", "config.json");
    if (existsSync(path)) return path;
    if (dirname(folder) === folder) return undefined;
  }
}
