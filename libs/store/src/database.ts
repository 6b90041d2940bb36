/** The types of what store functions are given: a database or a transaction of it. */
import type { PgDatabase } from "drizzle-orm/pg-core";
import type { PostgresJsQueryResultHKT } from "drizzle-orm/postgres-js";

/**
 * Where a store function runs. Those that write want a transaction ({@link Store.transaction}); those that only read take
 * {@link Store.db} as well.
 */
export type Tx = PgDatabase<PostgresJsQueryResultHKT>;
