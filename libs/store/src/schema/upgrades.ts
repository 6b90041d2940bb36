/** Nodes on their way to another version of the agent. */
import { sql } from "drizzle-orm";
import { bigint, index, integer, pgTable, primaryKey, text, uniqueIndex, uuid } from "drizzle-orm/pg-core";
import { message, time } from "./columns.ts";

export const upgrades = pgTable(
  "upgrades",
  {
    id: bigint("id", { mode: "number" }).primaryKey().generatedAlwaysAsIdentity(),
    /** A berth.v1.UpgradeSpec. */
    spec: message("spec").notNull(),
    /** Running, Paused, Stopped, Completed or Cancelled. */
    phase: text("phase").notNull().default("Running"),
    message: text("message").notNull().default(""),
    /** Nodes that did not keep the version, and that were accepted when it was resumed. */
    acceptedFailures: integer("accepted_failures").notNull().default(0),
    /** After this group, counted from 1, its bake time has begun; it is over at `baking_until`. */
    bakedGroup: integer("baked_group").notNull().default(0),
    bakingUntil: time("baking_until"),
    startedAt: time("started_at").notNull().defaultNow(),
    finishedAt: time("finished_at"),
  },
  (t) => [
    // Of those that may order anything there is one.
    uniqueIndex("upgrades_active")
      .on(sql`(true)`)
      .where(sql`${t.phase} in ('Running', 'Paused')`),
  ],
);

export const upgradeNodes = pgTable(
  "upgrade_nodes",
  {
    upgradeId: bigint("upgrade_id", { mode: "number" })
      .notNull()
      .references(() => upgrades.id, { onDelete: "cascade" }),
    node: text("node").notNull(),
    /** Counted from 1. */
    group: integer("group").notNull(),
    fromVersion: text("from_version").notNull(),
    toVersion: text("to_version").notNull(),
    /** Of the order, given to the node with every question. */
    orderId: uuid("order_id").notNull(),
    /** Waiting, Ordered, Fetching, Starting, Proven, TakenBack, Refused, Silent or Skipped. */
    phase: text("phase").notNull().default("Waiting"),
    message: text("message").notNull().default(""),
    orderedAt: time("ordered_at"),
    finishedAt: time("finished_at"),
  },
  (t) => [
    primaryKey({ columns: [t.upgradeId, t.node] }),
    index("upgrade_nodes_order").on(t.upgradeId, t.group, t.node),
    // Every controller asks for these all the time; the rest is history.
    index("upgrade_nodes_under_way")
      .on(t.upgradeId)
      .where(sql`${t.phase} in ('Ordered', 'Fetching', 'Starting')`),
  ],
);
