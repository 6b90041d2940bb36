/**
 * The frame of a benchmark: its options, its directory in memory, its bound in time, and the end of all that it started.
 *
 * Disks throttle after a few hundred megabytes and would be what is measured; so everything lies on the tmpfs of /dev/shm.
 * However a benchmark ends (a failure, a signal, its time limit), its lifetime is disposed and its directory removed; what
 * a SIGKILL has left there, the next one removes.
 */
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  statfsSync,
  writeFileSync,
} from "node:fs";
import { availableParallelism, release } from "node:os";
import { basename, join } from "node:path";
import { parseArgs } from "node:util";
import { Lifetime, StatusError } from "@berth/base";
import { cgroupDirs, endProcess, identify, isAlive, unmountTree, type ProcessIdentity } from "@berth/testkit";
import { processesIn, processesNaming } from "./processes.ts";
import { print, report, type BenchCase, type Printed } from "./report.ts";

const SHM = "/dev/shm";
const PREFIX = "berth-bench-";

export interface Bench {
  /** Counted runs of each side. */
  readonly runs: number;
  /** Empty, on a tmpfs; gone when the benchmark has ended. */
  readonly dir: string;
  /** Where containers shall have their cgroups, and the containerd namespace, which is the same there. */
  readonly name: string;
  /** Whatever is started is owned by it. */
  readonly lifetime: Lifetime;
  /** The values of `BenchOptions.options` that were given. */
  readonly options: Readonly<Record<string, string | undefined>>;
  /** Where CPU profiles of our own processes go; undefined when none are wanted. */
  readonly profileDir: string | undefined;
  /** Says on standard error what is being done. */
  progress(text: string): void;
  /** A line to be printed beneath the table, once. */
  note(text: string): void;
}

export interface BenchOptions {
  /** Default 5. */
  readonly runs?: number;
  /** How long it may take, with the default number of runs. */
  readonly limitMinutes: number;
  /** What must be free on the tmpfs. */
  readonly needsBytes: number;
  /** Names of further options, each with what its value is: `{ containerd: "DIRECTORY" }`. */
  readonly options?: Readonly<Record<string, string>>;
}

/** Runs a benchmark to its printed report, or ends the process with code 1 and one message. */
export async function runBench(
  name: string,
  options: BenchOptions,
  body: (bench: Bench) => Promise<readonly BenchCase[] | Printed>,
): Promise<void> {
  const lifetime = new Lifetime();
  let ending = false;
  const end = async (why: string, code: number): Promise<void> => {
    if (ending) return; // what fails now fails because everything is being ended
    ending = true;
    console.error(`bench ${name}: ${why}`);
    await lifetime[Symbol.asyncDispose]().catch((error: unknown) =>
      console.error(`cleaning up failed: ${String(error)}`),
    );
    process.exit(code);
  };
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
    process.once(signal, () => void end(`ended by ${signal}`, 130));
  try {
    const { runs, profileDir, values } = readOptions(options);
    const limitMs = options.limitMinutes * 60_000 * Math.max(1, runs / (options.runs ?? 5));
    setTimeout(() => void end(`not done within ${limitMs / 60_000} minutes`, 1), limitMs).unref();
    const dir = await makeDir(name, options.needsBytes);
    lifetime.defer(() => removeAll(dir));
    const notes = new Set<string>();
    const bench: Bench = {
      runs,
      dir,
      name: basename(dir),
      lifetime,
      options: values,
      profileDir,
      progress: (text) => console.error(`bench ${name}: ${text}`),
      note: (text) => void notes.add(text),
    };
    const result = await body(bench);
    await lifetime[Symbol.asyncDispose]();
    const all = [`machine: ${machine()}; everything on ${SHM} (tmpfs)`, ...notes];
    if ("text" in result) print(result, all);
    else report(name, result, all);
  } catch (error) {
    await end(explain(error), 1);
  }
}

type Values = Readonly<Record<string, string | undefined>>;

