/**
 * A whole control plane with simulated agents on one machine: how long until all of an apply runs, what the API does meanwhile,
 * what each process spends per task, and what a fleet costs that does nothing.
 *
 * `npm run bench -- fleet` has 100, 1,000 and 5,000 agents; `npm run bench -- fleet --agents 1000 --tasks 10000` one size.
 * There is no peer: the columns on the right are the targets (DESIGN §8).
 */
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { StatusError } from "@berth/base";
import { startSimulatedFleet, type SimulatedFleet } from "../support/simulated-fleet.ts";
import { percentile, startApiProbe } from "./support/api-probe.ts";
import { runBench, type Bench } from "./support/bench.ts";
import { fleetTable, type FleetFigures, type Part } from "./support/fleet-report.ts";
import { startUsage } from "./support/process-cpu.ts";
import { rssOf } from "./support/process-memory.ts";
import { untilCount } from "./support/until.ts";

const NAMESPACE = "bench";
/** Of an uncounted apply before: every process has compiled its code when it counts. */
const WARMUP_TASKS = 500;
const TIMEOUT_MS = 300_000;
const PROBE_EVERY_MS = 25;
const POLL_MS = 50;

interface Plan {
  readonly agents: readonly number[];
  readonly tasks: number;
  readonly workloads: number;
  readonly idleSeconds: number;
  /** Of what serves the API: a controller of its own, or the one that does the work. */
  readonly api: "apart" | "within";
  /** Of the controllers' configuration: beyond so many a second leases are made longer. */
  readonly renewals: number;
}

const options = {
  agents: "N,N,…",
  tasks: "N",
  workloads: "N",
  "idle-seconds": "N",
  api: "apart|within",
  renewals: "N",
};

await runBench("fleet", { runs: 1, limitMinutes: 25, needsBytes: 3 * 2 ** 30, options }, async (bench) => {
  const plan = planOf(bench.options);
  if (bench.profileDir !== undefined) {
    process.env["NODE_OPTIONS"] = `--cpu-prof --cpu-prof-dir=${bench.profileDir} --cpu-prof-interval=500`;
  }
  const figures: FleetFigures[] = [];
  for (const agents of plan.agents) {
    bench.progress(`${agents} agents`);
    await using fleet = await startSimulatedFleet({
      count: agents,
      dir: join(bench.dir, `agents-${agents}`),
      apiApart: plan.api === "apart",
      controller: { lease: { maxRenewalsPerSecond: plan.renewals } },
      profile: { directory: join(bench.dir, `agents-${agents}`, "records"), pull: { warm: 1 } },
    });
    figures.push(await measure(bench, fleet, agents, plan));
  }
  bench.note(
    `${plan.tasks} tasks in ${plan.workloads} workloads, from the first ApplyWorkload until the workloads say that all run`,
  );
  bench.note("controller, servers, simulated agents and the client that asks the API share the processors");
  const served =
    plan.api === "apart"
      ? "a second controller that does nothing else (serveOnly), counted with the first"
      : "that controller";
  bench.note(`the API is served by ${served}; --api apart|within`);
  bench.note(`leases are renewed at most ${plan.renewals} times a second, all nodes together`);
  bench.note(
    `idle: ${plan.idleSeconds} s with every task running and nothing to do, after a vacuum and a checkpoint, which the burst ` +
      "before owes; % of one core",
  );
  return fleetTable(figures);
});

function planOf(given: Readonly<Record<string, string | undefined>>): Plan {
  const whole = (name: string, text: string): number => {
    const value = Number(text);
    if (Number.isInteger(value) && value >= 1) return value;
    throw new StatusError("INVALID_ARGUMENT", `--${name} ${text}: give whole numbers from 1 on`);
  };
  return {
    agents: (given["agents"] ?? "100,1000,5000").split(",").map((text) => whole("agents", text)),
    tasks: whole("tasks", given["tasks"] ?? "10000"),
    workloads: whole("workloads", given["workloads"] ?? "10"),
    idleSeconds: whole("idle-seconds", given["idle-seconds"] ?? "30"),
    api: apiOf(given["api"] ?? "apart"),
    renewals: whole("renewals", given["renewals"] ?? "200"),
  };
}

function apiOf(text: string): Plan["api"] {
  if (text === "apart" || text === "within") return text;
  throw new StatusError("INVALID_ARGUMENT", `--api ${text}: give apart or within`);
}

