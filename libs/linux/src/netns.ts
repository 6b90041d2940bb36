/**
 * Network namespaces that outlive their makers: each is an nsfs bind mount on an empty file, as `ip netns` and the CNI
 * specification have it.
 *
 * No thread of this process changes its namespace here (`netns-socket.ts` does, for the length of one system call).
 * util-linux's `unshare --net=FILE` makes the namespace, mounts it
 * and runs `ip link set lo up` inside, all in one short-lived child.
 */
import { spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readdirSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { StatusError } from "@berth/base";
import { fromNodeError } from "./errno.ts";
import { unmountAll } from "./mount.ts";
import { mounts } from "./mountinfo.ts";

/**
 * Makes a network namespace at `path` with its loopback up. The directory is made as needed.
 * @throws ALREADY_EXISTS when the path is taken; FAILED_PRECONDITION `NETNS_TOOL_FAILED` naming what the host lacks.
 */
export async function createNetns(path: string): Promise<void> {
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
    closeSync(openSync(path, "wx", 0o444));
  } catch (error) {
    throw fromNodeError(error, "create", JSON.stringify(path));
  }
  try {
    await run("unshare", [`--net=${path}`, "--", "ip", "link", "set", "lo", "up"], path);
  } catch (error) {
    removeNetns(path);
    throw error;
  }
}

/** Unmounts and unlinks it; one that is not there is success. It ends when no process uses it any more. */
export function removeNetns(path: string): void {
  unmountAll(path, { detach: true });
  try {
    rmSync(path, { force: true });
  } catch (error) {
    throw fromNodeError(error, "unlink", JSON.stringify(path));
  }
}

export interface NetnsEntry {
  readonly name: string;
  readonly path: string;
  /** False for a file whose namespace is gone (after a reboot, or a creation that was cut short): only to be removed. */
  readonly mounted: boolean;
}

/** What is in a directory of namespaces; empty when there is no such directory. */
export function listNetns(directory: string): NetnsEntry[] {
  let names: string[];
  try {
    names = readdirSync(directory).sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return [];
    throw fromNodeError(error, "read", JSON.stringify(directory));
  }
  const mounted = new Set(
    mounts()
      .filter((mount) => mount.fsType === "nsfs")
      .map((mount) => mount.target),
  );
  return names.map((name) => {
    const path = join(directory, name);
    return { name, path, mounted: mounted.has(path) };
  });
}

function run(command: string, args: readonly string[], subject: string): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const child = spawn(command, args, { stdio: ["ignore", "ignore", "pipe"] });
  let stderr = "";
  const fail = (why: string): void =>
    reject(
      new StatusError("FAILED_PRECONDITION", `netns "${subject}": ${command}: ${why}`, {
        reason: "NETNS_TOOL_FAILED",
      }),
    );
  child.stderr.setEncoding("utf8").on("data", (text: string) => (stderr = (stderr + text).slice(-2048)));
  child.once("error", (error) => fail(error.message));
  child.once("close", (code, signal) =>
    code === 0 ? resolve() : fail(stderr.trim() || `ended with ${code ?? signal}`),
  );
  return promise;
}
