/**
 * What protobuf's JSON form makes of single fields, for rows that are written in it straight away: making a message first and then
 * its JSON costs several times as much, and tasks and events are written by the ten thousand. Tests hold what is written this way against
 * what protobuf makes of the message.
 *
 * A field that is left out is `undefined`, which JSON.stringify leaves out.
 */
import type { JsonValue } from "@bufbuild/protobuf";
import type { ResourceRow } from "./messages.ts";

/** To be written by JSON.stringify. */
export interface Unwritten {
  readonly [key: string]: JsonValue | Unwritten | undefined;
}

/** Of a field without presence: its default is left out. */
export function set<Value extends string | number | boolean>(value: Value | null): Value | undefined {
  return value ? value : undefined;
}

/** 64 bits are a string. */
export function int64(value: number | null): string | undefined {
  return value === null || value === 0 ? undefined : String(value);
}

export function timestamp(date: Date): string;
export function timestamp(date: Date | null): string | undefined;
export function timestamp(date: Date | null): string | undefined {
  if (date === null) return undefined;
  const text = date.toISOString();
  return text.endsWith(".000Z") ? `${text.slice(0, -5)}Z` : text;
}

export function list(values: string[]): string[] | undefined {
  return values.length === 0 ? undefined : values;
}

export function map(entries: Record<string, string>): Record<string, string> | undefined {
  return Object.keys(entries).length === 0 ? undefined : entries;
}

/** As {@link metadataOf} has it. */
export function metadataJson(row: ResourceRow): Unwritten {
  return {
    name: set(row.name),
    namespace: set(row.namespace ?? ""),
    uid: set(row.uid),
    labels: map(row.labels),
    generation: int64(row.generation),
    resourceVersion: int64(row.resourceVersion),
    createdAt: timestamp(row.createdAt),
    deletedAt: timestamp(row.deletedAt),
  };
}
