/** Small argument forms that several commands take. */
import { timestampFromMs, type Timestamp } from "@bufbuild/protobuf/wkt";
import { parseDurationMs } from "@berth/base/terminal";
import { UsageError } from "../exit-code.ts";

/** `key=value…` to a map. */
export function parseAssignments(items: readonly string[], option: string): Record<string, string> {
  const result: Record<string, string> = {};
  for (const item of items) {
    const at = item.indexOf("=");
    if (at <= 0) throw new UsageError(`${option} ${JSON.stringify(item)} is not of the form key=value`);
    result[item.slice(0, at)] = item.slice(at + 1);
  }
  return result;
}

export function parseCount(text: string, option: string): number {
  if (!/^\d{1,7}$/.test(text)) throw new UsageError(`${option} ${JSON.stringify(text)} is not a whole number`);
  return Number(text);
}

/** A time as `berth events` prints it (UTC unless it says otherwise), or how long ago. */
export function parseAsOf(text: string | undefined, nowMs: number): Timestamp | undefined {
  if (text === undefined) return undefined;
  const agoMs = parseDurationMs(text);
  if (agoMs !== undefined) return timestampFromMs(nowMs - agoMs);
  const match = /^(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?)(Z|[+-]\d\d:\d\d)?)?$/.exec(text);
  const ms = match === null ? Number.NaN : Date.parse(`${match[1]}T${match[2] ?? "00:00"}${match[3] ?? "Z"}`);
  if (!Number.isNaN(ms)) return timestampFromMs(ms);
  throw new UsageError(
    `--as-of ${JSON.stringify(text)} is no time: give one such as 2026-11-29T12:00:00Z (UTC unless it says otherwise), or 90m for so long ago`,
  );
}
