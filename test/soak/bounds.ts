/**
 * `npm run soak -- bounds [--factor 50] [--seed n]`: random stories of specs, ends, restarts and preemptions, with placers and
 * reconcilers at once, so many times the four of `npm test`: no node is promised more than it has.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { resolve } from "node:path";
import { parseArgs } from "node:util";

const ROOT = resolve(import.meta.dirname, "../..");
const { values } = parseArgs({
  options: {
    factor: { type: "string", default: "50" },
    seed: { type: "string", default: String(Date.now() % 100_000) },
  },
});
if (!/^[1-9][0-9]{0,3}$/.test(values.factor))
  throw new Error(`--factor ${values.factor} is not a whole number from 1 to 9999`);
console.log(`seed ${values.seed}`);
const child = spawn(process.execPath, ["--test", "apps/controller/src/placement/bounds.test.ts"], {
  cwd: ROOT,
  stdio: "inherit",
  env: { ...process.env, BERTH_SOAK_FACTOR: values.factor, BERTH_SOAK_SEED: values.seed },
});
const [code] = (await once(child, "exit")) as [number | null];
process.exitCode = code ?? 1;
