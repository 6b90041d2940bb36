/** A runtime on a scratch directory, for tests of the real thing. */
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { cgroupPids, detectCgroupLayout, isAlive, mountsUnder } from "@berth/linux";
import { createOciRuntime } from "../oci/runtime.ts";
import { containerPaths } from "../oci/layout.ts";
import { findConmon, readPid } from "../oci/observe.ts";
import { readLog } from "../log-reader.ts";
import type { ContainerHandle, CreateRequest, Runtime } from "../runtime.ts";
import type { ContainerConfig } from "../spec/container-config.ts";
import type { SpecInput } from "../spec/generate.ts";
import { handleOf, makeScratch, type Scratch } from "./rootfs.ts";

export interface RuntimeFixture extends AsyncDisposable {
  readonly scratch: Scratch;
  readonly runtime: Runtime;
  /** Another agent on the same state. */
  again(): Promise<Runtime>;
  /** Prepares, creates and starts; deleted at the end, whatever happened. */
  run(id: string, container: ContainerConfig, changes?: Partial<SpecInput>): Promise<CreateRequest>;
  prepare(id: string, container: ContainerConfig, changes?: Partial<SpecInput>): Promise<CreateRequest>;
}

const BINARIES: Readonly<Record<string, string>> = {
  runc: "/usr/sbin/runc",
  crun: "/usr/bin/crun",
  runsc: "/usr/bin/runsc",
};

export async function makeRuntime(name = "runc"): Promise<RuntimeFixture> {
  const scratch = makeScratch();
  const open = (): Promise<Runtime> =>
    createOciRuntime(
      {},
      { name, binary: BINARIES[name]!, conmonPath: "/usr/bin/conmon", stateDir: scratch.stateDir, pollMs: 100 },
    );
  const runtime = await open();
  const handles: ContainerHandle[] = [];
  const prepare = async (id: string, container: ContainerConfig, changes?: Partial<SpecInput>) => {
    const request = await scratch.prepare(id, container, changes);
    handles.push(handleOf(request));
    return request;
  };
  return {
    scratch,
    runtime,
    again: open,
    prepare,
    async run(id, container, changes) {
      const request = await prepare(id, container, changes);
      await runtime.create(request);
      await runtime.start(request);
      return request;
    },
    async [Symbol.asyncDispose]() {
      for (const handle of handles) await runtime.delete(handle);
      await runtime[Symbol.asyncDispose]();
      await scratch[Symbol.asyncDispose]();
    },
  };
}

/** All of a container's log as text lines. */
export async function logLines(request: CreateRequest): Promise<string[]> {
  const lines: string[] = [];
  for await (const line of readLog(request.logPath)) lines.push(line.text.toString());
  return lines;
}

export function conmonPid(request: CreateRequest): number {
  const pid = findConmon(containerPaths(request.bundle));
  if (pid === undefined) throw new Error("no conmon runs");
  return pid;
}

export function initPid(request: CreateRequest): number {
  return readPid(containerPaths(request.bundle).initPid)!;
}

/** What of a container is still on the host; empty after a deletion. */
export function remains(request: CreateRequest, processes: readonly number[]): string[] {
  const paths = containerPaths(request.bundle);
  const cgroups = readFileSync("/proc/mounts", "utf8")
    .split("\n")
    .map((line) => line.split(" "))
    .filter(([, , type]) => type === "cgroup" || type === "cgroup2")
    .map(([, target]) => `${target}${request.cgroupPath}`);
  const files = [...cgroups, paths.supervisor, ...paths.bundleSockets];
  return [
    ...files.filter((path) => existsSync(path)),
    ...processes.filter((pid) => isAlive(pid)).map((pid) => `process ${pid}`),
    ...cgroupPids(detectCgroupLayout(), request.cgroupPath).map((pid) => `process ${pid}`),
    ...mountsUnder(request.bundle).map(({ target }) => `mount ${target}`),
  ];
}

/** Polls until it holds. @throws after ten seconds. */
export async function eventually(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`not within ten seconds: ${what}`);
    await delay(5);
  }
}

/** Why crun cannot run here, if it cannot: it refuses hosts where cgroup v2 holds a controller beside v1. */
export function crunUnusable(): string | undefined {
  try {
    execFileSync("/usr/bin/crun", ["--version"], { stdio: "ignore" });
  } catch {
    return "crun is not installed";
  }
  const cgroups = detectCgroupLayout();
  if (cgroups.mode !== "hybrid") return undefined;
  const held = [...cgroups.controllers].filter(([, root]) => root === cgroups.unified).map(([name]) => name);
  return held.length === 0 ? undefined : `crun refuses hybrid cgroups: v2 holds ${held.join(", ")}`;
}
