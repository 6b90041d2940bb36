/** Column types that the tables share. */
import { bigint, customType, jsonb, text, timestamp, uuid } from "drizzle-orm/pg-core";
import type { JsonObject } from "@bufbuild/protobuf";

/** Postgres' 64-bit transaction id. In JavaScript a decimal string: it is only ever compared by Postgres. */
export const xid8 = customType<{ data: string; driverData: string }>({ dataType: () => "xid8" });

export const bytes = customType<{ data: Uint8Array; driverData: Uint8Array }>({ dataType: () => "bytea" });

/** Counters that stay far below 2^53. */
export const counter = (name: string) => bigint(name, { mode: "number" });
export const time = (name: string) => timestamp(name, { withTimezone: true, precision: 3, mode: "date" });
/** A message of berth.v1 in protobuf's JSON form. */
export const message = (name: string) => jsonb(name).$type<JsonObject>();
export const strings = (name: string) => text(name).array();
export const labels = (name: string) => jsonb(name).$type<Record<string, string>>();

/** What every resource has besides its name. */
export const resourceColumns = {
  uid: uuid("uid").notNull(),
  labels: labels("labels").notNull().default({}),
  generation: counter("generation").notNull().default(1),
  resourceVersion: counter("resource_version").notNull().default(1),
  createdAt: time("created_at").notNull().defaultNow(),
  deletedAt: time("deleted_at"),
};
