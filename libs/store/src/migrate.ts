/** Brings the schema to this version, one controller at a time. */
import { fileURLToPath } from "node:url";
import { drizzle } from "drizzle-orm/postgres-js";
import { migrate } from "drizzle-orm/postgres-js/migrator";
import postgres from "postgres";
import { storeError } from "./postgres-error.ts";
import { MIGRATION_LOCK } from "./lock-keys.ts";

const FOLDER = fileURLToPath(new URL("../migrations", import.meta.url));

/** Applies the committed migrations that the database lacks. Idempotent; others wait for the advisory lock. */
export async function migrateDatabase(url: string): Promise<void> {
  const client = postgres(url, { max: 1, onnotice: () => {}, connect_timeout: 10, connection: { lock_timeout: 0 } });
  try {
    await client`select pg_advisory_lock(${MIGRATION_LOCK[0]}, ${MIGRATION_LOCK[1]})`;
    await migrate(drizzle(client), { migrationsFolder: FOLDER });
    await client`insert into store_meta (store_epoch) values (gen_random_uuid()) on conflict do nothing`;
  } catch (error) {
    throw storeError(error);
  } finally {
    // Ending the session gives the lock back.
    await client.end({ timeout: 1 });
  }
}
