/**
 * Brings the schema to this version, one controller at a time, while controllers of the version before go on writing.
 *
 * Invariants:
 *  1. A migration is only ever an addition to what the build before knows (columns with defaults, tables, indexes): its writes
 *     go on unchanged. What it no longer needs is removed one release later. `online-migration.test.ts` holds the newest to it.
 *  2. A migration that waits for its locks makes everybody behind it wait: it waits `LOCK_WAIT_MS` at most, gives way, and
 *     tries again.
 */
import { fileURLToPath } from "node:url";
import { setTimeout as delay } from "node:timers/promises";
import { drizzle } from "drizzle-orm/postgres-js";
import { migrate } from "drizzle-orm/postgres-js/migrator";
import postgres from "postgres";
import { storeError } from "./postgres-error.ts";
import { MIGRATION_LOCK } from "./lock-keys.ts";
import { makePartitions } from "./partitions.ts";

/** Of the partitions that are made with the store; the controller's retention goes on with its own. */
const FIRST_SPAN_MS = 24 * 3_600_000;
const FOLDER = fileURLToPath(new URL("../migrations", import.meta.url));
const LOCK_WAIT_MS = 2_000;
/** Between two tries, so that those who waited behind it get on. */
const GIVE_WAY_MS = 500;
const TRIES = 60;

/** Applies the committed migrations that the database lacks. Idempotent; others wait for the advisory lock. */
export async function migrateDatabase(url: string): Promise<void> {
  const client = postgres(url, { max: 1, onnotice: () => {}, connect_timeout: 10, connection: { lock_timeout: 0 } });
  try {
    await client`select pg_advisory_lock(${MIGRATION_LOCK[0]}, ${MIGRATION_LOCK[1]})`;
    await client.unsafe(`set lock_timeout = ${LOCK_WAIT_MS}`);
    await givingWay(() => migrate(drizzle(client), { migrationsFolder: FOLDER }));
    await givingWay(() =>
      drizzle(client).transaction(async (tx) => {
        for (const feed of ["changes", "events"] as const)
          await makePartitions(tx, feed, FIRST_SPAN_MS, 2 * FIRST_SPAN_MS);
      }),
    );
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

async function givingWay(body: () => Promise<void>): Promise<void> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await body();
    } catch (error) {
      if (!isLockTimeout(error) || attempt === TRIES) throw error;
      await delay(GIVE_WAY_MS);
    }
  }
}

/** Postgres' lock_not_available, wherever drizzle has put it. */
function isLockTimeout(error: unknown): boolean {
  for (let each = error; each instanceof Error; each = each.cause) {
    if ((each as { code?: string }).code === "55P03") return true;
  }
  return false;
}
