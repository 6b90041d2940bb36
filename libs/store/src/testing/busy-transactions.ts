/** `node busy-transactions.ts URL`: eight transactions at a time, a line for each round of them, until stdin ends. */
import { sql } from "drizzle-orm";
import { openStore } from "../open.ts";

const store = await openStore({ url: process.argv[2]!, migrate: false, maxConnections: 8 });
let over = false;
process.stdin.once("end", () => (over = true)).resume();
while (!over) {
  const rounds = Array.from({ length: 8 }, () =>
    store.transaction(async (tx) => {
      for (let statement = 0; statement < 4; statement += 1) await tx.execute(sql`select pg_sleep(0.002)`);
    }),
  );
  const done = await Promise.allSettled(rounds);
  const good = done.filter(({ status }) => status === "fulfilled").length;
  process.stdout.write(`${good} ${done.length - good}\n`);
}
await store[Symbol.asyncDispose]();
process.exit(0);
