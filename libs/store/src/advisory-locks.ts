/**
 * Session-level advisory locks on one connection of their own.
 *
 * Invariant: what `held` says was true when the server was last heard. A lost connection loses every lock at once, and each
 * holder's signal fires; until the server notices the same, two may believe that they hold a lock. Who cannot bear that
 * checks an epoch in its transactions, as ingest does.
 */
import type { Logger } from "@berth/base";
import postgres, { type Sql } from "postgres";
import { storeError } from "./postgres-error.ts";
import type { LockKey } from "./lock-keys.ts";

export interface HeldLock extends AsyncDisposable {
  /** Fires when the lock is given back or its connection is lost. */
  readonly signal: AbortSignal;
}

export interface AdvisoryLocks extends AsyncDisposable {
  /** The lock, or undefined while somebody else has it (or this object itself). @throws UNAVAILABLE */
  tryAcquire(key: LockKey): Promise<HeldLock | undefined>;
  /** Takes part in a group (a shared lock) until closed, and says how many do. @throws UNAVAILABLE */
  members(key: LockKey): Promise<number>;
}

/** What Postgres is told of the connection, in front of the process' name. */
export const LOCKS_APPLICATION = "berth locks ";

/** A connection that has silently gone would keep its locks in our eyes; asking shows it. */
const HEARTBEAT_MS = 5_000;

/** Of postgres.js, which by default waits up to 20 s, in which nothing that a NOTIFY tells is heard. */
export function reconnectSeconds(retries: number): number {
  return Math.min(0.05 * 2 ** retries, 1) * (0.5 + Math.random() / 2);
}

/** @param name of this process, as `berth status` shows who takes part in the work */
export function openAdvisoryLocks(url: string, logger: Logger, name = "", heartbeatMs = HEARTBEAT_MS): AdvisoryLocks {
  const held = new Map<string, AbortController>();
  const joined = new Set<string>();
  const loseAll = (): void => {
    joined.clear();
    if (held.size > 0) logger.warn({ locks: [...held.keys()] }, "the connection that held advisory locks was lost");
    for (const controller of held.values()) controller.abort();
    held.clear();
  };
  const connect = (): Sql => {
    let own: Sql | undefined;
    own = postgres(url, {
      max: 1,
      max_lifetime: null,
      idle_timeout: 0,
      connect_timeout: 10,
      backoff: reconnectSeconds,
      // As in open.ts.
      fetch_types: false,
      onnotice: () => {},
      onclose: () => {
        if (own === client) loseAll();
      },
      connection: { application_name: `${LOCKS_APPLICATION}${name}`.trim() },
    });
    return own;
  };
  let client = connect();
  /** What asks on a connection that hangs waits for ever, and nobody takes the work up: another one, and all ask again. */
  const replaceHung = (hung: Sql): void => {
    if (hung !== client || closed) return;
    logger.warn({}, "the connection for advisory locks does not answer: another one is opened");
    client = connect();
    loseAll();
    hung.end({ timeout: 0 }).catch(() => {});
  };
  let closed = false;
  const heartbeat = setInterval(() => {
    const asked = client;
    const late = setTimeout(() => replaceHung(asked), heartbeatMs);
    asked`select 1`.then(
      () => clearTimeout(late),
      () => {
        clearTimeout(late);
        if (asked === client) loseAll();
      },
    );
  }, heartbeatMs);
  heartbeat.unref();

  return {
    async tryAcquire([what, which]) {
      const name = `${what}/${which}`;
      if (held.has(name)) return undefined;
      const controller = new AbortController();
      held.set(name, controller);
      try {
        const [row] = await client<{ ok: boolean }[]>`select pg_try_advisory_lock(${what}, ${which}) as ok`;
        if (row?.ok !== true || controller.signal.aborted) {
          if (held.get(name) === controller) held.delete(name);
          return undefined;
        }
      } catch (error) {
        if (held.get(name) === controller) held.delete(name);
        throw storeError(error);
      }
      return {
        signal: controller.signal,
        async [Symbol.asyncDispose]() {
          if (held.get(name) !== controller) return;
          held.delete(name);
          controller.abort();
          await client`select pg_advisory_unlock(${what}, ${which})`.catch(() => undefined);
        },
      };
    },
    async members([what, which]) {
      const name = `${what}/${which}`;
      try {
        if (!joined.has(name)) await client`select pg_advisory_lock_shared(${what}, ${which})`;
        joined.add(name);
        const [row] = await client<{ count: number }[]>`
          select count(distinct pid)::int as count from pg_locks
          where locktype = 'advisory' and granted and objsubid = 2 and classid::bigint = ${what}
            and objid::bigint = ${which}
            and database = (select oid from pg_database where datname = current_database())`;
        return Math.max(1, row?.count ?? 1);
      } catch (error) {
        throw storeError(error);
      }
    },
    async [Symbol.asyncDispose]() {
      closed = true;
      clearInterval(heartbeat);
      for (const controller of held.values()) controller.abort();
      held.clear();
      await client.end({ timeout: 1 });
    },
  };
}
