/** Drills: trouble on purpose, what it was to be judged by, and what was found. One is under way at a time. */
import { sql } from "drizzle-orm";
import type { JsonObject } from "@bufbuild/protobuf";
import { index, integer, jsonb, pgTable, text, uniqueIndex } from "drizzle-orm/pg-core";
import { strings, time } from "./columns.ts";

/** A task of the slice, as it was when the drill began. */
export interface DrilledTask {
  readonly uid: string;
  readonly namespace: string;
  readonly name: string;
  readonly node: string;
  readonly workloadUid: string;
  readonly slot: number;
  readonly desired: string;
  readonly fence: boolean;
  readonly phase: string;
  readonly attempt: number;
  readonly generation: number;
  readonly certainty: string;
}

/** What was before the trouble, for whichever controller judges. */
export interface DrillBefore {
  readonly tasks: readonly DrilledTask[];
  /** Of workloads that were wanted, by uid. */
  readonly generations: Readonly<Record<string, number>>;
  /** The longest lease among the nodes. */
  readonly leaseMs: number;
  /** A pg_snapshot: all this was read by it. */
  readonly snapshot: string;
}

export const drills = pgTable(
  "drills",
  {
    name: text("name").primaryKey(),
    /** partition, pause or kill. */
    kind: text("kind").notNull(),
    selector: text("selector").notNull(),
    nodes: strings("nodes").notNull(),
    /** 0: of a kill. */
    durationMs: integer("duration_ms").notNull(),
    before: jsonb("before").$type<DrillBefore>().notNull(),
    /** When that was. */
    createdAt: time("created_at")
      .notNull()
      .default(sql`clock_timestamp()`),
    /** When all agents had taken the order; null: it is being given. */
    begunAt: time("begun_at"),
    endedAt: time("ended_at"),
    /** Empty: it is under way. */
    verdict: text("verdict").notNull().default(""),
    /** berth.v1.DrillStep. */
    steps: jsonb("steps").$type<JsonObject[]>().notNull().default([]),
  },
  (t) => [
    uniqueIndex("drills_under_way")
      .on(sql`(true)`)
      .where(sql`ended_at is null`),
    index("drills_created").on(t.createdAt),
  ],
);
