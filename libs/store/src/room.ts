/** Which tasks hold room on their nodes, in SQL. Whatever counts a node's load counts by this. */
import { FENCED_REASON } from "@berth/model";
import { sql, type SQL } from "drizzle-orm";
import { tasks } from "./schema/index.ts";

/** `holdsRoom` of libs/model: it has not ended, or is begun again where it is. */
export const HOLDS_ROOM: SQL = sql`(${tasks.phase} not in ('Succeeded', 'Failed', 'Stopped') or ${tasks.nextAttemptAt} is not null
  or (${tasks.desired} = 'Run' and ${tasks.beginsAgain} <> 'no' and (${tasks.beginsAgain} = 'always'
    or (${tasks.beginsAgain} = 'onFailure' and ${tasks.phase} <> 'Succeeded') or ${tasks.reason} = ${sql.raw(`'${FENCED_REASON}'`)})))`;
