/**
 * `berthd --simulate N`: N agents in one process, for trying a policy on a thousand nodes before the real ones, and for
 * measuring controllers.
 *
 * Invariants:
 *  1. Everything that a controller can see is done by the code of the real agent: leases, jobs, sets, journals, refetch.
 *  2. What an agent has said is on record before: a killed simulator goes on where it was, its containers with it.
 *  3. Nodes share what no protocol counts: the file of their rows, two connections to NATS, a few to Redis.
 */
import { mkdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { Lifetime, StatusError, type Logger } from "@berth/base";
import { agentInboxPrefix, connectBus, type Bus } from "@berth/bus";
import { parseHostPort, type AgentConfig, type SimulationProfile } from "@berth/config";
import { shareJobConnections } from "@berth/jobs";
import { journalMigrations } from "@berth/journal";
import { openMetadata } from "@berth/metadata";
import { Metrics } from "@berth/telemetry";
import { lockDataRoot } from "../data-root-lock.ts";
import { engineMigrations } from "../engine/migrations.ts";
import { startHttpServer } from "../http-server.ts";
import { Chance } from "./chance.ts";
import { identityOf } from "./identity.ts";
import { PretendRuntime } from "./pretend-runtime.ts";
import { startSimulatedNode, type SimulatedNode, type SimulationDeps } from "./simulated-node.ts";

export type SimulatorConfig = Pick<AgentConfig, "natsUrl" | "redisUrl" | "metricsListen">;

export interface Simulator extends AsyncDisposable {
  readonly nodes: readonly SimulatedNode[];
  readonly httpPort: number;
  status(): SimulatorStatus;
}

export interface SimulatorStatus {
  readonly nodes: number;
  readonly leasesHeld: number;
  /** Entries of journals that NATS has not taken, and that the controller has not stored. */
  readonly unpublished: number;
  readonly unstored: number;
  /** Nodes whose assignment set is older than the controller's. */
  readonly setsBehind: number;
}

/** So many begin at once: a thousand leases in one instant would be a test of something else. */
const AT_ONCE = 50;

/** Of all nodes' transactions: on a tmpfs each commit is over before the next one comes, and none would be shared. */
const GATHER_MS = 4;

export async function startSimulator(
  deps: { readonly logger: Logger },
  config: SimulatorConfig,
  simulation: { readonly count: number; readonly profile: SimulationProfile },
): Promise<Simulator> {
  const lifetime = new Lifetime();
  try {
    return await assemble(deps.logger, config, simulation, lifetime);
  } catch (error) {
    await lifetime[Symbol.asyncDispose]().catch((failure: unknown) => {
      deps.logger.warn({ err: failure }, "closing what was opened failed");
    });
    throw error;
  }
}

async function assemble(
  logger: Logger,
  config: SimulatorConfig,
  { count, profile }: { readonly count: number; readonly profile: SimulationProfile },
  lifetime: Lifetime,
): Promise<Simulator> {
  const { directory, prefix } = profile;
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  lifetime.own(await lockDataRoot(join(directory, "simulator.lock")));
  const metadata = lifetime.own(
    await openMetadata({
      path: join(directory, "metadata.db"),
      migrations: [...engineMigrations, ...journalMigrations],
      gatherMs: GATHER_MS,
    }),
  );
  const chance = new Chance(profile.seed);
  const startedAtMs: ConstructorParameters<typeof PretendRuntime>[0]["startedAtMs"] = ({ namespace, id }) => {
    const row = metadata.get("SELECT started_at_ms FROM tasks WHERE namespace = ? AND id = ?", namespace, id);
    return row === undefined ? undefined : Number(row["started_at_ms"]);
  };
  const connect = (name: string): Bus =>
    lifetime.own(connectBus({ url: config.natsUrl, name, inboxPrefix: agentInboxPrefix(prefix), logger }));
  const shared: SimulationDeps = {
    metadata,
    runtime: lifetime.own(new PretendRuntime({ profile, chance, startedAtMs })),
    profile,
    chance,
    connections: {
      bus: connect(`simulator ${prefix}`),
      streamBus: connect(`simulator ${prefix} streams`),
      jobs: lifetime.own(shareJobConnections({ redisUrl: config.redisUrl, logger })),
    },
    endpoints: config,
    bootId: `simulated-${statSync(directory).ino}`,
    paths: { bundles: join(directory, "bundles"), logs: join(directory, "logs"), cgroupParent: "/simulated" },
    stoppers: join(directory, "stoppers"),
    drills: join(directory, "drills"),
    logger: quieter(logger),
  };
  const nodes: SimulatedNode[] = [];
  lifetime.defer(() => closeAll(nodes));
  const status = (): SimulatorStatus => statusOf(nodes);
  const http = lifetime.own(
    await startHttpServer(
      { metrics: metricsOf(status), logger, health: () => ({ status: "ok", ...status() }) },
      parseHostPort(config.metricsListen),
    ),
  );
  for (let first = 1; first <= count; first += AT_ONCE) {
    const numbers = Array.from({ length: Math.min(AT_ONCE, count - first + 1) }, (_, index) => first + index);
    nodes.push(
      ...(await Promise.all(numbers.map((number) => startSimulatedNode(shared, identityOf(number, profile, chance))))),
    );
  }
  logger.info(
    { count, first: nodes[0]?.name, last: nodes.at(-1)?.name, directory, httpPort: http.port },
    "simulated agents are up",
  );
  return { nodes, httpPort: http.port, status, [Symbol.asyncDispose]: () => lifetime[Symbol.asyncDispose]() };
}

/** Every node's "task started" is the journal's to tell; what goes wrong is told. */
function quieter(logger: Logger): Logger {
  return {
    debug: (fields, message) => logger.debug(fields, message),
    info: (fields, message) => logger.debug(fields, message),
    warn: (fields, message) => logger.warn(fields, message),
    error: (fields, message) => logger.error(fields, message),
    child: (fields) => quieter(logger.child(fields)),
  };
}

function statusOf(nodes: readonly SimulatedNode[]): SimulatorStatus {
  let [leasesHeld, unpublished, unstored, setsBehind] = [0, 0, 0, 0];
  for (const { door } of nodes) {
    const { leaseHeld, backlog, setBehind } = door.status();
    leasesHeld += leaseHeld ? 1 : 0;
    unpublished += backlog.unpublished;
    unstored += backlog.unstored;
    setsBehind += setBehind ? 1 : 0;
  }
  return { nodes: nodes.length, leasesHeld, unpublished, unstored, setsBehind };
}

function metricsOf(status: () => SimulatorStatus): Metrics {
  const metrics = new Metrics();
  const gauge = (name: string, help: string, read: (now: SimulatorStatus) => number): void => {
    metrics.gauge({ name, help, collect: (instrument) => instrument.set({}, read(status())) });
  };
  gauge("berth_simulated_nodes", "Agents that this process pretends to be", ({ nodes }) => nodes);
  gauge("berth_simulated_leases_held", "How many of them hold their lease", ({ leasesHeld }) => leasesHeld);
  gauge("berth_simulated_journal_unstored", "Entries that the controller has not stored", ({ unstored }) => unstored);
  return metrics;
}

async function closeAll(nodes: readonly SimulatedNode[]): Promise<void> {
  const closed = await Promise.allSettled(nodes.map((node) => node[Symbol.asyncDispose]()));
  const failed = closed.find((each) => each.status === "rejected");
  if (failed !== undefined) throw StatusError.from(failed.reason);
}
