/**
 * `npm run soak -- crashes [--factor 20]`: the kill, power-cut and delivery tests of the libraries, of which `npm test` runs a
 * sample, that many times over: with 20, 200 kills each of metadata and content, 100 power cuts, 80 kills of snapshotters,
 * 60 of collections, 240 seeds of journal delivery.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { resolve } from "node:path";
import { parseArgs } from "node:util";

const ROOT = resolve(import.meta.dirname, "../..");
const TESTS = [
  "libs/metadata/src/crash.test.ts",
  "libs/content/src/crash.test.ts",
  "libs/images/src/gc/crash.test.ts",
  "libs/snapshots/src/crash.test.ts",
  "libs/journal/src/delivery.test.ts",
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
