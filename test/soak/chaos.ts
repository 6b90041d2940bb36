/**
 * `npm run soak -- chaos [--runs 300] [--seed n] [--nodes 2]`: a fleet under seeded trouble, run after run on the same servers.
 *
 * Each run makes, changes, scales and deletes workloads while one or two things are hurt at a time (`test/chaos/seeded`), waits
 * until all is as desired, and checks everything that happened. A seed is repeated by `--seed n --runs 1`. Fleets are made anew
 * every fifty runs, so that events stay few. Ends with a report, and with 1 when anything was wrong.
 */
import { parseArgs } from "node:util";
import { openLab } from "../chaos/seeded/lab.ts";
import { printReport, printRun } from "../chaos/seeded/report.ts";
import { runSeed, type RunReport } from "../chaos/seeded/run.ts";

const { values } = parseArgs({
  options: {
    runs: { type: "string", default: "300" },
    seed: { type: "string", default: String(Date.now() % 100_000) },
    nodes: { type: "string", default: "2" },
  },
});
const [count, first, nodes] = [Number(values.runs), Number(values.seed), Number(values.nodes)];
const RUNS_PER_FLEET = 50;

const runs: RunReport[] = [];
while (runs.length < count) {
  await using lab = await openLab({ nodes });
  for (let index = 0; index < RUNS_PER_FLEET && runs.length < count; index += 1) {
    const report = await runSeed(lab, first + runs.length);
    runs.push(report);
    console.log(printRun(report));
    // What one run broke would be blamed on the next.
    if (report.wrong.length > 0) break;
  }
}
console.log(printReport(runs));
if (runs.some(({ wrong }) => wrong.length > 0)) process.exitCode = 1;
