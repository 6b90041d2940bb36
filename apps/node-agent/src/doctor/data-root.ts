/** The data root as a directory: who has it, who may read it, how full its disk is. */
import { existsSync, statSync } from "node:fs";
import { dirname } from "node:path";
import { diskInfo } from "@berth/linux";
import type { Check, Finding } from "./finding.ts";

const NEARLY_FULL = 0.95;
const FILLING_UP = 0.85;
/** ST_RDONLY. */
const READ_ONLY = 1;
/** Whose bytes a power cut may take even after fsync, or that cannot be an overlay's upper directory. */
const UNFIT = new Set(["nfs", "fuse", "overlay"]);

export const lockCheck: Check = ({ running, lockPath }) => {
  if (running !== undefined) return [{ check: "lock", status: "ok", detail: `held by the agent with pid ${running}` }];
  return [{ check: "lock", status: "ok", detail: existsSync(lockPath) ? "left by an agent that has ended" : "free" }];
};

/** Everything of the agent is root's: blobs of all tenants, secrets in metadata. */
export const permissionsCheck: Check = ({ config, metadataPath }) => {
  const findings: Finding[] = [];
  const look = (path: string, forbidden: number): void => {
    const info = statSync(path, { throwIfNoEntry: false });
    if (info === undefined) return;
    const check = `permissions/${path}`;
    const mode = (info.mode & 0o7777).toString(8);
    if (info.uid !== 0) {
      findings.push({ check, status: "fail", detail: `belongs to user ${info.uid}`, remedy: `chown root: ${path}` });
    } else if ((info.mode & forbidden) !== 0) {
      const remedy = `chmod ${(info.mode & 0o7777 & ~forbidden).toString(8)} ${path}`;
      findings.push({
        check,
        status: "fail",
        detail: `has mode ${mode}, so that others may get at tenants' data`,
        remedy,
      });
    } else findings.push({ check, status: "ok", detail: `mode ${mode}` });
  };
  look(config.root, 0o022);
  look(config.state, 0o022);
  for (const path of [metadataPath, `${metadataPath}-wal`]) look(path, 0o077);
  look(`${config.root}/content/blobs`, 0o077);
  look(`${config.root}/content/ingest`, 0o077);
  return findings;
};

export const diskCheck: Check = ({ config }) => {
  const there = nearest(config.root);
  const { totalBytes, freeBytes, availableBytes, totalInodes, freeInodes, fsType, mountFlags } = diskInfo(there);
  const findings = [fullness("disk/space", "space", totalBytes - freeBytes, availableBytes)];
  if (totalInodes > 0) findings.push(fullness("disk/inodes", "inodes", totalInodes - freeInodes, freeInodes));
  if ((mountFlags & READ_ONLY) !== 0) {
    const detail = `${there} is mounted read-only; the kernel does this to a damaged file system`;
    findings.push({
      check: "disk/writable",
      status: "fail",
      detail,
      remedy: "look at dmesg, repair it and mount it again",
    });
  }
  const fit = !UNFIT.has(fsType);
  findings.push({
    check: "disk/type",
    status: fit ? "ok" : "warn",
    detail: fit ? fsType : `${fsType} does not keep what the agent is promised when power fails, or holds no layers`,
    ...(fit ? {} : { remedy: "put the data root on ext4, xfs or btrfs" }),
  });
  return findings;
};

/** Of what can be used at all, as df counts: without what is reserved. */
function fullness(check: string, what: string, taken: number, free: number): Finding {
  const used = taken + free === 0 ? 0 : taken / (taken + free);
  const detail = `${(used * 100).toFixed(0)} % of ${what} used`;
  if (used < FILLING_UP) return { check, status: "ok", detail };
  const remedy = "remove images that are not needed, run berthd gc, or give the data root a larger disk";
  return { check, status: used < NEARLY_FULL ? "warn" : "fail", detail, remedy };
}

/** The data root, or what would hold it. */
function nearest(path: string): string {
  let at = path;
  while (!existsSync(at)) at = dirname(at);
  return at;
}
