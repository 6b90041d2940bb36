/**
 * `npm run soak -- chaos [--runs 300] [--seed n] [--nodes 2] [--controllers 1] [--drills] [--evidence DIR]`: a fleet under
 * seeded trouble, run after run on the same servers.
 *
 * Each run makes, changes, scales and deletes workloads while one or two things are hurt at a time (`test/chaos/seeded`), waits
 * until all is as desired, and checks everything that happened. With `--drills` a controller gives the first trouble each time, by
 * order of `berth drill`, whose report is to break nothing, either; seeds draw other troubles then. A seed is repeated by `--seed n --runs 1` and the same fleet.
 * Fleets are made anew every fifty runs, so that events stay few, and after a run that was wrong, whose programs' logs and tables
 * are kept in `--evidence`. Ends with a report, and with 1 when anything was wrong.
 */
import { join } from "node:path";
import { parseArgs } from "node:util";
import { keepEvidence } from "../chaos/seeded/evidence.ts";
import { openLab } from "../chaos/seeded/lab.ts";
import { printReport, printRun } from "../chaos/seeded/report.ts";
import { runSeed, type RunReport } from "../chaos/seeded/run.ts";

const { values } = parseArgs({
  options: {
    runs: { type: "string", default: "300" },
    seed: { type: "string", default: String(Date.now() % 100_000) },
    nodes: { type: "string", default: "2" },
    controllers: { type: "string", default: "1" },
    drills: { type: "boolean", default: false },
    evidence: { type: "string" },
  },
});
const [count, first] = [Number(values.runs), Number(values.seed)];
const [nodes, controllers] = [Number(values.nodes), Number(values.controllers)];
const RUNS_PER_FLEET = 50;

const runs: RunReport[] = [];
while (runs.length < count) {
  await using lab = await openLab({ nodes, controllers });
  for (let index = 0; index < RUNS_PER_FLEET && runs.length < count; index += 1) {
    const report = await runSeed(lab, first + runs.length, { drills: values.drills });
    runs.push(report);
    console.log(printRun(report));
    // What one run broke would be blamed on the next.
    if (report.wrong.length === 0) continue;
    if (values.evidence !== undefined) await keepEvidence(lab, join(values.evidence, `seed-${report.seed}`));
    break;
  }
}
console.log(printReport(runs));
if (runs.some(({ wrong }) => wrong.length > 0)) process.exitCode = 1;
