/**
 * `npm run up`: a fleet of two nodes on this machine, from nothing to a running workload.
 *
 * Everything lives in `.berth/` and goes on after this program ends. What runs already is left alone, so a second run is
 * quick; `npm run down` ends it all. DATABASE_URL, REDIS_URL and NATS_URL name servers to use in place of private ones.
 */
import { parseArgs } from "node:util";
import { StatusError } from "@berth/base";
import { createHosts } from "@berth/testkit/hosts";
import { identify } from "@berth/testkit/servers";
import { FILES, pushDemoImages, runDemo, someTask, waitForNodes, writeContext } from "./fleet/demo.ts";
import { layoutIn, makeLayout, NODES, ROOT, type Layout } from "./fleet/layout.ts";
import { startAgent, startController } from "./fleet/programs.ts";
import { startServers, type External } from "./fleet/servers.ts";
import { forget, remember, remembered } from "./fleet/state.ts";
import { Steps } from "./fleet/steps.ts";

const { values } = parseArgs({
  options: {
    // Where `.berth/` goes; default: the repository.
    dir: { type: "string", default: ROOT },
    // Start the fleet and stop there.
    "no-demo": { type: "boolean", default: false },
  },
});

/** An empty variable counts as none. */
function external(env: NodeJS.ProcessEnv): External {
  const of = (name: string): string | undefined => env[name] || undefined;
  return { databaseUrl: of("DATABASE_URL"), redisUrl: of("REDIS_URL"), natsUrl: of("NATS_URL") };
}

async function up(layout: Layout, steps: Steps): Promise<void> {
  steps.title("Berth: a fleet of two nodes on this machine");
  const hosts = await steps.step(
    "hosts",
    () => createHosts({ dir: layout.hosts, names: NODES }),
    ({ nodes, subnet }) => `${nodes.map((node) => `${node.name} ${node.address}`).join(", ")} on ${subnet}`,
  );
  const servers = await startServers(layout, hosts, external(process.env), steps);
  const images = await steps.step(
    "images",
    () => pushDemoImages(servers.registry),
    () => `demo/hello and demo/files (${FILES.toLocaleString("en")} files), from busybox-static, are in the registry`,
  );
  const controller = await steps.step(
    "controller",
    () => startController(layout, servers),
    ({ endpoint, httpEndpoint, before }) => `gRPC ${endpoint}, HTTP ${httpEndpoint}${before ? ", was running" : ""}`,
  );
  writeContext(layout, controller);
  const sinceMs = Date.now();
  for (const host of hosts.nodes) {
    await steps.step(
      host.name,
      () => startAgent(layout, servers, hosts, host),
      (before) => `${host.address}, metrics at http://${host.address}:1338/metrics${before ? ", was running" : ""}`,
    );
  }
  await steps.step(
    "ready",
    () => waitForNodes(controller, sinceMs),
    () => "the controller calls both nodes Ready",
  );
  if (!values["no-demo"]) await runDemo(layout, controller, images, steps);
  const task = values["no-demo"] ? "TASK" : await someTask(controller);
  steps.text("", "The fleet goes on running. From this directory:", "");
  for (const [line, why] of nextSteps(task)) steps.text(`  ${steps.paint("cyan", line.padEnd(40))} ${why}`);
  steps.text("");
}

function nextSteps(task: string): [string, string][] {
  return [
    ["bin/berth get tasks -w", "watch the tasks"],
    ["bin/berth logs -f hello", "follow what they print"],
    ["bin/berth scale hello 5", "run more of them"],
    [`bin/berth exec -it ${task} -- sh`, "look inside one"],
    ["bin/berth events -f", "see what happens meanwhile"],
    ["bin/berth --help", "everything else"],
    ["npm run down", "stop it all (-- --purge forgets it too)"],
  ];
}

const layout = layoutIn(values.dir);
const steps = new Steps();
try {
  if (process.getuid?.() !== 0) {
    throw new StatusError(
      "PERMISSION_DENIED",
      "npm run up needs root: it makes network namespaces, mounts and cgroups",
    );
  }
  makeLayout(layout);
  const other = remembered(layout, "up");
  if (other !== undefined && other.pid !== process.pid) {
    throw new StatusError("FAILED_PRECONDITION", "another `npm run up` is at work in this directory: wait for it");
  }
  const self = identify(process.pid);
  if (self !== undefined) remember(layout, "up", self);
  await up(layout, steps);
} catch (error) {
  process.stderr.write(`\nup: ${error instanceof StatusError ? error.message : String((error as Error).stack)}\n`);
  process.stderr.write(`Logs are in ${layout.logs}. \`npm run down\` cleans up; \`npm run up\` goes on from here.\n`);
  process.exitCode = 1;
} finally {
  if (remembered(layout, "up")?.pid === process.pid) forget(layout, "up");
}
