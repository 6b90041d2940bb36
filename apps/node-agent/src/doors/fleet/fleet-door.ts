/**
 * The fleet door: what the controller and this node say to each other. A thin translation onto the engine: jobs and sets in,
 * the journal, leases, progress and streams out. The agent only dials; it works on while nobody answers.
 */
import { Lifetime, StatusError, type Clock, type Failpoint, type Logger } from "@berth/base";
import { agentInboxPrefix, agentUpgradeEndpoint, connectBus, serveStreams, type Bus } from "@berth/bus";
import type { AgentConfig } from "@berth/config";
import type { PullProgress } from "@berth/images";
import { startJobWorker, type JobConnections } from "@berth/jobs";
import { startPublisher, type Journal, type JournalPublisher } from "@berth/journal";
import { bootId, boottimeMs } from "@berth/linux";
import type { AgentUpgradeState, LeaseReply, UpgradeAgentRequest } from "@berth/proto";
import type { OwnProcess } from "../../drill/own-process.ts";
import type { Engine } from "../../engine/engine.ts";
import type { ImageKeeper } from "../../engine/image-keeper.ts";
import type { LeaseGate } from "../../stopper/lease-gate.ts";
import { standingOf, type Standing } from "../../stopper/standing.ts";
import type { Stopper } from "../../stopper/stopper.ts";
import type { RegistryRoutes } from "../../registry-routes.ts";
import type { AssignmentState } from "./assignment-state.ts";
import { AssignmentSync } from "./assignment-sync.ts";
import { Assignments } from "./assignments.ts";
import { DrillCut } from "./drill-cut.ts";
import { DrillOrders, serveDrills } from "./drill-orders.ts";
import { tellHoldings } from "./holdings.ts";
import { journalTransport, serveJournal } from "./journal.ts";
import { Lease } from "./lease.ts";
import { NodeStatus, type Description, type NodeFacts } from "./node-status.ts";
import type { NodeDefaults } from "./plan-of.ts";
import { startProgressReporter } from "./progress.ts";
import { MirrorSync } from "./mirror-sync.ts";
import { streamHandlers } from "./streams/handlers.ts";
import { serveUsage } from "./usage.ts";

export interface FleetDoorDeps {
  readonly engine: Engine;
  readonly imageKeeper: ImageKeeper;
  readonly journal: Journal;
  readonly assignmentState: AssignmentState;
  readonly registryRoutes: Pick<RegistryRoutes, "isBehind" | "take">;
  readonly facts: NodeFacts;
  readonly defaults: NodeDefaults;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly failpoint: Failpoint;
  readonly stopper: Stopper;
  readonly gate: LeaseGate;
  /** Takes the controller's order for another version, or says how far it is. Simulated agents have none. */
  readonly upgrade?: (request: UpgradeAgentRequest) => AgentUpgradeState;
  /** Keeps the end of a drill that cuts this node off. */
  readonly drillFile: string;
  /** For drills that pause or kill the agent. Simulated agents, which share theirs, have none. */
  readonly ownProcess?: OwnProcess;
  /** A job asks for a collection. */
  readonly onCollect: () => void;
  /** Where pulls report; the door listens. */
  readonly onPullProgress: (listener: (progress: PullProgress) => void) => Disposable;
  /** Connections that several agents of this process share; theirs to close. Without them the door opens its own. */
  readonly shared?: SharedConnections;
}

export interface SharedConnections {
  readonly bus: Bus;
  readonly streamBus: Bus;
  readonly jobs: JobConnections;
}

export interface FleetDoor extends AsyncDisposable {
  status(): {
    readonly bus: Bus["state"];
    readonly leaseHeld: boolean;
    readonly standing: Standing;
    readonly backlog: ReturnType<JournalPublisher["backlog"]>;
    /** The controller has an assignment set that this node has not confirmed; its jobs may all be here. */
    readonly setBehind: boolean;
  };
}

/** The steps of a start follow one another closely: in one message they cost everybody less. */
const GATHER_MS = 10;
/** More than a container takes to start, as a rule, on a host that starts many; nobody waits for the news that it is about to. */
const GATHER_INTERIM_MS = 500;

export type FleetDoorConfig = Pick<AgentConfig, "node" | "natsUrl" | "redisUrl">;

/** How often the end of a drill is looked at: a suspended host's timers stand still, its CLOCK_BOOTTIME does not. */
const DRILL_LOOK_MS = 1_000;

