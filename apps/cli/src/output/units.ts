/** Ages, times, sizes and durations as people read them. */
import { timestampDate, type Timestamp } from "@bufbuild/protobuf/wkt";
import { formatSeconds, parseDurationMs as parseDuration } from "@berth/base/terminal";
import { UsageError } from "../exit-code.ts";

/** `45s`, `3m10s`, `2h5m`, `4d3h`: the two largest units, rounded down. */
export function formatAge(from: Timestamp | undefined, nowMs: number): string {
  if (from === undefined) return "-";
  return formatSeconds(Math.max(0, Math.floor((nowMs - timestampDate(from).getTime()) / 1000)));
}

export function formatTime(time: Timestamp | undefined): string {
  return time === undefined ? "-" : timestampDate(time).toISOString();
}

export function formatCpu(millis: number | bigint): string {
  const value = Number(millis);
  return value % 1000 === 0 ? String(value / 1000) : `${value}m`;
}

/** `90s`, `5m`, `1h30m`. @throws UsageError that names the option. */
export function parseDurationMs(text: string, option: string): number {
  const ms = parseDuration(text);
  if (ms === undefined) {
    throw new UsageError(`${option} ${JSON.stringify(text)} is not a duration such as 90s, 5m or 1h30m`);
  }
  return ms;
}
