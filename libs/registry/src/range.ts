/** Ranges of a blob: what is asked for, and what an answer's status and headers say came (RFC 9110 §14). */
import { StatusError } from "@berth/base";
import type { BlobOptions } from "./registry.ts";
import type { Answer } from "./transport.ts";

export interface WantedRange {
  readonly offsetBytes: number;
  readonly lengthBytes: number | undefined;
}

export interface Part {
  readonly offsetBytes: number;
  readonly totalBytes: number | undefined;
  /** How long the body will be; undefined when the server does not say. */
  readonly bodyBytes: number | undefined;
  readonly rangeHonoured: boolean;
}

/** @throws INVALID_ARGUMENT `RANGE_INVALID` */
export function wantedRange({ offsetBytes = 0, lengthBytes }: BlobOptions): WantedRange {
  checkWhole("offsetBytes", offsetBytes, 0);
  if (lengthBytes !== undefined) checkWhole("lengthBytes", lengthBytes, 1);
  return { offsetBytes, lengthBytes };
}

export function rangeHeader({ offsetBytes, lengthBytes }: WantedRange): Record<string, string> {
  if (offsetBytes === 0 && lengthBytes === undefined) return {};
  return { range: `bytes=${offsetBytes}-${lengthBytes === undefined ? "" : offsetBytes + lengthBytes - 1}` };
}

/** What comes, or what is wrong with the answer. */
export function readPart({ status, headers }: Answer, wanted: WantedRange): Part | string {
  const length = headers["content-length"];
  const bodyBytes = typeof length === "string" && /^\d+$/.test(length) ? Number(length) : undefined;
  if (status !== 206) {
    const rangeHonoured = wanted.offsetBytes === 0 && wanted.lengthBytes === undefined;
    return { offsetBytes: 0, totalBytes: bodyBytes, bodyBytes, rangeHonoured };
  }
  const said = String(headers["content-range"] ?? "");
  const match = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(said);
  if (match === null) return "sent a part of the blob without saying which";
  const [first, last] = [Number(match[1]), Number(match[2])];
  const totalBytes = match[3] === "*" ? undefined : Number(match[3]);
  const wantedLast = wanted.offsetBytes + (wanted.lengthBytes ?? Infinity) - 1;
  const size = last - first + 1;
  const sane = size > 0 && last < (totalBytes ?? Infinity) && (bodyBytes ?? size) === size;
  if (first !== wanted.offsetBytes || last > wantedLast || !sane) {
    return `sent another range than the one asked for (${JSON.stringify(said)})`;
  }
  return { offsetBytes: first, totalBytes, bodyBytes: size, rangeHonoured: true };
}

function checkWhole(field: string, value: number, min: number): void {
  if (Number.isSafeInteger(value) && value >= min) return;
  throw new StatusError("INVALID_ARGUMENT", `${field} is ${value}; give a whole number of at least ${min}`, {
    reason: "RANGE_INVALID",
  });
}
