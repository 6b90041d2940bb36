import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { seededRandom } from "@berth/base";
import { Ledger, recoverAndCheck, runUntil } from "./testing/crashes.ts";
import { noPowerCut, PowerCutDisk } from "./testing/power-cut.ts";

/** A sample; the soak takes more. */
const FACTOR = Number(process.env["BERTH_SOAK_FACTOR"] ?? 1);
const KILLS = 10 * FACTOR;
const POWER_CUTS = 5 * FACTOR;

test(
  "recover finds everything committed whole, and nothing else, after a kill",
  { timeout: 60_000 * FACTOR },
  async (t) => {
    const folder = await mkdtemp(join(tmpdir(), "berth-content-crash-"));
    t.after(() => rm(folder, { recursive: true, force: true }));
    const random = seededRandom(4_711);
    const ledger = new Ledger();
    for (let kill = 1; kill <= KILLS; kill += 1) {
      const lines = 1 + Math.floor(random() * 200);
      await runUntil(folder, kill, lines, ledger, async (child) => void child.kill("SIGKILL"));
      ledger.settle(await recoverAndCheck(folder), `kill ${kill}`);
    }
    assert.ok(ledger.kept.size > KILLS);
  },
);

test(
  "recover finds everything committed whole after a power cut",
  { timeout: 60_000 * FACTOR, skip: noPowerCut },
  async () => {
    await using disk = await PowerCutDisk.make();
    const random = seededRandom(1_313);
    const ledger = new Ledger();
    for (let cut = 1; cut <= POWER_CUTS; cut += 1) {
      const lines = 1 + Math.floor(random() * 200);
      await runUntil(disk.mountPoint, cut, lines, ledger, (child) => disk.cut(child.pid!));
      ledger.settle(await recoverAndCheck(disk.mountPoint), `power cut ${cut}`);
    }
    assert.ok(ledger.kept.size > POWER_CUTS);
  },
);
