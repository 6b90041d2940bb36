/** Is the clock believable? Certificates, leases and expiries go by it. */
import { statSync } from "node:fs";
import type { Check, Finding } from "./finding.ts";

/** Nothing of Berth is older. */
const EARLIEST_MS = Date.UTC(2025, 0, 1);
const TOLERANCE_MS = 60_000;

export const clockCheck: Check = ({ metadataPath, nowMs = Date.now }) => {
  const now = nowMs();
  const remedy = "set the clock, and keep it by NTP (timedatectl set-ntp true)";
  const detail = new Date(now).toISOString();
  const finding = (status: Finding["status"], text: string): readonly Finding[] => [
    { check: "clock", status, detail: text, ...(status === "ok" ? {} : { remedy }) },
  ];
  if (now < EARLIEST_MS) return finding("fail", `it is ${detail}, which cannot be`);
  const written = lastWriteMs(metadataPath);
  if (written !== undefined && written > now + TOLERANCE_MS) {
    return finding("fail", `it is ${detail}, before the agent's last write at ${new Date(written).toISOString()}`);
  }
  return finding("ok", detail);
};

function lastWriteMs(path: string): number | undefined {
  const times = [path, `${path}-wal`].map((each) => statSync(each, { throwIfNoEntry: false })?.mtimeMs);
  const known = times.filter((time) => time !== undefined);
  return known.length === 0 ? undefined : Math.max(...known);
}
