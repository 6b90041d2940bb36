/**
 * A private PostgreSQL cluster: loopback (or one given address), SCRAM passwords, no unix socket.
 *
 * PostgreSQL refuses to run as root, so as root it runs as the user `postgres` that Debian's package makes. Its data
 * directory may lie beneath one that this user cannot enter (a clone in /root): then, and only then, the server keeps
 * CAP_DAC_READ_SEARCH, which allows just that. Durability settings are PostgreSQL's own (fsync stays on).
 */
import { execFile } from "node:child_process";
import {
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { promisify } from "node:util";
import { StatusError } from "@berth/base";
import postgres from "postgres";
import {
  extendServer,
  makeDir,
  secretIn,
  startServer,
  type Server,
  type ServerKind,
  type ServerOptions,
} from "./server.ts";

export interface PostgresServer extends Server {
  /** Of the database `berth`, as the owner of the cluster. */
  readonly url: string;
  /** Makes an empty database and gives its URL; tests in one file share a server this way. */
  createDatabase(name: string): Promise<string>;
  /** As an operator backs up (`pg_dump --format=custom`) … */
  dump(url: string, file: string): Promise<void>;
  /** … and restores, into an empty database. */
  restore(url: string, file: string): Promise<void>;
  /** Runs one statement in the database `berth`. */
  query(statement: string): Promise<readonly Record<string, unknown>[]>;
}

const USER = "berth";
const SYSTEM_USER = "postgres";
/** How long a start may take to repair after a kill. */
const READY_TIMEOUT_MS = 60_000;

/** Clusters as initdb leaves them, one for each version of Postgres. */
const TEMPLATES = resolve(import.meta.dirname, "../../../../node_modules/.cache/postgres");

const HBA = "host all all all scram-sha-256\nhost replication all all scram-sha-256\n";

const SETTINGS = {
  unix_socket_directories: "",
  password_encryption: "scram-sha-256",
  max_connections: "200",
  shared_buffers: "32MB",
  dynamic_shared_memory_type: "mmap",
  min_wal_size: "32MB",
  max_wal_size: "256MB",
  log_line_prefix: "%m [%p] %u ",
  log_checkpoints: "off",
  timezone: "UTC",
  log_timezone: "UTC",
};

export async function startPostgres(options: ServerOptions): Promise<PostgresServer> {
  const dir = resolve(options.dir);
  const bin = postgresPrograms();
  const dataDir = join(dir, "data");
  const making = { bin, dir, dataDir };
  // One that is to last has a password of its own.
  if (options.detached === true) await initialise(making);
  else await initialiseByCopy(making);
  const password = secretIn(dir, "postgres");
  const hbaFile = join(dir, "pg_hba.conf");
  writeFileSync(hbaFile, HBA);
  const urlOf = (host: string, port: number, database: string): string =>
    `postgres://${USER}:${password}@${host}:${port}/${database}`;
  const server = await startServer(kindOf({ ...making, hbaFile, urlOf }), {
    readyTimeoutMs: READY_TIMEOUT_MS,
    ...options,
    dir,
  });
  const { host, port } = server;
  const createDatabase = async (name: string): Promise<string> => {
    await runSql(urlOf(host, port, "postgres"), `create database "${name.replaceAll('"', '""')}"`);
    return urlOf(host, port, name);
  };
  const known = await runSql(urlOf(host, port, "postgres"), "select datname from pg_database");
  if (!known.some((row) => row["datname"] === USER)) await createDatabase(USER);
  const url = urlOf(host, port, USER);
  const dump = (from: string, file: string): Promise<void> =>
    run([join(bin, "pg_dump"), "--format=custom", `--file=${file}`, from], dir);
  const restore = (into: string, file: string): Promise<void> =>
    run([join(bin, "pg_restore"), "--no-owner", `--dbname=${into}`, file], dir);
  return extendServer(server, {
    url,
    createDatabase,
    dump,
    restore,
    query: (statement: string) => runSql(url, statement),
  });
}

type UrlOf = (host: string, port: number, database: string) => string;

function kindOf({
  bin,
  dataDir,
  hbaFile,
  urlOf,
}: Cluster & { readonly hbaFile: string; readonly urlOf: UrlOf }): ServerKind {
  const settings = Object.entries(SETTINGS).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
  return {
    name: "postgres",
    stopSignal: "SIGINT", // "fast" shutdown; SIGTERM would wait for clients to leave
    runAs: asServerUser(dataDir),
    command: (host, port) => {
      const argv = [join(bin, "postgres"), "-D", dataDir, "-p", String(port), "-h", host, "-c", `hba_file=${hbaFile}`];
      return [...argv, ...settings];
    },
    probe: async (host, port) => void (await runSql(urlOf(host, port, "postgres"), "select 1")),
  };
}

export interface PostgresStandby extends Server {
  /** Of the database `berth`. */
  readonly url: string;
  /** Ends its following; it takes writes from here on. */
  promote(): Promise<void>;
}

/** A copy that follows: hot standby by streaming replication, under `name` for `synchronous_standby_names`. */
export async function startStandby(
  primary: Server & Pick<PostgresServer, "url">,
  options: ServerOptions & { readonly name: string },
): Promise<PostgresStandby> {
  const dir = resolve(options.dir);
  const making = { bin: postgresPrograms(), dir, dataDir: join(dir, "data") };
  const { password } = new URL(primary.url);
  makeDir(dir);
  mkdirSync(making.dataDir, { mode: 0o700 });
  await giveToServerUser(making.dataDir);
  const user = asServerUser(making.dataDir);
  const source = `host=${primary.host} port=${primary.port} user=${USER} password=${password} application_name=${options.name}`;
  const copy = [join(making.bin, "pg_basebackup"), "-D", making.dataDir, "-d", source, "-R", "-X", "stream"];
  const argv = [...(user.length === 0 ? [] : ["setpriv", ...user, "--"]), ...copy, "--checkpoint=fast"];
  await run([...argv, "--create-slot", "--slot", options.name], dir);
  const hbaFile = join(dir, "pg_hba.conf");
  writeFileSync(hbaFile, HBA);
  const urlOf: UrlOf = (host, port, database) => `postgres://${USER}:${password}@${host}:${port}/${database}`;
  const server = await startServer(kindOf({ ...making, hbaFile, urlOf }), {
    readyTimeoutMs: READY_TIMEOUT_MS,
    ...options,
    dir,
  });
  const url = urlOf(server.host, server.port, USER);
  return extendServer(server, { url, promote: async () => void (await runSql(url, "select pg_promote()")) });
}

interface Cluster {
  readonly bin: string;
  readonly dir: string;
  readonly dataDir: string;
}

const isInitialised = ({ dir, dataDir }: Cluster): boolean =>
  existsSync(join(dataDir, "PG_VERSION")) && existsSync(join(dir, "initialised"));

/**
 * initdb takes most of a second of CPU, and the tests want about eighty clusters: the first one leaves its result where the next
 * ones copy it from, with its password, which is a secret of this checkout. Whoever comes second at once throws his own away.
 */
async function initialiseByCopy(cluster: Cluster): Promise<void> {
  if (isInitialised(cluster) || existsSync(join(cluster.dir, "postgres.secret"))) return await initialise(cluster);
  const version = basename(dirname(cluster.bin));
  const template = join(TEMPLATES, `${version}-${process.getuid?.() ?? "user"}`);
  if (!existsSync(template)) {
    makeDir(TEMPLATES);
    const made = mkdtempSync(`${template}-`);
    await initialise({ bin: cluster.bin, dir: made, dataDir: join(made, "data") });
    try {
      renameSync(made, template);
    } catch (error) {
      if (!existsSync(template)) throw error;
      rmSync(made, { recursive: true });
    }
  }
  makeDir(cluster.dir);
  await run(["cp", "-a", "--reflink=auto", `${template}/.`, cluster.dir], cluster.dir);
}

/** Makes the cluster once; a run that was cut short is begun again. */
async function initialise(cluster: Cluster): Promise<void> {
  if (isInitialised(cluster)) return;
  const { bin, dir, dataDir } = cluster;
  const password = secretIn(dir, "postgres");
  rmSync(dataDir, { recursive: true, force: true });
  makeDir(dir);
  mkdirSync(dataDir, { mode: 0o700 });
  const passwordFile = join(dir, "initdb.password");
  writeFileSync(passwordFile, password, { mode: 0o600 });
  await giveToServerUser(dataDir, passwordFile);
  const user = asServerUser(dataDir);
  const argv = [
    ...(user.length === 0 ? [] : ["setpriv", ...user, "--"]),
    join(bin, "initdb"),
    `--pgdata=${dataDir}`,
    `--username=${USER}`,
    `--pwfile=${passwordFile}`,
    "--auth=scram-sha-256",
    "--encoding=UTF8",
    "--locale=C.UTF-8",
    "--no-instructions",
  ];
  try {
    await run(argv, dir);
  } finally {
    rmSync(passwordFile, { force: true });
  }
  writeFileSync(join(dir, "initialised"), "");
}

/** The newest server on this machine: /usr/lib/postgresql/<version>/bin on Debian. */
export function postgresPrograms(): string {
  const root = "/usr/lib/postgresql";
  const versions = existsSync(root) ? readdirSync(root).map(Number).filter(Number.isFinite) : [];
  const newest = versions.sort((a, b) => b - a).find((v) => existsSync(`${root}/${v}/bin/initdb`));
  if (newest === undefined) {
    throw new StatusError("FAILED_PRECONDITION", `no PostgreSQL server beneath ${root}: install Debian's postgresql`);
  }
  return `${root}/${newest}/bin`;
}

/** The options of setpriv for the server's user; none when we are not root and hence already somebody else. */
function asServerUser(path: string): string[] {
  if (process.getuid?.() !== 0) return [];
  const words = [`--reuid=${SYSTEM_USER}`, `--regid=${SYSTEM_USER}`, "--clear-groups"];
  if (!reachableByOthers(path)) words.push("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search");
  return words;
}

/** Can everybody pass through all the directories above this one? */
function reachableByOthers(path: string): boolean {
  for (let dir = dirname(path); ; dir = dirname(dir)) {
    if ((statSync(dir).mode & 0o001) === 0) return false;
    if (dir === "/") return true;
  }
}

async function giveToServerUser(...paths: string[]): Promise<void> {
  if (process.getuid?.() !== 0) return;
  const { stdout } = await promisify(execFile)("id", ["-u", SYSTEM_USER]);
  for (const path of paths) chownSync(path, Number(stdout), -1);
}

async function run(argv: readonly string[], cwd: string): Promise<void> {
  const [command = "", ...args] = argv;
  try {
    await promisify(execFile)(command, args, { cwd });
  } catch (error) {
    throw new StatusError("INTERNAL", `preparing PostgreSQL failed: ${(error as Error).message}`, {
      cause: error,
    });
  }
}

async function runSql(url: string, statement: string): Promise<readonly Record<string, unknown>[]> {
  const sql = postgres(url, { max: 1, onnotice: () => {}, connect_timeout: 5 });
  try {
    return [...(await sql.unsafe(statement))];
  } finally {
    await sql.end({ timeout: 1 });
  }
}
