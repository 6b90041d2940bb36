/**
 * Real servers for tests and for `npm run up`: Postgres, Redis, NATS, a registry.
 *
 *     await using postgres = await startPostgres({ dir });
 *     const store = await openStore(postgres.url);
 *     await postgres.kill();            // a crash
 *     await postgres.start();           // same data, same port
 *
 * What holds for every one of them:
 * 1. Nothing is written outside `dir`; nothing listens but on `host`; everybody needs a password.
 * 2. `startX` resolves when the server answers. Its address never changes, whatever is stopped and started.
 * 3. Passwords are made once and kept in `dir`, so a directory can be opened again with the same URLs.
 * 4. A server ends with the process that started it, unless `detached`.
 */
import { randomBytes } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { hasCode, StatusError } from "@berth/base";
import { Daemon, type DaemonSpec } from "./daemon.ts";
import { freePort } from "./ports.ts";
import type { ProcessIdentity } from "./process.ts";

export interface ServerOptions {
  /** Everything the server writes is beneath this directory; it is made when missing. */
  readonly dir: string;
  /** The address to listen on. Default 127.0.0.1. */
  readonly host?: string;
  /** Default: a free one, chosen once per call. */
  readonly port?: number;
  /** Go on after this process has ended. */
  readonly detached?: boolean;
  /** Take over this process, when it still runs, instead of starting one. Needs `port`. */
  readonly adopt?: ProcessIdentity | undefined;
  readonly readyTimeoutMs?: number;
}

export interface Server extends AsyncDisposable {
  readonly name: string;
  readonly host: string;
  readonly port: number;
  readonly logFile: string;
  /** Of the process that runs now. */
  readonly identity: ProcessIdentity | undefined;
  readonly running: boolean;
  /** Starts it again on the same data and the same port; nothing when it runs. */
  start(): Promise<void>;
  /** Ends it cleanly. Idempotent. */
  stop(): Promise<void>;
  /** Ends it by SIGKILL. Idempotent. */
  kill(): Promise<void>;
  /** stop, then start. */
  restart(): Promise<void>;
}

/** What distinguishes one kind of server: its command for an address, its probe, its way to stop. */
export interface ServerKind {
  readonly name: string;
  command(host: string, port: number): Promise<readonly string[]> | readonly string[];
  probe(host: string, port: number): Promise<void>;
  readonly stopSignal?: NodeJS.Signals;
  /** Options of setpriv(1) that make it somebody else. */
  readonly runAs?: readonly string[];
}

/** Starts a server of a kind; a port that was taken between choosing and binding is replaced by another. */
export async function startServer(kind: ServerKind, options: ServerOptions): Promise<Server> {
  const { dir, host = "127.0.0.1" } = options;
  makeDir(dir);
  const logFile = join(dir, `${kind.name}.log`);
  for (let attempt = 1; ; attempt += 1) {
    const port = options.port ?? (await freePort(host));
    const daemon = new Daemon(await daemonSpec(kind, options, host, port, logFile));
    try {
      const adopted = options.adopt !== undefined && (await daemon.adopt(options.adopt));
      if (!adopted) await daemon.start();
      return serverOf(kind.name, daemon, host, port, logFile);
    } catch (error) {
      const taken = hasCode(error, "UNAVAILABLE") && error.reason === "ADDRESS_IN_USE";
      if (!taken || options.port !== undefined || attempt >= 5) throw error;
    }
  }
}

async function daemonSpec(
  kind: ServerKind,
  options: ServerOptions,
  host: string,
  port: number,
  logFile: string,
): Promise<DaemonSpec> {
  return {
    name: kind.name,
    argv: await kind.command(host, port),
    cwd: options.dir,
    logFile,
    probe: () => kind.probe(host, port),
    detached: options.detached ?? false,
    ...(kind.stopSignal === undefined ? {} : { stopSignal: kind.stopSignal }),
    ...(kind.runAs === undefined ? {} : { runAs: kind.runAs }),
    ...(options.readyTimeoutMs === undefined ? {} : { readyTimeoutMs: options.readyTimeoutMs }),
  };
}

function serverOf(name: string, daemon: Daemon, host: string, port: number, logFile: string): Server {
  return {
    name,
    host,
    port,
    logFile,
    get identity() {
      return daemon.identity;
    },
    get running() {
      return daemon.running;
    },
    start: () => daemon.start(),
    stop: () => daemon.stop(),
    kill: () => daemon.kill(),
    async restart() {
      await daemon.stop();
      await daemon.start();
    },
    [Symbol.asyncDispose]: () => daemon.stop(),
  };
}

/** Adds a kind's own members to a server, whose getters stay alive. */
export function extendServer<T extends object>(server: Server, extra: T): Server & T {
  return Object.defineProperties(server, Object.getOwnPropertyDescriptors(extra)) as Server & T;
}

/** Makes a directory that only its owner enters. */
export function makeDir(dir: string): void {
  mkdirSync(dir, { recursive: true, mode: 0o700 });
}

/** A password kept in `dir`: read when it is there, made when not. Safe in URLs and in configuration files. */
export function secretIn(dir: string, name: string): string {
  const file = join(dir, `${name}.secret`);
  makeDir(dir);
  try {
    writeFileSync(file, randomBytes(18).toString("base64url"), { mode: 0o600, flag: "wx" });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw StatusError.from(error, `password of ${name}`);
  }
  return readFileSync(file, "utf8");
}
