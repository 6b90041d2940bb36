/** Selecting whole rows of tasks, and the parts of them that many tasks have alike. */
import type { JsonObject } from "@bufbuild/protobuf";
import { ContainerSpecSchema, type ContainerSpec } from "@berth/proto";
import { sql, type SQL } from "drizzle-orm";
import type { Tx } from "./database.ts";
import { parse } from "./messages.ts";
import { tasks } from "./schema/index.ts";
import { wholeRows } from "./whole-rows.ts";

export type TaskRow = typeof tasks.$inferSelect;

/** Tasks of a workload have one container between them. */
const WHOLE = wholeRows(tasks, ["container"]);

/** @param rest what follows `from tasks` */
export async function selectTasks(tx: Tx, rest: SQL): Promise<TaskRow[]> {
  const rows = await tx.execute(sql`select ${WHOLE.columns} from tasks ${rest}`);
  return rows.map((row) => WHOLE.read(row));
}

/** The same, and what an expression gives beside each row. */
export async function selectTasksWith<Value>(
  tx: Tx,
  expression: SQL<Value>,
  rest: SQL,
): Promise<{ readonly row: TaskRow; readonly value: Value }[]> {
  const rows = await tx.execute(sql`select ${WHOLE.columns}, ${expression} as beside from tasks ${rest}`);
  return rows.map((raw) => ({ row: WHOLE.read(raw), value: raw["beside"] as Value }));
}

const containers = new WeakMap<JsonObject, ContainerSpec>();

/** What the row's `container` says. Rows share it: it is not to be written to. */
export function containerOf({ container }: Pick<TaskRow, "container">): ContainerSpec {
  let message = containers.get(container);
  if (message === undefined) containers.set(container, (message = parse(ContainerSpecSchema, container)));
  return message;
}
