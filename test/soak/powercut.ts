/**
 * `npm run soak -- powercut [--factor 100] [--seed n] [--only ext4|xfs|kills]`: pulls onto an ext4 and an xfs on loop devices
 * whose power is cut at seeded random moments, and onto a folder whose agent is killed. With 100: 200 cuts of ext4,
 * 100 of xfs and 200 kills. What is checked after each is in `libs/images/src/testing/crash/rounds.ts`; the seed is printed with what
 * went wrong, and the same seed plays the same moments again.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { resolve } from "node:path";
import { parseArgs } from "node:util";

const ROOT = resolve(import.meta.dirname, "../..");
const TEST = "libs/images/src/power-cut.test.ts";
const PATTERNS = { ext4: "cuts of ext4", xfs: "cuts of xfs", kills: "kills of the agent" } as const;

const { values } = parseArgs({
  options: {
    factor: { type: "string", default: "100" },
    seed: { type: "string", default: String(Date.now() % 100_000) },
    only: { type: "string" },
  },
});
for (const name of ["factor", "seed"] as const) {
  if (!/^[1-9][0-9]{0,8}$/.test(values[name]))
    throw new Error(`--${name} ${values[name]} is not a whole number from 1`);
}
const only = values.only;
if (only !== undefined && !Object.hasOwn(PATTERNS, only)) {
  throw new Error(`--only ${only} is none of ${Object.keys(PATTERNS).join(", ")}`);
}
const pattern = only === undefined ? [] : [`--test-name-pattern=${PATTERNS[only as keyof typeof PATTERNS]}`];
console.log(`powercut: seed ${values.seed}, factor ${values.factor}`);
const child = spawn(process.execPath, ["--test", ...pattern, TEST], {
  cwd: ROOT,
  stdio: "inherit",
  env: { ...process.env, BERTH_SOAK_FACTOR: values.factor, BERTH_SOAK_SEED: values.seed },
});
const [code] = (await once(child, "exit")) as [number | null];
process.exitCode = code ?? 1;
