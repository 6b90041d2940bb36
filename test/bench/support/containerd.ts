/** Debian's containerd as the peer: on a root, a state directory and a socket of its own, driven by its own `ctr`. */
import { execFile } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
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
  /** Removes an image, and waits until its content and its snapshots have gone too. */
  removeImage(name: string): Promise<void>;
  /** Ends and removes every container. */
  removeContainers(): Promise<void>;
  /** Ends and starts it on the same data. */
  restart(): Promise<void>;
}

export async function startContainerd(bench: Bench): Promise<Containerd> {
  const dir = join(bench.dir, "containerd");
  mkdirSync(dir);
  const root = join(dir, "root");
  const address = join(dir, "containerd.sock");
  const snapshots = join(root, SNAPSHOTTER, "snapshots");
  const common = ["--address", address, "--namespace", bench.name];
  const ending = new AbortController();
  const ctr = (...args: string[]): Promise<string> => runCtr([...common, ...args], ending.signal);
  const daemon = makeDaemon(dir, root, address, () => ctr("version"));
  await daemon.start();
  return {
    version: (await run("containerd", ["--version"])).stdout.trim().split(" ")[2] ?? "unknown",
    decompressor: await decompressorOf(),
    get pid() {
      return daemon.identity!.pid;
    },
    address,
    snapshots,
    ctr,
    async removeImage(name) {
      await ctr("images", "rm", "--sync", name);
      const left = [await ctr("content", "ls", "-q"), ...readdirSync(snapshots)].filter((each) => each.trim() !== "");
      if (left.length > 0)
        throw new StatusError("INTERNAL", `containerd kept something of ${name}: ${left.join(", ")}`);
    },
    removeContainers: () => removeContainers(ctr),
    async restart() {
      await daemon.stop();
      await daemon.start();
    },
    async [Symbol.asyncDispose]() {
      ending.abort(); // a ctr that is under way would wait for ever for a daemon that has gone
      await removeContainers((...args) => runCtr([...common, ...args])).catch((error: unknown) =>
        console.error(`containerd: ${String(error)}`),
      );
      await daemon.stop();
      unmountTree(dir);
    },
  };
}

/** Its programs' names are in the binary. */
async function decompressorOf(): Promise<string> {
  const { stdout } = await run("sh", ["-c", "command -v containerd"]);
  return readFileSync(stdout.trim()).includes("igzip") ? "igzip" : "unpigz";
}

function makeDaemon(dir: string, root: string, address: string, ask: () => Promise<unknown>): Daemon {
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
    logFile: join(dir, "containerd.log"),
    probe: async () => {
      if (!existsSync(address)) throw new Error("no socket yet");
      await ask();
    },
  });
}

async function runCtr(args: readonly string[], signal?: AbortSignal): Promise<string> {
  const limits = { maxBuffer: 1 << 24, timeout: 120_000, killSignal: "SIGKILL" } as const;
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
