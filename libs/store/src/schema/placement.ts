/** What placement remembers: which images nodes have, and why tasks are where they are. */
import { bigserial, index, jsonb, pgTable, primaryKey, text, uuid } from "drizzle-orm/pg-core";
import { time } from "./columns.ts";

export interface NodeTaint {
  readonly key: string;
  readonly value: string;
  readonly effect: "NoSchedule" | "PreferNoSchedule" | "NoExecute";
  /** ISO 8601. */
  readonly addedAt: string;
}

/** Images that a node's journal said to be there, and has not said to be gone. */
export const nodeImages = pgTable(
  "node_images",
  {
    node: text("node").notNull(),
    image: text("image").notNull(),
  },
  (t) => [primaryKey({ columns: [t.image, t.node] }), index("node_images_node").on(t.node)],
);

/** What was decided for the tasks of one workload in one batch: see `PlacementRecord`. */
export const placementDecisions = pgTable(
  "placement_decisions",
  {
    id: bigserial("id", { mode: "number" }).primaryKey(),
    decidedAt: time("decided_at").notNull().defaultNow(),
    workloadUid: uuid("workload_uid").notNull(),
    record: jsonb("record").$type<PlacementRecord>().notNull(),
  },
  (t) => [index("placement_decisions_workload").on(t.workloadUid)],
);

/** Points by what they are for; what is 0 is left out. */
export type RecordedPoints = Readonly<Record<string, number>>;

/** As things stood when the first of these tasks was decided. Bounded: a few nodes, and reasons grouped over nodes. */
export interface PlacementRecord {
  readonly nodes: number;
  readonly fit: number;
  /** Why the others did not: a sentence's end, how many, and a few of them. */
  readonly refused: readonly { readonly why: string; readonly count: number; readonly nodes: readonly string[] }[];
  /** The best, with their points. */
  readonly leading: readonly { readonly node: string; readonly points: RecordedPoints }[];
  /** By the task's uid: its own node's points when it was its turn. */
  readonly tasks: Readonly<Record<string, RecordedPoints>>;
}
