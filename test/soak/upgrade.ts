/**
 * `npm run soak -- upgrade [--commits HEAD~10,v0.1.0] [--nodes 2]`: this build with each of these earlier ones, in every pair of
 * controller and agents; by default the build that `test/support/two-builds/previous-build.ts` names.
 */
import { execFileSync } from "node:child_process";
import { parseArgs } from "node:util";
import { scratchDir } from "@berth/testkit";
import { PREVIOUS_COMMIT, whyNotThere } from "../support/two-builds/previous-build.ts";
import { rollOver } from "../support/two-builds/rolling.ts";

const { values } = parseArgs({
  options: {
    commits: { type: "string", default: PREVIOUS_COMMIT },
    nodes: { type: "string", default: "2" },
  },
});
for (const name of values.commits.split(",")) {
  const missing = whyNotThere(name);
  if (missing !== undefined) throw new Error(missing);
  const commit = execFileSync("git", ["rev-parse", `${name}^{commit}`], { encoding: "utf8" }).trim();
  using scratch = scratchDir("berth-builds");
  console.log(`this build with ${name} (${commit.slice(0, 12)})`);
  const log = (line: string): void => console.log(`  ${line}`);
  await rollOver({ commit, dir: scratch.dir, nodes: Number(values.nodes), thorough: true, log });
}
console.log("containers kept their processes, everything was led through by every pair");