async function measure(bench: Bench, fleet: SimulatedFleet, agents: number, plan: Plan): Promise<FleetFigures> {
  const pids: Readonly<Record<Part | "api", number | undefined>> = {
    api: fleet.apiController?.pid,
    controller: fleet.controller.pid!,
    postgres: fleet.postgres.identity!.pid,
    redis: fleet.redis.identity!.pid,
    nats: fleet.nats.identity!.pid,
    simulator: fleet.simulator.pid!,
  };
  await fleet.namespaces.applyNamespace({ namespace: { metadata: { name: NAMESPACE } } });
  await untilCount("leases", agents, async () => (await fleet.simulator.status()).leasesHeld, TIMEOUT_MS);
  await apply(fleet, "warm-up", WARMUP_TASKS);
  await untilRunning(fleet, WARMUP_TASKS);
  await untilStored(fleet);

  const usage = measureParts(pids);
  const probe = startApiProbe(requestsOf(fleet), PROBE_EVERY_MS);
  const start = performance.now();
  await Promise.all(
    Array.from({ length: plan.workloads }, (_, index) => {
      const [first, last] = [index, index + 1].map((each) => Math.floor((plan.tasks * each) / plan.workloads));
      return apply(fleet, `app-${index}`, last! - first!);
    }),
  );
  const appliedMs = performance.now() - start;
  await untilRunning(fleet, WARMUP_TASKS + plan.tasks);
  const runningMs = performance.now() - start;
  const latencies = await probe.stop();
  bench.progress(`${plan.tasks} tasks after ${Math.round(runningMs)} ms`);
  await untilStored(fleet);
  const busy = usage();
  await untilQuiet(fleet);
  const rssMb = rssOf(pids.controller!);
  await fleet.sql`vacuum analyze`;
  await fleet.sql`checkpoint`;

  const idle = measureParts(pids);
  const idleStart = performance.now();
  await delay(plan.idleSeconds * 1_000);
  const idleMs = performance.now() - idleStart;
  const spent = idle();
  return {
    agents,
    tasks: plan.tasks,
    appliedMs,
    runningMs,
    apiP50Ms: percentile(latencies, 0.5),
    apiP99Ms: percentile(latencies, 0.99),
    controllerRssMb: rssMb,
    simulatorRssMb: rssOf(pids.simulator!),
    cpuMsPerTask: mapParts((part) => busy[part] / plan.tasks),
    idlePercent: mapParts((part) => (spent[part] / idleMs) * 100),
  };
}

/** What the controllers use is one figure. */
function measureParts(pids: Readonly<Record<Part | "api", number | undefined>>): () => Readonly<Record<Part, number>> {
  const known = Object.entries(pids).filter((each): each is [Part | "api", number] => each[1] !== undefined);
  const usage = startUsage(Object.fromEntries(known) as Record<Part | "api", number>);
  return () => {
    const used: Readonly<Record<Part, number> & { api?: number }> = usage();
    return { ...used, controller: used.controller + (used.api ?? 0) };
  };
}

function mapParts(value: (part: Part) => number): Record<Part, number> {
  const of = (part: Part): [Part, number] => [part, value(part)];
  return Object.fromEntries((["controller", "postgres", "redis", "nats", "simulator"] as const).map(of)) as Record<
    Part,
    number
  >;
}

async function apply(fleet: SimulatedFleet, name: string, replicas: number): Promise<void> {
  const container = {
    image: "registry.example/team/app:v1",
    args: ["serve", "--port=8080"],
    env: [
      { name: "GREETING", value: "hello" },
      { name: "INTERVAL_SECONDS", value: "5" },
    ],
    resources: { cpu: "10m", memory: "16Mi" },
  };
  await fleet.workloads.applyWorkload({
    workload: { metadata: { namespace: NAMESPACE, name }, spec: { replicas, container } },
  });
}

/** What people and scripts ask while they wait. */
function requestsOf(fleet: SimulatedFleet): (() => Promise<unknown>)[] {
  return [
    () => fleet.workloads.getWorkload({ namespace: NAMESPACE, name: "warm-up" }),
    () => fleet.tasks.listTasks({ namespace: NAMESPACE, pageSize: 50 }),
    () => fleet.workloads.listWorkloads({ namespace: NAMESPACE }),
    () => fleet.nodes.listNodes({ pageSize: 50 }),
  ];
}

async function untilRunning({ sql }: SimulatedFleet, wanted: number): Promise<void> {
  const ask = async (): Promise<number> => {
    await delay(POLL_MS);
    // What the workloads say: counting the tasks would cost Postgres more than running them.
    const [row] = await sql<{ running: number }[]>`
      select coalesce(sum((status ->> 'running')::int), 0)::int as running from workloads`;
    return row!.running;
  };
  await untilCount("running tasks", wanted, ask, TIMEOUT_MS);
}

/** Every entry of every journal is stored, and the agents know it. */
async function untilStored(fleet: SimulatedFleet): Promise<void> {
  const stored = async (): Promise<number> => {
    await delay(200);
    return (await fleet.simulator.status()).unstored === 0 ? 1 : 0;
  };
  await untilCount("stored journals", 1, stored, TIMEOUT_MS);
}

/** And every set is confirmed, which agents do at leisure. */
async function untilQuiet(fleet: SimulatedFleet): Promise<void> {
  const quiet = async (): Promise<number> => {
    await delay(200);
    const { unstored, setsBehind } = await fleet.simulator.status();
    return unstored === 0 && setsBehind === 0 ? 1 : 0;
  };
  await untilCount("quiet", 1, quiet, TIMEOUT_MS);
}