function readOptions(options: BenchOptions): { runs: number; profileDir: string | undefined; values: Values } {
  const values = parseOptions(options);
  const runs = Number(values["runs"] ?? options.runs ?? 5);
  if (!Number.isInteger(runs) || runs < 1) {
    throw new StatusError("INVALID_ARGUMENT", `--runs ${values["runs"]}: give a whole number from 1 on`);
  }
  if (process.getuid?.() !== 0)
    throw new StatusError("FAILED_PRECONDITION", "needs root: it mounts and starts containers");
  return { runs, profileDir: values["cpu-prof"], values };
}

function parseOptions({ options: own = {} }: BenchOptions): Values {
  const known = { runs: "N", "cpu-prof": "DIRECTORY", ...own };
  const options = Object.fromEntries(Object.keys(known).map((name) => [name, { type: "string" as const }]));
  try {
    return parseArgs({ options }).values;
  } catch (error) {
    const all = Object.entries(known).map(([name, value]) => `--${name} ${value}`);
    const text = `${(error as Error).message}; there are ${all.join(", ")}`;
    throw new StatusError("INVALID_ARGUMENT", text, { cause: error });
  }
}

async function makeDir(name: string, needsBytes: number): Promise<string> {
  await removeLeftovers();
  const { bavail, bsize } = statfsSync(SHM);
  if (bavail * bsize < needsBytes) {
    const [free, needed] = [bavail * bsize, needsBytes].map((bytes) => `${Math.ceil(bytes / 2 ** 20)} MiB`);
    throw new StatusError("RESOURCE_EXHAUSTED", `${SHM} has ${free} free and ${needed} are needed`);
  }
  const dir = mkdtempSync(join(SHM, PREFIX));
  writeFileSync(join(dir, "owner"), JSON.stringify({ name, ...identify(process.pid) }));
  return dir;
}

/** What benchmarks have left whose process runs no more. */
async function removeLeftovers(): Promise<void> {
  for (const entry of readdirSync(SHM).filter((each) => each.startsWith(PREFIX))) {
    const dir = join(SHM, entry);
    const owner = join(dir, "owner");
    if (!existsSync(owner)) continue;
    if (!isAlive(JSON.parse(readFileSync(owner, "utf8")) as ProcessIdentity)) await removeAll(dir);
  }
}

/** The directory with everything that is named after it: processes, mounts, cgroups. */
async function removeAll(dir: string): Promise<void> {
  // Supervisors and shims have the directory among their arguments; what they supervise is in the cgroup.
  await endAll(processesNaming(`${dir}/`));
  await endAll(cgroupsOf(dir).flatMap(processesIn));
  removeDir(dir);
  for (const cgroup of cgroupsOf(dir)) rmdirSync(cgroup);
}

function removeDir(dir: string): void {
  unmountTree(dir);
  rmSync(dir, { recursive: true, force: true, maxRetries: 3 });
}

async function endAll(pids: readonly number[]): Promise<void> {
  for (const pid of new Set(pids)) {
    const identity = pid === process.pid ? undefined : identify(pid);
    if (identity !== undefined) await endProcess(identity, { signal: "SIGKILL" });
  }
}

/** Where both sides put their containers, in every hierarchy, deepest first. */
function cgroupsOf(dir: string): string[] {
  return cgroupDirs(`/${basename(dir)}`);
}

/** A directory beneath the benchmark's own that is emptied first. */
export function freshDir(bench: Bench, name: string): string {
  const dir = join(bench.dir, name);
  removeDir(dir);
  mkdirSync(dir, { recursive: true });
  return dir;
}

function machine(): string {
  return `${availableParallelism()} processors, Linux ${release()}, Node ${process.version}`;
}

function explain(error: unknown): string {
  if (error instanceof AggregateError) return [error.message, ...error.errors.map(explain)].join("\n  ");
  if (error instanceof StatusError) {
    const cause =
      error.cause instanceof Error && !error.message.includes(error.cause.message) ? error.cause : undefined;
    return cause === undefined ? error.message : `${error.message}\n  because: ${explain(cause)}`;
  }
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
