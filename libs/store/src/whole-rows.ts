/**
 * Reads whole rows of a wide table, many at a time.
 *
 * drizzle asks of each value what kind of column it is of, and with the forty columns of tasks and nodes that is most of what reading
 * one costs. Here each column's reading is decided once: values come under their own names, and only those are touched that Postgres
 * does not give as they are wanted. What is read is the same as drizzle's (the test compares).
 *
 * Columns named as shared hold JSON that many rows have alike. It is read once for each text: the rows share one object, which is
 * frozen.
 */
import { getTableColumns, sql, type InferSelectModel, type SQL } from "drizzle-orm";
import { getTableConfig, type PgColumn, type PgTable } from "drizzle-orm/pg-core";
import type { JsonObject } from "@bufbuild/protobuf";

export interface WholeRows<Row> {
  /** For a select list; the table must go by its own name. */
  readonly columns: SQL;
  /** What a row is that was selected by these columns, perhaps with others beside them. */
  read(raw: Record<string, unknown>): Row;
}

type Read = (value: string) => unknown;

export function wholeRows<Table extends PgTable>(
  table: Table,
  shared: readonly (keyof InferSelectModel<Table> & string)[] = [],
): WholeRows<InferSelectModel<Table>> {
  const { name: tableName } = getTableConfig(table);
  const columns = Object.entries(getTableColumns(table)) as [string, PgColumn][];
  const reads: { readonly key: string; readonly read: Read }[] = [];
  const selected = columns.map(([key, column]) => {
    const isShared = shared.includes(key as never);
    const read = isShared ? sharedJson() : readOf(column);
    if (read !== undefined) reads.push({ key, read });
    return `"${tableName}"."${column.name}"${isShared ? "::text" : ""} as "${key}"`;
  });
  const keys = columns.map(([key]) => key);
  const empty = Object.fromEntries(keys.map((key) => [key, null]));
  return {
    columns: sql.raw(selected.join(", ")),
    read(raw) {
      // The driver's object, which grew by forty names, is a hash table to V8: to spread it, or to write it as JSON, takes three times
      // as long as of one that had its names from the beginning.
      const row: Record<string, unknown> = { ...empty };
      for (const key of keys) row[key] = raw[key];
      for (const { key, read } of reads) {
        const value = row[key];
        if (value !== null) row[key] = read(value as string);
      }
      return row as InferSelectModel<Table>;
    },
  };
}

/** Undefined: as the driver gives it. */
function readOf(column: PgColumn): Read | undefined {
  switch (column.columnType) {
    case "PgBigInt53":
    case "PgBigSerial53":
      return Number;
    case "PgTimestamp":
      return (value) => new Date(value);
    case "PgArray":
      return (value) => (PLAIN_ARRAY.test(value) ? plainArray(value) : column.mapFromDriverValue(value));
    default:
      return undefined;
  }
}

/** Most are: no element needs quotes, and none is an array. */
const PLAIN_ARRAY = /^\{[^"\\{}]*\}$/;

function plainArray(text: string): string[] {
  return text === "{}" ? [] : text.slice(1, -1).split(",");
}

const MOST_SHARED = 1_000;
/** Longer ones are read each time. */
const MOST_SHARED_LENGTH = 16_384;

function sharedJson(): Read {
  const known = new Map<string, JsonObject>();
  return (text) => {
    const found = known.get(text);
    if (found !== undefined) return found;
    const object = deepFreeze(JSON.parse(text) as JsonObject);
    if (text.length > MOST_SHARED_LENGTH) return object;
    if (known.size >= MOST_SHARED) known.delete(known.keys().next().value!);
    known.set(text, object);
    return object;
  };
}

function deepFreeze<T extends object>(object: T): T {
  for (const value of Object.values(object))
    if (typeof value === "object" && value !== null) deepFreeze(value as object);
  return Object.freeze(object);
}
