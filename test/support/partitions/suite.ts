/**
 * The partition suite: a fleet of three nodes and a controller, each a host of its own, under one partition after the other.
 *
 * It runs workloads of every kind, and after all is healed looks at what the containers themselves wrote down: a task of
 * `stopThenReplace` never ran twice at once, what is kept went on without a pause; and at what the controller said: no execution
 * that had ended changed, no journal has a gap, everything is as desired again.
 */
import { join } from "node:path";
import { seededRandom } from "@berth/base";
import { eventually, startFleet, type Fleet } from "@berth/testkit";
import { pushHello, tasksOf, workloadManifest, type TaskView } from "../fleet.ts";
import { journalsAreWhole } from "../journals.ts";
import { hurt, PARTITIONS } from "./faults.ts";
import { Ledger } from "./ledger.ts";
import { terminalStatesStay } from "./terminal.ts";

export interface SuiteOptions {
  readonly seed: number;
  /** Names of partitions, in order. */
  readonly partitions: readonly string[];
  readonly log: (line: string) => void;
}

/** One replica each, so that they are spread and any two instances of one are two too many. */
const SOLOS = ["solo-1", "solo-2", "solo-3"] as const;
const STEADY = { name: "steady", replicas: 3 } as const;
const WEB = { name: "web", replicas: 3 } as const;
/** The tests share two cores with others. */
const LONGEST_PAUSE_MS = 5_000;
const SETTLED_WITHIN_MS = 60_000;

export async function runPartitions({ seed, partitions, log }: SuiteOptions): Promise<void> {
  const random = seededRandom(seed);
  await using fleet = await startFleet({ nodes: 3, controllerHost: true });
  const ledger = new Ledger(join(fleet.dir, "ledger"));
  await applyAll(fleet, ledger);
  const steady = await tasksOf(fleet, STEADY.name);
  for (const name of partitions) {
    const started = performance.now();
    const seconds = await hurt(fleet, PARTITIONS[name]!, random);
    await eventually("everything as desired", () => isSettled(fleet), {
      timeoutMs: SETTLED_WITHIN_MS,
      intervalMs: 500,
    });
    for (const solo of SOLOS) ledger.neverTwice(solo);
    const ran = SOLOS.map((solo) => ledger.instances(solo).length).join(", ");
    const tookSeconds = ((performance.now() - started) / 1_000 - seconds).toFixed(1);
    log(
      `${name}: ${seconds.toFixed(1)} s, settled ${tookSeconds} s later; solos have run ${ran} times, never two at once`,
    );
  }
  const names = steady.map(({ metadata }) => metadata.name);
  ledger.wentOn(STEADY.name, names, LONGEST_PAUSE_MS);
  const ended = await terminalStatesStay(fleet);
  await journalsAreWhole(fleet);
  log(`${STEADY.name} went on; ${ended} executions ended and stayed as they ended; journals whole`);
}

async function applyAll(fleet: Fleet, ledger: Ledger): Promise<void> {
  const image = await pushHello(fleet);
  const manifest = (name: string, replicas: number, onNodeLoss: string): string =>
    workloadManifest({ name, image, replicas, onNodeLoss, args: ledger.args(name), mounts: [ledger.mount] });
  await fleet.berth(["ns", "create", "demo"]);
  const documents = [
    ...SOLOS.map((name) => manifest(name, 1, "stopThenReplace")),
    manifest(STEADY.name, STEADY.replicas, "keep"),
    manifest(WEB.name, WEB.replicas, "replace"),
  ];
  await fleet.berth(["apply", "-f", "-"], documents.join("\n---\n"));
  await eventually("everything runs", () => isSettled(fleet), { timeoutMs: SETTLED_WITHIN_MS, intervalMs: 300 });
}

/** Exactly what is wanted runs, and the agents have said so. While the API is away, it is not. */
async function isSettled(fleet: Fleet): Promise<boolean> {
  const wanted = [...SOLOS.map((name) => ({ name, replicas: 1 })), STEADY, WEB];
  for (const { name, replicas } of wanted) {
    const tasks = await tasksOf(fleet, name).catch((): TaskView[] => []);
    const good = ({ status }: TaskView): boolean => status.phase === "Running" && status.certainty === "observed";
    if (tasks.length !== replicas || !tasks.every(good)) return false;
  }
  return true;
}
