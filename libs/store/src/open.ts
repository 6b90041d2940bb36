/**
 * Opens the controller's Postgres: the only truth of a fleet (D1).
 *
 *     await using store = await openStore({ url, logger });
 *     await store.transaction(async (tx) => { … });
 *
 * A transaction is short: watches wait for the oldest open one (ADR 7), and the server ends one that idles.
 */
import { hasCode, retry, silentLogger, type Logger, StatusError } from "@berth/base";
import { drizzle } from "drizzle-orm/postgres-js";
import postgres from "postgres";
import { openAdvisoryLocks, reconnectSeconds, type AdvisoryLocks } from "./advisory-locks.ts";
import type { Tx } from "./database.ts";
import { migrateDatabase } from "./migrate.ts";
import { storeError } from "./postgres-error.ts";
import { preparing } from "./prepared.ts";

export interface StoreOptions {
  readonly url: string;
  readonly logger?: Logger;
  /** For statements; default 10. Advisory locks and LISTEN have one connection each besides. */
  readonly maxConnections?: number;
  /** Of this process, as `berth status` shows it. */
  readonly name?: string;
  /** Default true. */
  readonly migrate?: boolean;
}

export interface Store extends AsyncDisposable {
  /** For reads outside a transaction. */
  readonly db: Tx;
  readonly locks: AdvisoryLocks;
  /**
   * Runs the body in a transaction (READ COMMITTED), again when Postgres found a conflict (deadlock): the body must have no
   * other effects. @throws what the body throws; else UNAVAILABLE, ABORTED, …
   */
  transaction<T>(body: (tx: Tx) => Promise<T>): Promise<T>;
  /** The same with one snapshot for all its statements, for lists that give a cursor. Nothing may be written. */
  snapshot<T>(body: (tx: Tx) => Promise<T>): Promise<T>;
  /** Calls back for each NOTIFY; without a payload when the connection was (re)made: notifications may have been missed. */
  listen(channel: string, onNotify: (payload?: string) => void): Promise<AsyncDisposable>;
  /** @throws UNAVAILABLE */
  ping(): Promise<void>;
}

/** A transaction that nobody works in holds back every watch. */
const IDLE_IN_TRANSACTION_MS = 15_000;
const STATEMENT_MS = 30_000;
const CONFLICT_ATTEMPTS = 6;

const STANDBY = "Postgres is a standby and takes no writes: promote it, or point DATABASE_URL at the primary";

export async function openStore(options: StoreOptions): Promise<Store> {
  const { url, logger = silentLogger, maxConnections = 10 } = options;
  if (options.migrate ?? true) await migrateDatabase(url);
  const client = postgres(url, {
    max: maxConnections,
    onnotice: () => {},
    connect_timeout: 10,
    backoff: reconnectSeconds,
    // postgres.js asks for array types on each new connection, and when that one is lost meanwhile, the question is a
    // rejection that nobody handles and the query behind it never ends. drizzle reads arrays by itself.
    fetch_types: false,
    connection: {
      application_name: "berth",
      idle_in_transaction_session_timeout: IDLE_IN_TRANSACTION_MS,
      statement_timeout: STATEMENT_MS,
      // A plan that was made for an empty table would be kept while a fleet of tasks is put into it.
      plan_cache_mode: "force_custom_plan",
    },
  });
  const db = drizzle(preparing(client));
  const locks = openAdvisoryLocks(url, logger, options.name);

  const snapshots = drizzle(preparing(client, "isolation level repeatable read read only"));
  const inTransaction = <T>(on: typeof db, body: (tx: Tx) => Promise<T>): Promise<T> =>
    retry(
      async () => {
        try {
          return await on.transaction(body);
        } catch (error) {
          throw storeError(error);
        }
      },
      {
        maxAttempts: CONFLICT_ATTEMPTS,
        backoff: { initialMs: 5, maxMs: 200, factor: 2 },
        retryable: (error) => hasCode(error, "ABORTED") && error.reason === "STORE_CONFLICT",
      },
    );

  return {
    db,
    locks,
    transaction: (body) => inTransaction(db, body),
    snapshot: (body) => inTransaction(snapshots, body),
    async listen(channel, onNotify) {
      try {
        const subscription = await client.listen(
          channel,
          (payload) => onNotify(payload),
          () => onNotify(),
        );
        return {
          async [Symbol.asyncDispose]() {
            await subscription.unlisten().catch(() => undefined);
          },
        };
      } catch (error) {
        throw storeError(error);
      }
    },
    async ping() {
      try {
        const [row] = await client`select pg_is_in_recovery() as standby`;
        if (row!["standby"] === true) throw new StatusError("UNAVAILABLE", STANDBY, { reason: "STORE_READ_ONLY" });
      } catch (error) {
        throw storeError(error);
      }
    },
    async [Symbol.asyncDispose]() {
      await locks[Symbol.asyncDispose]();
      await client.end({ timeout: 5 });
    },
  };
}
