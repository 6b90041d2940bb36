/** Selecting whole rows of nodes. */
import { sql, type SQL } from "drizzle-orm";
import type { Tx } from "./database.ts";
import type { NodeRow } from "./node-message.ts";
import { nodes } from "./schema/index.ts";
import { wholeRows } from "./whole-rows.ts";

const WHOLE = wholeRows(nodes);

/** @param rest what follows `from nodes` */
export async function selectNodes(tx: Tx, rest: SQL): Promise<NodeRow[]> {
  const rows = await tx.execute(sql`select ${WHOLE.columns} from nodes ${rest}`);
  return rows.map((row) => WHOLE.read(row));
}
