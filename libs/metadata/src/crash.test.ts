import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { seededRandom } from "@berth/base";
import { openMetadata } from "./index.ts";
import { crashMigrations } from "./testing/crash-child.ts";

const CHILD = new URL("./testing/crash-child.ts", import.meta.url).pathname;
/** A sample; the soak takes more. */
const FACTOR = Number(process.env["BERTH_SOAK_FACTOR"] ?? 1);
const KILLS = 10 * FACTOR;

test(
  "transact keeps what it acknowledged, whole, when the process is killed",
  { timeout: 60_000 * FACTOR },
  async (t) => {
    const folder = await mkdtemp(join(tmpdir(), "berth-metadata-crash-"));
    t.after(() => rm(folder, { recursive: true, force: true }));
    const path = join(folder, "metadata.db");
    const random = seededRandom(20_260_101);
    const acknowledged: number[] = [];
    for (let kill = 0; kill < KILLS; kill += 1) {
      const after = 1 + Math.floor(random() * 400);
      acknowledged.push(...(await writeUntilKilled(path, firstOfLife(kill), after)));
      await using metadata = await openMetadata({ path, migrations: crashMigrations });
      const present = new Set(metadata.all("SELECT n FROM a").map((row) => Number(row["n"])));
      const missing = acknowledged.filter((n) => !present.has(n));
      assert.deepEqual(missing, [], `acknowledged and gone after kill ${kill}`);
      const torn = metadata.get("SELECT count(*) AS n FROM a FULL JOIN b USING (n) WHERE a.n IS NULL OR b.n IS NULL");
      assert.equal(torn?.["n"], 0, "a transaction was torn");
      assert.equal(metadata.get("PRAGMA integrity_check")?.["integrity_check"], "ok");
    }
    assert.ok(acknowledged.length > KILLS);
  },
);

/** Numbers of different lives never meet, whatever was written without being acknowledged. */
function firstOfLife(life: number): number {
  return 1 + life * 1_000_000;
}

async function writeUntilKilled(path: string, first: number, afterAcknowledged: number): Promise<number[]> {
  const child = spawn(process.execPath, [CHILD, path, String(first)], { stdio: ["ignore", "pipe", "inherit"] });
  const ended = once(child, "exit");
  const seen: number[] = [];
  for await (const line of createInterface({ input: child.stdout })) {
    seen.push(Number(line));
    if (seen.length === afterAcknowledged) child.kill("SIGKILL");
  }
  const [, signal] = (await ended) as [number | null, string | null];
  assert.equal(signal, "SIGKILL", "the child ended by itself");
  return seen;
}