/** The door, closed while a drill cuts this node off: then nothing of it connects, and its containers go on. */
export function openFleetDoor(deps: FleetDoorDeps, config: FleetDoorConfig): FleetDoor {
  const lifetime = new Lifetime();
  const { clock, logger } = deps;
  const cut = new DrillCut({ file: deps.drillFile, boottimeMs, bootId: bootId() });
  let ordered = Promise.withResolvers<void>();
  const orders = new DrillOrders({ cut, ownProcess: deps.ownProcess, cutOff: () => ordered.resolve() });
  const open = (): FleetDoor => connectFleetDoor(deps, config, orders);
  let connected = cut.remainingMs() > 0 ? undefined : open();
  let shown: Pick<FleetDoor, "status"> = connected ?? { status: neverConnected(deps) };
  lifetime.defer(async () => await connected?.[Symbol.asyncDispose]());
  const round = async (signal: AbortSignal): Promise<void> => {
    if (connected !== undefined) await Promise.race([ordered.promise, lifetime.ended()]);
    if (signal.aborted) return;
    ordered = Promise.withResolvers<void>();
    logger.warn({ remainingMs: cut.remainingMs() }, "a drill cuts this node off");
    // A door that does not close well is given up all the same: what matters is that one is opened at the end.
    const closing = connected;
    connected = undefined;
    try {
      await closing?.[Symbol.asyncDispose]();
    } catch (error) {
      logger.error({ err: StatusError.from(error) }, "closing the fleet door failed");
    }
    for (let left = cut.remainingMs(); left > 0; left = cut.remainingMs()) {
      await clock.sleep(Math.min(left, DRILL_LOOK_MS), signal);
    }
    cut.end();
    logger.info({}, "the drill is over: this node connects again");
    connected = open();
    shown = connected;
  };
  lifetime.loop(
    async (signal) => {
      while (!signal.aborted) await round(signal).catch((error: unknown) => endUnlessAborted(error, signal));
    },
    (error) => logger.error({ err: StatusError.from(error) }, "the fleet door's loop ended"),
  );
  return { status: () => shown.status(), [Symbol.asyncDispose]: () => lifetime[Symbol.asyncDispose]() };
}

function endUnlessAborted(error: unknown, signal: AbortSignal): void {
  if (!signal.aborted) throw error;
}

/** Of an agent that was started amid a drill. */
function neverConnected({ journal, stopper, clock }: FleetDoorDeps): FleetDoor["status"] {
  const startedBoottimeMs = boottimeMs();
  return () => ({
    bus: "closed",
    leaseHeld: false,
    standing: standingOf({
      lease: { untilBoottimeMs: 0, heardBoottimeMs: 0, ttlMs: 0, fenceSlackMs: undefined, refused: "", held: false },
      startedBoottimeMs,
      stopperDeadlineBoottimeMs: stopper.deadline(),
      now: { boottimeMs: boottimeMs(), wallMs: clock.nowMs() },
    }),
    backlog: { unpublished: unstoredOf(journal), unstored: unstoredOf(journal) },
    setBehind: true,
  });
}

function unstoredOf(journal: Journal): number {
  return journal.epochs().reduce((sum, { headSeq, storedSeq }) => sum + headSeq - storedSeq, 0);
}

