/** A process of its own is in transactions while its Postgres sessions are ended and the server is killed: it outlives that. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { scratchDir, startPostgres } from "@berth/testkit/servers";
import postgres from "postgres";
import { migrateDatabase } from "./migrate.ts";

const CHILD = fileURLToPath(new URL("testing/busy-transactions.ts", import.meta.url));

void test("openStore's transactions reject when their connection is lost, and the process goes on", async () => {
  using scratch = scratchDir("berth-lost");
  await using server = await startPostgres({ dir: scratch.dir });
  const url = await server.createDatabase("lost");
  await migrateDatabase(url);
  const child = spawn(process.execPath, [CHILD, url], { stdio: ["pipe", "pipe", "pipe"] });
  let complaints = "";
  child.stderr.on("data", (chunk: Buffer) => (complaints += chunk.toString()));
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  /** The child says a line for each round of transactions: how many went through, how many were rejected. */
  const rounds = async (count: number): Promise<{ good: number; lost: number }> => {
    const sum = { good: 0, lost: 0 };
    for (let round = 0; round < count; round += 1) {
      const line = await lines.next();
      assert.ok(line.done !== true, `the process has ended: ${complaints}`);
      const [good = 0, lost = 0] = line.value.split(" ").map(Number);
      sum.good += good;
      sum.lost += lost;
    }
    return sum;
  };
  await rounds(5);
  const admin = postgres(url, { max: 1, onnotice: () => {}, fetch_types: false });
  let lost = 0;
  for (let turn = 0; turn < 8; turn += 1) {
    await admin`select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'berth'`;
    lost += (await rounds(3)).lost;
  }
  await admin.end({ timeout: 1 });
  for (let turn = 0; turn < 2; turn += 1) {
    await server.kill();
    lost += (await rounds(1)).lost;
    await server.start();
    for (;;) if ((await rounds(1)).good > 0) break;
  }
  assert.ok(lost > 10, `${lost} transactions lost their connection`);
  const exited = once(child, "exit");
  child.stdin.end();
  assert.deepEqual(await exited, [0, null], complaints);
});
