/**
 * containerd as the peer, Debian's or the one of a given directory: on a root, a state directory and a socket of its own,
 * driven by its own `ctr`.
 */
import { execFile } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import { promisify } from "node:util";
import { StatusError } from "@berth/base";
import { Daemon, unmountTree } from "@berth/testkit";
import type { Bench } from "./bench.ts";

const run = promisify(execFile);
const SNAPSHOTTER = "io.containerd.snapshotter.v1.overlayfs";

export interface Containerd extends AsyncDisposable {
  readonly version: string;
  /** The program it decompresses gzip with when that is installed: igzip since 2.0, unpigz before. */
  readonly decompressor: string;
  readonly pid: number;
  /** Its socket: in the arguments of every shim that it starts. */
  readonly address: string;
  /** The directories of its overlayfs snapshots. */
  readonly snapshots: string;
  /** Runs `ctr` and gives its output. @throws INTERNAL with what it said. */
  ctr(...args: string[]): Promise<string>;
  /** Removes all images there are, and waits until their content and their snapshots have gone too. */
  removeImages(names: readonly string[]): Promise<void>;
  /** Ends and removes every container. */
  removeContainers(): Promise<void>;
  /** Ends and starts it on the same data. */
  restart(): Promise<void>;
}

/** @param programs a directory with `containerd` and `ctr`, or one above `usr/bin` or `bin` that has them */
export async function startContainerd(bench: Bench, programs?: string): Promise<Containerd> {
  const env = programs === undefined ? process.env : { ...process.env, PATH: pathWith(programs) };
  const dir = mkdtempSync(join(bench.dir, "containerd-"));
  const root = join(dir, "root");
  const address = join(dir, "containerd.sock");
  const snapshots = join(root, SNAPSHOTTER, "snapshots");
  mkdirSync(snapshots, { recursive: true });
  const common = ["--address", address, "--namespace", bench.name];
  const ending = new AbortController();
  const ctr = (...args: string[]): Promise<string> => runCtr([...common, ...args], env, ending.signal);
  const daemon = makeDaemon(dir, root, address, env, () => ctr("version"));
  await daemon.start();
  return {
    version: (await run("containerd", ["--version"], { env })).stdout.trim().split(" ")[2] ?? "unknown",
    decompressor: await decompressorOf(env),
    get pid() {
      return daemon.identity!.pid;
    },
    address,
    snapshots,
    ctr,
    async removeImages(names) {
      await ctr("images", "rm", "--sync", ...names);
      const left = [await ctr("content", "ls", "-q"), ...readdirSync(snapshots)].filter((each) => each.trim() !== "");
      if (left.length > 0)
        throw new StatusError("INTERNAL", `containerd kept something of ${names.join(", ")}: ${left.join(", ")}`);
    },
    removeContainers: () => removeContainers(ctr),
    async restart() {
      await daemon.stop();
      await daemon.start();
    },
    async [Symbol.asyncDispose]() {
      ending.abort(); // a ctr that is under way would wait for ever for a daemon that has gone
      await removeContainers((...args) => runCtr([...common, ...args], env)).catch((error: unknown) =>
        console.error(`containerd: ${String(error)}`),
      );
      await daemon.stop();
      unmountTree(dir);
    },
  };
}

/** Its programs' names are in the binary. */
async function decompressorOf(env: NodeJS.ProcessEnv): Promise<string> {
  const { stdout } = await run("sh", ["-c", "command -v containerd"], { env });
  return readFileSync(stdout.trim()).includes("igzip") ? "igzip" : "unpigz";
}

/** @throws NOT_FOUND when there is no containerd beneath the directory */
function pathWith(programs: string): string {
  const candidates = [programs, join(programs, "bin"), join(programs, "usr/bin")];
  const found = candidates.find((each) => existsSync(join(each, "containerd")) && existsSync(join(each, "ctr")));
  if (found !== undefined) return `${found}${delimiter}${process.env["PATH"] ?? ""}`;
  throw new StatusError("NOT_FOUND", `--containerd ${programs}: no containerd and ctr in it, its bin or its usr/bin`);
}

function makeDaemon(
  dir: string,
  root: string,
  address: string,
  env: NodeJS.ProcessEnv,
  ask: () => Promise<unknown>,
): Daemon {
  const config = join(dir, "config.toml");
  const lines = [
    "version = 2",
    `root = "${root}"`,
    `state = "${join(dir, "state")}"`,
    // Its CRI service would only make it larger; nothing here uses it.
    `disabled_plugins = ["io.containerd.grpc.v1.cri"]`,
    "[grpc]",
    `  address = "${address}"`,
  ];
  writeFileSync(config, `${lines.join("\n")}\n`);
  return new Daemon({
    name: "containerd",
    argv: ["containerd", "--config", config],
    env,
    logFile: join(dir, "containerd.log"),
    probe: async () => {
      if (!existsSync(address)) throw new Error("no socket yet");
      await ask();
    },
  });
}

async function runCtr(args: readonly string[], env: NodeJS.ProcessEnv, signal?: AbortSignal): Promise<string> {
  const limits = { env, maxBuffer: 1 << 24, timeout: 120_000, killSignal: "SIGKILL" } as const;
  try {
    const { stdout } = await run("ctr", args, { ...limits, ...(signal === undefined ? {} : { signal }) });
    return stdout;
  } catch (error) {
    const said = ((error as { stderr?: string }).stderr ?? "").trim();
    throw new StatusError("INTERNAL", `ctr ${args.join(" ")} failed: ${said || String(error)}`, { cause: error });
  }
}

/** Shims outlive their daemon: whatever still runs is ended through it. */
async function removeContainers(ctr: Containerd["ctr"]): Promise<void> {
  for (const id of (await ctr("tasks", "ls", "-q")).split("\n").filter(Boolean))
    await ctr("tasks", "rm", "--force", id);
  for (const id of (await ctr("containers", "ls", "-q")).split("\n").filter(Boolean)) await ctr("containers", "rm", id);
}
