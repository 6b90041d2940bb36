/**
 * The child of `crash.test.ts`: writes pairs of rows as fast as it can and says on its standard output which are
 * acknowledged, until it is killed. `node crash-child.ts FILE FIRST`
 */
import { writeSync } from "node:fs";
import { openMetadata } from "../index.ts";

export const crashMigrations = [
  {
    name: "crash-0001",
    sql: "CREATE TABLE a (n INTEGER PRIMARY KEY, filler BLOB) STRICT; CREATE TABLE b (n INTEGER PRIMARY KEY) STRICT;",
  },
];

const WRITERS = 16;

async function main(path: string, first: number): Promise<void> {
  const metadata = await openMetadata({ path, migrations: crashMigrations });
  let next = first;
  const writer = async (): Promise<never> => {
    for (;;) {
      const n = next++;
      const filler = new Uint8Array((n * 37) % 3_000);
      await metadata.transact([
        { sql: "INSERT INTO a (n, filler) VALUES (?, ?)", params: [n, filler] },
        { sql: "INSERT INTO b (n) VALUES (?)", params: [n] },
      ]);
      writeSync(1, `${n}\n`);
    }
  };
  await Promise.all(Array.from({ length: WRITERS }, writer));
}

if (import.meta.main) await main(process.argv[2]!, Number(process.argv[3]));
