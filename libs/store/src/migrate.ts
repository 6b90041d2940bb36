/** Brings the schema to this version, one controller at a time. */
import { fileURLToPath } from "node:url";
import { drizzle } from "drizzle-orm/postgres-js";
import { migrate } from "drizzle-orm/postgres-js/migrator";
import postgres from "postgres";
import { storeError } from "./postgres-error.ts";
import { MIGRATION_LOCK } from "./lock-keys.ts";
import { makePartitions } from "./partitions.ts";

/** Of the partitions that are made with the store; the controller's retention goes on with its own. */
const FIRST_SPAN_MS = 24 * 3_600_000;
const FOLDER = fileURLToPath(new URL("../migrations", import.meta.url));

/** Applies the committed migrations that the database lacks. Idempotent; others wait for the advisory lock. */
export async function migrateDatabase(url: string): Promise<void> {
  const client = postgres(url, { max: 1, onnotice: () => {}, connect_timeout: 10, connection: { lock_timeout: 0 } });
  try {
    await client`select pg_advisory_lock(${MIGRATION_LOCK[0]}, ${MIGRATION_LOCK[1]})`;
    await migrate(drizzle(client), { migrationsFolder: FOLDER });
    await drizzle(client).transaction(async (tx) => {
      for (const feed of ["changes", "events"] as const)
        await makePartitions(tx, feed, FIRST_SPAN_MS, 2 * FIRST_SPAN_MS);
    });
    // A new store's history begins with it; one from before there was history gets its base from a controller.
    await client`
      insert into store_meta (store_epoch, history_since) values (gen_random_uuid(), clock_timestamp()) on conflict do nothing`;
  } catch (error) {
    throw storeError(error);
  } finally {
    // Ending the session gives the lock back.
    await client.end({ timeout: 1 });
  }
}
