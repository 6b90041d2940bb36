/**
 * Rows of drills: what was ordered, what was before it, its steps and its verdict. They outlive whoever asked for the drill and the
 * controller that began it.
 *
 * Invariants: one drill is under way at a time (a unique index); steps are added by whoever has locked the row, so each is told once;
 * one that has ended is never written again.
 */
import { StatusError } from "@berth/base";
import { create, toJson, type JsonObject } from "@bufbuild/protobuf";
import { durationFromMs, timestampFromDate } from "@bufbuild/protobuf/wkt";
import { DrillSchema, DrillStepSchema, type Drill, type DrillStep } from "@berth/proto";
import { and, desc, eq, isNull, lt, sql } from "drizzle-orm";
import type { Tx } from "./database.ts";
import { notify } from "./feed/record.ts";
import { optional, parse, timestampOf } from "./messages.ts";
import { pageKey, pageLimit, pageOf, type Page, type PageRequest } from "./page.ts";
import { drills } from "./schema/index.ts";
import { storeTime } from "./time.ts";

export type DrillRow = typeof drills.$inferSelect;
export type NewDrill = Pick<DrillRow, "name" | "kind" | "selector" | "nodes" | "durationMs" | "before" | "createdAt">;

/** Some drill has begun or has another step. */
export const DRILLS_CHANNEL = "berth_drills";

/** The newest are kept, beside the one under way. */
const KEPT = 100;

export const drillSteps = ({ steps }: DrillRow): DrillStep[] => steps.map((step) => parse(DrillStepSchema, step));

/** @param steps of a single drill alone: lists are short */
export function drillMessage(row: DrillRow, { steps = false }: { readonly steps?: boolean } = {}): Drill {
  return create(DrillSchema, {
    name: row.name,
    kind: row.kind,
    selector: row.selector,
    nodes: row.nodes,
    ...(row.durationMs === 0 ? {} : { duration: durationFromMs(row.durationMs) }),
    createdAt: timestampFromDate(row.createdAt),
    ...optional("endedAt", timestampOf(row.endedAt)),
    verdict: row.verdict,
    steps: steps ? drillSteps(row) : [],
  });
}

/** The drill that is now on record. @throws FAILED_PRECONDITION `DRILL_UNDER_WAY` */
export async function insertDrill(tx: Tx, drill: NewDrill): Promise<DrillRow> {
  const [row] = await tx.insert(drills).values(drill).onConflictDoNothing().returning();
  if (row === undefined) throw await underWay(tx);
  await tx.execute(sql`delete from drills where ended_at is not null and name in
    (select name from drills order by created_at desc offset ${KEPT})`);
  await notify(tx, DRILLS_CHANNEL);
  return row;
}

async function underWay(tx: Tx): Promise<StatusError> {
  const [row] = await tx.select().from(drills).where(isNull(drills.endedAt));
  const which = row === undefined ? "another drill" : `drill ${row.name}`;
  const how = row === undefined ? "its end" : `its end: berth drill show ${row.name} -w`;
  return new StatusError("FAILED_PRECONDITION", `${which} is under way: wait for ${how}`, {
    reason: "DRILL_UNDER_WAY",
  });
}

export async function getDrill(tx: Tx, name: string): Promise<DrillRow | undefined> {
  const [row] = await tx.select().from(drills).where(eq(drills.name, name));
  return row;
}

/** The newest first. */
export async function listDrills(tx: Tx, query: PageRequest): Promise<Page<DrillRow>> {
  const limit = pageLimit(query);
  const after = pageKey(query, 1);
  const rows = await tx
    .select()
    .from(drills)
    .where(after && lt(drills.createdAt, new Date(after[0]!)))
    .orderBy(desc(drills.createdAt))
    .limit(limit + 1);
  return pageOf(rows, limit, ({ createdAt }) => [createdAt.toISOString()]);
}

/** The row, locked until the transaction ends; undefined while there is none, or somebody else has it. */
export async function lockDrillUnderWay(tx: Tx): Promise<DrillRow | undefined> {
  const [row] = await tx.select().from(drills).where(isNull(drills.endedAt)).for("update", { skipLocked: true });
  return row;
}

/** The same, waiting for whoever has it, while it is under way. */
export async function lockDrill(tx: Tx, name: string): Promise<DrillRow | undefined> {
  const [row] = await tx
    .select()
    .from(drills)
    .where(and(eq(drills.name, name), isNull(drills.endedAt)))
    .for("update");
  return row;
}

/** Of a row that this transaction has locked. A verdict ends it; `begun`: by now all agents have taken the order. */
export async function writeDrill(
  tx: Tx,
  row: DrillRow,
  {
    steps,
    verdict,
    begunAt,
  }: { readonly steps: readonly DrillStep[]; readonly verdict?: string; readonly begunAt?: Date },
): Promise<void> {
  if (steps.length === 0 && verdict === undefined && begunAt === undefined) return;
  const more = steps.map((step) => toJson(DrillStepSchema, step) as JsonObject);
  await tx
    .update(drills)
    .set({
      steps: [...row.steps, ...more],
      ...optional("begunAt", begunAt),
      ...(verdict === undefined ? {} : { verdict, endedAt: await storeTime(tx) }),
    })
    .where(eq(drills.name, row.name));
  await notify(tx, DRILLS_CHANNEL);
}
