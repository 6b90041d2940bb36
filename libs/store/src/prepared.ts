/**
 * Has drizzle's statements prepared by their text, each once a connection.
 *
 * A statement with parameters that is not prepared costs postgres.js two round trips (it asks for the parameters' types first), and
 * Postgres a parse each time; a prepared one costs one trip. It is still planned each time (`open.ts`). drizzle prepares
 * only queries that were given a name.
 *
 * Invariant: connections hold prepared statements until they end, so there is a bound: texts that come beyond it, and those with so
 * many parameters that another number of rows would be another text, are sent as before.
 */
import type { Sql, TransactionSql } from "postgres";

const MOST_TEXTS = 400;
const MOST_PARAMETERS = 24;

/** @param begin what its transactions are to be, said with `begin`: a statement of its own is a round trip of its own */
export function preparing(client: Sql, begin = ""): Sql {
  const texts = new Set<string>();
  const shouldPrepare = (text: string, parameters: readonly unknown[]): boolean => {
    if (parameters.length === 0 || parameters.length > MOST_PARAMETERS) return false;
    if (texts.size < MOST_TEXTS) texts.add(text);
    return texts.has(text);
  };
  const wrap = <Client extends Sql | TransactionSql>(wrapped: Client): Client => {
    const unsafe: Client["unsafe"] = (text, parameters = [], options) =>
      wrapped.unsafe(text, parameters, { ...options, prepare: shouldPrepare(text, parameters) });
    const nested =
      (name: "begin" | "savepoint") =>
      (...given: unknown[]): unknown => {
        const body = given.pop() as (inner: TransactionSql) => unknown;
        const run = Reflect.get(wrapped, name) as (...all: unknown[]) => unknown;
        const how = name === "begin" && begin !== "" && given.length === 0 ? [begin] : given;
        return run(...how, (inner: TransactionSql) => body(wrap(inner)));
      };
    return new Proxy(wrapped, {
      get(target, key) {
        if (key === "unsafe") return unsafe;
        if (key === "begin" || key === "savepoint") return nested(key);
        return Reflect.get(target, key) as unknown;
      },
    });
  };
  return wrap(client);
}