function connectFleetDoor(deps: FleetDoorDeps, config: FleetDoorConfig, orders: DrillOrders): FleetDoor {
  const lifetime = new Lifetime();
  const { journal, logger, clock, engine, assignmentState: state } = deps;
  const { node } = config;
  const onError = (error: unknown): void =>
    logger.error({ err: StatusError.from(error) }, "a loop of the fleet door ended");
  const connect = (name: string): Bus =>
    lifetime.own(connectBus({ url: config.natsUrl, name, inboxPrefix: agentInboxPrefix(node), logger }));
  const bus = deps.shared?.bus ?? connect(`agent ${node}`);
  // Streams have a connection of their own: what stalls there must not cost the node its lease.
  const streamBus = deps.shared?.streamBus ?? connect(`agent ${node} streams`);

  const assignments = new Assignments({
    engine,
    images: deps.imageKeeper,
    state,
    defaults: deps.defaults,
    logger,
    onSetWanted: () => sync.want(),
    onApplied: () => deps.gate.caughtUp(),
    onCollect: deps.onCollect,
  });
  const sync = new AssignmentSync({ bus, node, assignments, clock, logger });
  // What jobs brought to the agent before this one.
  const { storeEpoch: appliedEpoch } = state.applied();
  for (const execution of engine.executions()) if (execution.storeEpoch === appliedEpoch) sync.took(execution);

  const mirrors = new MirrorSync({ bus, node, routes: deps.registryRoutes, clock, logger });

  const source: { shard: number | undefined } = { shard: undefined };
  const publisher = lifetime.own(
    startPublisher(
      { journal, transport: journalTransport(bus, node, source, deps.failpoint), clock, logger },
      { gatherMs: GATHER_MS, gatherInterimMs: GATHER_INTERIM_MS },
    ),
  );
  const onReply = (reply: LeaseReply, untilBoottimeMs: number): void => {
    holdLease(deps, reply, untilBoottimeMs);
    source.shard = reply.shard;
    if (reply.journalEpoch !== "") {
      publisher.acknowledge(reply.journalEpoch, Number(reply.journalStoredSeq)).catch(onError);
    }
    for (const [epoch, storedSeq] of Object.entries(reply.journalStored)) {
      if (epoch !== reply.journalEpoch) publisher.acknowledge(epoch, Number(storedSeq)).catch(onError);
    }
    const { storeEpoch } = reply;
    if (deps.registryRoutes.isBehind({ storeEpoch, revision: Number(reply.mirrorsRevision) })) mirrors.want();
    tellHoldings({ bus, node, engine, journal, state, logger }, reply).catch(onError);
    sync.heard({ storeEpoch, revision: Number(reply.revision) }, state.applied(), Number(reply.renewAfterMs));
  };
  const status = new NodeStatus(deps.facts);
  const describe = (): Description => {
    const applied = state.applied();
    return status.describe({
      journalEpoch: journal.epoch,
      journalHeadSeq: journal.head(),
      journalFull: journal.isFull(),
      storeEpoch: applied.storeEpoch,
      appliedRevision: applied.revision,
      takenRevision: sync.brought(applied.storeEpoch),
      stopperProblem: deps.stopper.problem(),
    });
  };
  const startedBoottimeMs = boottimeMs();
  const lease = new Lease({ bus, node, describe, onReply, boottimeMs, clock, logger });

  lifetime.own(serveJournal(bus, node, journal));
  lifetime.own(serveUsage(bus, node, { engine, instance: deps.facts.instance, logger }));
  const { upgrade } = deps;
  if (upgrade !== undefined) lifetime.own(bus.serve(agentUpgradeEndpoint, { node }, async (order) => upgrade(order)));
  lifetime.own(serveDrills(bus, node, orders, logger));
  const progress = lifetime.own(startProgressReporter({ bus, node, logger }));
  lifetime.own(deps.onPullProgress((news) => progress.report(news)));
  lifetime.own(serveStreams(streamBus, node, streamHandlers(engine), { logger }));
  lifetime.own(
    startJobWorker({
      redisUrl: config.redisUrl,
      node,
      logger,
      ...(deps.shared === undefined ? {} : { connections: deps.shared.jobs }),
      async handle({ name, data }) {
        await assignments.takeJob(name, data);
        sync.took({ storeEpoch: data.storeEpoch, revision: Number(data.revision) });
      },
    }),
  );
  lifetime.loop((signal) => sync.run(signal), onError);
  lifetime.loop((signal) => mirrors.run(signal), onError);
  lifetime.loop((signal) => lease.run(signal), onError);

  return {
    status: () => ({
      bus: bus.state,
      leaseHeld: lease.isHeld(),
      standing: standingOf({
        lease: { ...lease.state, held: lease.isHeld() },
        startedBoottimeMs,
        stopperDeadlineBoottimeMs: deps.stopper.deadline(),
        now: { boottimeMs: boottimeMs(), wallMs: clock.nowMs() },
      }),
      backlog: publisher.backlog(),
      setBehind: sync.isBehind(state.applied()),
    }),
    [Symbol.asyncDispose]: () => lifetime[Symbol.asyncDispose](),
  };
}

/** Steps Renew and Arm: the stopper is armed first, then fenced tasks may start. */
function holdLease({ stopper, gate, logger }: FleetDoorDeps, reply: LeaseReply, untilBoottimeMs: number): void {
  try {
    stopper.arm(untilBoottimeMs);
  } catch (error) {
    // It keeps the deadline it has: what is fenced ends sooner, never later.
    logger.error({ err: error }, "the stopper could not be armed");
    return;
  }
  stopper.ensure().catch((error: unknown) => logger.error({ err: error }, "the stopper does not run"));
  // protocol: LeaseHeld
  gate.granted(untilBoottimeMs, { storeEpoch: reply.storeEpoch, revision: Number(reply.revision) }, reply.held);
}
