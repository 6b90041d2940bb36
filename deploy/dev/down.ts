/** `npm run down`: ends what `npm run up` began and says whether anything is left. `-- --purge` removes `.berth/` too. */
import { existsSync, rmSync } from "node:fs";
import { parseArgs } from "node:util";
import { endProcess } from "@berth/testkit/servers";
import { layoutIn, ROOT } from "./fleet/layout.ts";
import { forget, remembered } from "./fleet/state.ts";
import { Steps } from "./fleet/steps.ts";
import { tearDown } from "./fleet/teardown.ts";
import type { Traces } from "./fleet/traces.ts";

const { values } = parseArgs({
  options: { dir: { type: "string", default: ROOT }, purge: { type: "boolean", default: false } },
});

/** One line per thing that is left. */
function describe(traces: Traces): string[] {
  return [
    ...traces.processes.map(({ identity, command }) => `process ${identity.pid}: ${command}`),
    ...traces.mounts.map((path) => `mount ${path}`),
    ...traces.cgroups.map((path) => `cgroup ${path}`),
    ...traces.links.map((name) => `network link ${name}`),
  ];
}

const layout = layoutIn(values.dir);
const steps = new Steps();
const up = remembered(layout, "up");
if (up !== undefined) await endProcess(up);
forget(layout, "up");
steps.title("Berth: stopping the fleet");
const left = describe(await tearDown(layout, steps));
if (left.length > 0) {
  steps.text("", "Still there, though it should not be:", ...left.map((line) => `  ${line}`));
  process.exitCode = 1;
} else if (values.purge) {
  rmSync(layout.dir, { recursive: true, force: true });
  steps.text("", "Nothing is left, .berth/ is removed.");
} else {
  const kept = existsSync(layout.dir)
    ? " .berth/ keeps the data: `npm run up` goes on from it, `npm run down -- --purge` removes it."
    : "";
  steps.text("", `No process, mount, network namespace, cgroup or link is left.${kept}`);
}
