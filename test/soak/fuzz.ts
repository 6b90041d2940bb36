/**
 * `npm run soak -- fuzz [--factor 20]`: the seeded fuzz of the tar reader and writer and of the manifest parser, and the random
 * chains of detached layers, of which `npm test` runs a sample, that many times over: with 20, 100,000 archives read, 10,000
 * written, 60,000 manifests and 2,000 chains; also the largest layers (300,000 files, 1 GB in one file).
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { resolve } from "node:path";
import { parseArgs } from "node:util";

const ROOT = resolve(import.meta.dirname, "../..");
const TESTS = [
  "libs/images/src/archive/fuzz.test.ts",
  "libs/images/src/archive/detached.test.ts",
  "libs/images/src/archive/large.test.ts",
  "libs/model/src/manifest-fuzz.test.ts",
];

const { values } = parseArgs({ options: { factor: { type: "string", default: "20" } } });
if (!/^[1-9][0-9]{0,3}$/.test(values.factor))
  throw new Error(`--factor ${values.factor} is not a whole number from 1 to 9999`);
const child = spawn(process.execPath, ["--test", "--test-concurrency=1", ...TESTS], {
  cwd: ROOT,
  stdio: "inherit",
  env: { ...process.env, BERTH_SOAK_FACTOR: values.factor },
});
const [code] = (await once(child, "exit")) as [number | null];
process.exitCode = code ?? 1;
