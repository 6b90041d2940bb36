/**
 * Amounts as people write them: cores (`500m`, `2`, `0.5`) as thousandths, bytes (`64Mi`, `1Gi`, `500M`, `1024`) as whole
 * bytes. The grammar is a part of Kubernetes' quantities; amounts are positive and exact.
 */
import { StatusError } from "@berth/base";

const CPU = /^([0-9]+)(?:\.([0-9]+))?(m?)$/;
const MEMORY = /^([0-9]+)(?:\.([0-9]+))?(Ki|Mi|Gi|Ti|Pi|k|M|G|T|P)?$/;
const FACTORS: Readonly<Record<string, number>> = {
  "": 1,
  k: 1e3,
  M: 1e6,
  G: 1e9,
  T: 1e12,
  P: 1e15,
  Ki: 2 ** 10,
  Mi: 2 ** 20,
  Gi: 2 ** 30,
  Ti: 2 ** 40,
  Pi: 2 ** 50,
};
const BINARY = ["Pi", "Ti", "Gi", "Mi", "Ki"] as const;
/** More cores than any host has; keeps sums of tasks exact. */
const MAX_CPU_MILLIS = 1_000_000_000;

/** @throws INVALID_ARGUMENT `QUANTITY_INVALID` */
export function parseCpu(text: string): number {
  const match = CPU.exec(text);
  if (match === null) throw wrong(text, "is not a number of cores; write 500m, 0.5 or 2");
  const [, whole, fraction = "", suffix] = match;
  if (suffix === "m" && fraction !== "")
    throw wrong(text, "is finer than a thousandth of a core; write whole millis such as 500m");
  if (fraction.length > 3) throw wrong(text, "is finer than a thousandth of a core; write at most three decimals");
  const millis = suffix === "m" ? Number(whole) : Number(whole) * 1000 + Number(fraction.padEnd(3, "0"));
  if (millis > MAX_CPU_MILLIS) throw wrong(text, "is more than 1000000 cores");
  return millis;
}

/** @throws INVALID_ARGUMENT `QUANTITY_INVALID` */
export function parseMemory(text: string): number {
  const match = MEMORY.exec(text);
  if (match === null) throw wrong(text, `is not a number of bytes; write 64Mi, 1Gi, 500M or 1024${memoryHint(text)}`);
  const [, whole, fraction = "", unit = ""] = match;
  const bytes = Number(`${whole}.${fraction || "0"}`) * FACTORS[unit]!;
  if (!Number.isSafeInteger(bytes)) {
    if (bytes > Number.MAX_SAFE_INTEGER) throw wrong(text, "is more bytes than can be counted");
    throw wrong(text, "is not a whole number of bytes; choose a smaller unit");
  }
  return bytes;
}

/** In less than this, a container cannot even have the files that every container gets. */
const MIN_DISK_BYTES = 2 ** 20;

/** A bound of a writable layer. @throws INVALID_ARGUMENT `QUANTITY_INVALID` */
export function parseDisk(text: string): number {
  const bytes = parseMemory(text);
  if (bytes < MIN_DISK_BYTES) throw wrong(text, "is less than 1Mi, the least that a writable layer can have");
  return bytes;
}

/** The shortest exact form: `500m`, `2`. */
export function formatCpu(millis: number): string {
  return millis % 1000 === 0 ? String(millis / 1000) : `${millis}m`;
}

/** Exact, in the largest binary unit that divides it: `64Mi`, `1000`. */
export function formatMemory(bytes: number): string {
  const unit = bytes === 0 ? undefined : BINARY.find((u) => Number.isInteger(bytes / FACTORS[u]!));
  return unit === undefined ? String(bytes) : `${bytes / FACTORS[unit]!}${unit}`;
}

function memoryHint(text: string): string {
  const unit = /^[0-9.]+\s*([A-Za-z]+)$/.exec(text)?.[1]?.toLowerCase();
  if (unit === "m") return " (m means thousandths; megabytes are M or Mi)";
  if (unit === "kb" || unit === "mb" || unit === "gb")
    return ` (without the B: ${unit === "kb" ? "k" : unit[0]!.toUpperCase()})`;
  return "";
}

function wrong(text: string, why: string): StatusError {
  return new StatusError("INVALID_ARGUMENT", `quantity ${JSON.stringify(text)} ${why}`, { reason: "QUANTITY_INVALID" });
}
