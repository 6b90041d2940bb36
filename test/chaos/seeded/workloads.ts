/**
 * What is run under chaos. Every container writes down that it started; the one of which there must never be two holds a lock
 * on a file that all nodes share (one kernel), so that a second one at any moment of real time writes down that it is one.
 */
import { workloadManifest } from "../../support/fleet.ts";

/** A task that is found again among the machine's processes by how long it sleeps. */
export interface Wanted {
  readonly name: string;
  readonly replicas: number;
  readonly version: number;
}

export interface Run {
  readonly id: string;
  readonly image: string;
  readonly ledger: string;
}

/** Busybox has no flock: the machine's own, with its loader and library, from a mount of /usr. */
const FLOCK =
  process.arch === "arm64"
    ? "/host/lib/aarch64-linux-gnu/ld-linux-aarch64.so.1 --library-path /host/lib/aarch64-linux-gnu /host/bin/flock"
    : "/host/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2 --library-path /host/lib/x86_64-linux-gnu /host/bin/flock";

/** Of this process' own runs: others may be under way on the same machine. */
export const SLEEP_BASE = 1_000_000 + (process.pid % 100_000) * 1_000;

/** Any number of it, and doubles while a node is silent. */
export function many({ id, image, ledger }: Run, { name, replicas, version }: Wanted): string {
  return workloadManifest({
    name,
    image,
    replicas,
    onNodeLoss: "replace",
    stopGrace: "0.2s",
    args: ["sh", "-c", `echo ${version} >> /ledger/starts-${id}-$(hostname); exec sleep ${SLEEP_BASE + version}`],
    mounts: [{ type: "bind", source: ledger, target: "/ledger" }],
  });
}

/** Never two. */
export function solo({ id, image, ledger }: Run, { name, version }: Wanted, onNodeLoss: string): string {
  const second = `echo "a second one: $(hostname), version ${version}" >> /ledger/doubles`;
  const lock = `exec 9>/ledger/lock-${id}; ${FLOCK} -n -E 77 9; case $? in 0) ;; 77) ${second} ;; *) echo "no lock" >> /ledger/doubles ;; esac`;
  return workloadManifest({
    name,
    image,
    replicas: 1,
    onNodeLoss,
    stopGrace: "0.2s",
    args: [
      "sh",
      "-c",
      `${lock}; echo ${version} >> /ledger/starts-${id}-$(hostname); exec sleep ${SLEEP_BASE + 500 + version}`,
    ],
    mounts: [
      { type: "bind", source: ledger, target: "/ledger" },
      { type: "bind", source: "/usr", target: "/host", readOnly: true },
    ],
  });
}

/** Ends by itself, with a code that must arrive. */
export function brief({ id, image, ledger }: Run, { name, replicas }: Wanted): string {
  return workloadManifest({
    name,
    image,
    replicas,
    restart: "never",
    onNodeLoss: "keep",
    args: ["sh", "-c", `echo 1 >> /ledger/starts-${id}-$(hostname); sleep 1; exit 7`],
    mounts: [{ type: "bind", source: ledger, target: "/ledger" }],
  });
}
