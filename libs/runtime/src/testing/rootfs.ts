/** A root file system of one static busybox, and everything a container test needs, in a scratch directory. */
import { copyFileSync, linkSync, mkdirSync, mkdtempSync, writeFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { detectCgroupLayout, removeCgroup } from "@berth/linux";
import type { OciImageConfig } from "@berth/model";
import { etcFiles, writeEtcFiles, writeSpec } from "../bundle.ts";
import type { ContainerHandle, CreateRequest } from "../runtime.ts";
import type { ContainerConfig } from "../spec/container-config.ts";
import { generateSpec, type SpecInput } from "../spec/generate.ts";
import { readHostFacts } from "../spec/host-facts.ts";

const APPLETS = [
  "sh",
  "cat",
  "echo",
  "sleep",
  "true",
  "false",
  "id",
  "mount",
  "dd",
  "head",
  "stty",
  "kill",
  "ls",
  "env",
];
const MORE_APPLETS = [
  "hostname",
  "ps",
  "seq",
  "trap",
  "touch",
  "tail",
  "yes",
  "pwd",
  "setpriv",
  "readlink",
  "printf",
  "wc",
  "swapon",
  "unshare",
  "grep",
  "df",
];

/** Makes a busybox root at `path`, with users `root` and `web` (1000:1000, also in group `staff`, 50). */
export function makeBusyboxRoot(path: string): void {
  for (const directory of ["bin", "etc", "proc", "sys", "dev", "tmp", "root"]) {
    mkdirSync(join(path, directory), { recursive: true });
  }
  copyFileSync("/bin/busybox", join(path, "bin/busybox"));
  for (const applet of [...APPLETS, ...MORE_APPLETS]) linkSync(join(path, "bin/busybox"), join(path, "bin", applet));
  writeFileSync(join(path, "etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000::/home/web:/bin/sh\n");
  writeFileSync(join(path, "etc/group"), "root:x:0:\nstaff:x:50:web\nweb:x:1000:\n");
  writeFileSync(join(path, "etc/secret"), "not executable\n", { mode: 0o644 });
}

/** A scratch directory with a root shared by all containers of a test file, and their bundles. */
export interface Scratch extends AsyncDisposable {
  readonly directory: string;
  readonly rootfs: string;
  readonly stateDir: string;
  /** Writes a bundle for a container and says how to create it. */
  prepare(id: string, container: ContainerConfig, changes?: Partial<SpecInput>): Promise<CreateRequest>;
}

export const BUSYBOX_IMAGE: OciImageConfig = {
  architecture: "amd64",
  os: "linux",
  config: { Cmd: ["sh"], Env: ["PATH=/bin"] },
  rootfs: { type: "layers", diff_ids: [] },
};

export function makeScratch(namespace = "test"): Scratch {
  const directory = mkdtempSync(join(tmpdir(), "berth-runtime-"));
  const rootfs = join(directory, "rootfs");
  makeBusyboxRoot(rootfs);
  const host = readHostFacts();
  const cgroupRoot = `/berth-test-${basename(directory)}`;
  return {
    directory,
    rootfs,
    stateDir: join(directory, "state"),
    async prepare(id, container, changes = {}) {
      const bundle = join(directory, "bundles", id);
      const cgroupPath = `${cgroupRoot}/${id}`;
      await writeEtcFiles(bundle, { hostname: id, addresses: [], nameservers: ["192.0.2.1"] });
      const input = { image: BUSYBOX_IMAGE, container, rootfs, hostname: id, cgroupPath, etc: etcFiles(bundle) };
      await writeSpec(bundle, await generateSpec({ ...input, host: await host, ...changes }));
      const logPath = join(directory, "logs", `${id}.log`);
      return {
        namespace,
        id,
        bundle,
        logPath,
        cgroupPath,
        terminal: container.terminal === true,
        ...(container.input && { input: container.input }),
      };
    },
    async [Symbol.asyncDispose]() {
      await removeCgroup(detectCgroupLayout(), cgroupRoot, { kill: true });
      await rm(directory, { recursive: true, force: true });
    },
  };
}

/** The part of a request by which the other calls name the container. */
export function handleOf(request: CreateRequest): ContainerHandle {
  const { namespace, id, bundle, cgroupPath } = request;
  return { namespace, id, bundle, cgroupPath };
}
