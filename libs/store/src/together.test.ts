import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { sql } from "drizzle-orm";
import type { Tx } from "./database.ts";
import { insertEvents } from "./events.ts";
import { startTestPostgres, type TestPostgres } from "./testing/test-store.ts";
import { together } from "./together.ts";

let postgres: TestPostgres;
before(async () => {
  postgres = await startTestPostgres();
});
after(() => postgres[Symbol.asyncDispose]());

const ask = async (tx: Tx, number: number): Promise<number> => {
  const [row] = await tx.execute<{ number: number }>(sql`select ${number}::int as number`);
  return row!.number;
};

void test("together gives each piece's answer", async () => {
  await using store = await postgres.open();
  const answers = await store.transaction((tx) =>
    together(ask(tx, 1), ask(tx, 2), tx.execute(sql`select 3 as number`)),
  );
  assert.deepEqual([answers[0], answers[1], answers[2][0]], [1, 2, { number: 3 }]);
});

void test("together says what failed first, and lets no piece write behind the rollback", async () => {
  await using store = await postgres.open();
  let late: Promise<void> | undefined;
  const transaction = store.transaction((tx) => {
    const fails = (): Promise<never> => Promise.reject(new Error("it is not what it was"));
    const writesLater = async (): Promise<void> => {
      await ask(tx, 1);
      await insertEvents(tx, [{ topic: "/late", kind: "Node", name: "a" }]);
    };
    late = writesLater();
    return together(late, fails());
  });
  await assert.rejects(transaction, /it is not what it was/);
  await late?.catch(() => undefined);
  const [row] = await store.db.execute<{ count: number }>(
    sql`select count(*)::int as count from events where topic = '/late'`,
  );
  assert.equal(row!.count, 0);
});

void test("together says the cause of what follows from it", async () => {
  await using store = await postgres.open();
  const broken = (tx: Tx): Promise<unknown> => Promise.resolve(tx.execute(sql`select 1 / ${0}::int`));
  await assert.rejects(
    store.db.transaction((tx) => together(broken(tx), ask(tx, 2))),
    ({ cause }: Error) => /division by zero/.test((cause as Error).message),
  );
});
