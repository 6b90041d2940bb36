/** What a pull committed survives; see testing/crash/rounds.ts for what that means. `npm run soak -- powercut` takes more. */
import { spawnSync } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { unmountUnder } from "@berth/linux";
import { livePowerCutDisk, withoutRoot } from "@berth/linux/testing";
import { openCrashBench, runRounds, type CrashBench, type Rounds } from "./testing/crash/rounds.ts";

const FACTOR = Number(process.env["BERTH_SOAK_FACTOR"] ?? 1);
const SEED = Number(process.env["BERTH_SOAK_SEED"] ?? 2_718);
const CUTS = { ext4: 2 * FACTOR, xfs: FACTOR } as const;
const KILLS = 2 * FACTOR;
const timeout = 120_000 * FACTOR;
const say: Pick<Rounds, "say"> = FACTOR > 1 ? { say: (text) => console.log(text) } : {};

let bench: CrashBench;
before(async () => {
  if (withoutRoot === false) bench = await openCrashBench();
});
after(async () => {
  await bench?.[Symbol.asyncDispose]();
});

for (const kind of ["ext4", "xfs"] as const) {
  const hasMkfs = spawnSync(`mkfs.${kind}`, ["-V"]).error === undefined;
  const skip = withoutRoot || (hasMkfs ? false : `needs mkfs.${kind}`);
  test(`pulled images survive power cuts of ${kind}, and the rest is resumed or gone`, { skip, timeout }, async () => {
    await using disk = livePowerCutDisk(kind, 400);
    await runRounds(bench, {
      ...say,
      root: disk.path,
      seed: SEED + (kind === "xfs" ? 1 : 0),
      count: CUTS[kind],
      reboots: true,
      async end(child, exited) {
        disk.shutDown();
        child.kill("SIGKILL");
        await exited;
        await disk.remount();
      },
    });
  });
}

test(
  "pulled images survive kills of the agent, and the rest is resumed or gone",
  { skip: withoutRoot, timeout },
  async () => {
    const root = await mkdtemp(join(tmpdir(), "berth-kill-"));
    try {
      await runRounds(bench, {
        ...say,
        root,
        seed: SEED + 2,
        count: KILLS,
        reboots: false,
        async end(child, exited) {
          child.kill("SIGKILL");
          await exited;
        },
      });
    } finally {
      unmountUnder(root, { detach: true });
      await rm(root, { recursive: true, force: true });
    }
  },
);
