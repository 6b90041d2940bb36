/**
 * The composition root of the agent: opens the host, builds the engine on it, recovers, then opens the doors.
 *
 * Invariants:
 *  1. One agent per data root.
 *  2. No door opens before recovery has looked at everything: a job that comes early finds the truth.
 *  3. Ending it leaves containers running (A1).
 */
import { join } from "node:path";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { Emitter, Lifetime, StatusError, systemClock, uuidv7, type Failpoint, type Logger } from "@berth/base";
import { hostSocketOf, parseHostPort, type AgentConfig } from "@berth/config";
import type { Images, PullProgress } from "@berth/images";
import type { Journal } from "@berth/journal";
import { bootId, boottimeMs, detectCgroupLayout, diskInfo } from "@berth/linux";
import { Metrics } from "@berth/telemetry";
import { lockDataRoot } from "./data-root-lock.ts";
import { AssignmentState } from "./doors/fleet/assignment-state.ts";
import { hostAddress } from "./doors/fleet/address.ts";
import { openHostDoor, type HostDoorDeps } from "./doors/host/host-door.ts";
import { openFleetDoor, type FleetDoor } from "./doors/fleet/fleet-door.ts";
import { OwnProcess } from "./drill/own-process.ts";
import type { Engine } from "./engine/engine.ts";
import { agentEntry } from "./engine/journal-entries.ts";
import { observedImages } from "./engine/observed-images.ts";
import { openEngine, type OpenedEngine } from "./engine/open.ts";
import { imageReferences } from "./engine/references.ts";
import { cgroupParentOf, machineIdOf, openHost, type Host } from "./host.ts";
import { startHttpServer } from "./http-server.ts";
import { startIdleTrim } from "./idle-trim.ts";
import { registerMetrics } from "./metrics.ts";
import { localTasks, standingFields, type LocalTask } from "./local-tasks.ts";
import { FileStopper } from "./stopper/file-stopper.ts";
import { LeaseGate } from "./stopper/lease-gate.ts";
import type { Stopper } from "./stopper/stopper.ts";
import { confirmUpgrade } from "./upgrade/confirm.ts";
import { OrderedUpgrade } from "./upgrade/ordered-upgrade.ts";
import { VersionsFolder } from "./upgrade/versions-folder.ts";
import { VERSION } from "./version.ts";

export interface AgentDeps {
  readonly logger: Logger;
  readonly failpoint: Failpoint;
  /** PATH, for finding runtimes. */
  readonly path: string;
  /** The root of the release that runs; a clone has none. */
  readonly release?: string | undefined;
  /** Ends the process as SIGTERM does, for its service manager to start it anew. */
  readonly restart?: () => void;
}

export interface Agent extends AsyncDisposable {
  readonly engine: Engine;
  /** Tells who listens that something of the engine's has changed. */
  readonly journal: Journal;
  readonly httpPort: number;
}

/** @throws FAILED_PRECONDITION `DATA_ROOT_IN_USE`, `SNAPSHOTTER_UNUSABLE`, `RUNTIME_UNUSABLE`; what opening a store throws. */
export async function startAgent(deps: AgentDeps, config: AgentConfig): Promise<Agent> {
  const lifetime = new Lifetime();
  try {
    return await assemble(deps, config, lifetime);
  } catch (error) {
    await lifetime[Symbol.asyncDispose]().catch((failure: unknown) => {
      deps.logger.warn({ err: failure }, "closing what was opened failed");
    });
    throw error;
  }
}

/** What is there already; the rest is still being opened. */
interface Parts {
  engine?: Engine;
  door?: FleetDoor;
  stopper?: Stopper;
  images?: Images;
  snapshots?: Host["snapshots"];
}

async function assemble(deps: AgentDeps, config: AgentConfig, lifetime: Lifetime): Promise<Agent> {
  const { logger, failpoint } = deps;
  lifetime.own(await lockDataRoot(join(config.root, "agent.lock")));
  const parts: Parts = {};
  const tasks = (): readonly LocalTask[] =>
    localTasks(parts.engine?.executions() ?? [], parts.door?.status().standing, parts.stopper?.problem());
  const metrics = new Metrics();
  const observer = registerMetrics({
    metrics,
    engine: () => parts.engine,
    door: () => parts.door,
    tasks,
    gc: () => parts.images?.gc,
    snapshots: () => parts.snapshots ?? [],
    version: VERSION,
    logger,
  });
  const references = async (): ReturnType<typeof imageReferences> => imageReferences(opened.metadata);
  const opened = await openHost(config, lifetime, { logger, path: deps.path, references });
  parts.images = opened.images;
  parts.snapshots = opened.snapshots;
  const host: Host = { ...opened, images: observedImages(opened.images, observer) };
  const applied = new AssignmentState(host.journal);
  const gate = new LeaseGate({ boottimeMs, applied: () => applied.applied() });
  const stopper = await openStopper(config, logger);
  parts.stopper = stopper;
  const progress = new Emitter<PullProgress>((error) => logger.error({ err: error }, "a listener of progress failed"));
  const engine = await openEngine({ config, host, observer, progress, logger, failpoint, stopper, gate }, lifetime);
  parts.engine = engine.engine;
  const upgrade = lifetime.own(orderedUpgrade(deps, host));
  parts.door = lifetime.own(
    await openDoor(deps, config, host, engine, { progress, stopper, gate, assignmentState: applied, upgrade }),
  );
  lifetime.own(
    await openHostDoor(hostDoorDeps(config, host, { parts, tasks }, logger), { socketPath: hostSocketOf(config) }),
  );
  const health = (): Readonly<Record<string, unknown>> => ({
    status: "ok",
    node: config.node,
    ...healthOf(parts.door),
  });
  const http = lifetime.own(await startHttpServer({ metrics, logger, health }, parseHostPort(config.metricsListen)));
  startConfirming(deps, host, parts, lifetime);
  lifetime.own(startIdleTrim({ activity: () => observer.count }));
  logger.info({ node: config.node, version: VERSION, root: config.root, httpPort: http.port }, "agent is up");
  return {
    engine: engine.engine,
    journal: host.journal,
    httpPort: http.port,
    [Symbol.asyncDispose]: () => close(lifetime, host, logger),
  };
}

/** A release comes by the node's own way to registries, of no tenant. */
function orderedUpgrade(
  { logger, release, restart = () => {} }: AgentDeps,
  { registry, runtimes }: Host,
): OrderedUpgrade {
  return new OrderedUpgrade({
    folder: VersionsFolder.of(release),
    version: VERSION,
    handlers: [...runtimes.keys()],
    registry: registry(""),
    restart,
    logger,
  });
}

/** Where versions lie beside each other: is this one new, and does it prove itself? */
function startConfirming(
  { logger, release }: AgentDeps,
  { journal, runtimes }: Host,
  parts: { readonly door?: FleetDoor },
  lifetime: Lifetime,
): void {
  const folder = VersionsFolder.of(release);
  if (folder === undefined) return;
  const leaseHeld = (): boolean => parts.door?.status().leaseHeld ?? false;
  const deps = {
    folder,
    version: VERSION,
    handlers: [...runtimes.keys()],
    journal,
    leaseHeld,
    clock: systemClock,
    logger,
  };
  lifetime.loop(
    (signal) => confirmUpgrade(deps, signal),
    (error) => logger.error({ err: error }, "the upgrade could not be confirmed"),
  );
}

function hostDoorDeps(
  config: AgentConfig,
  host: Host,
  { parts, tasks }: { readonly parts: Parts; readonly tasks: HostDoorDeps["tasks"] },
  logger: Logger,
): HostDoorDeps {
  const startedAt = timestampFromMs(systemClock.nowMs());
  const status = async (): ReturnType<HostDoorDeps["status"]> => {
    const disk = diskInfo(config.root);
    const { blobs, sizeBytes } = await host.content.totals();
    return {
      node: config.node,
      version: VERSION,
      startedAt,
      root: config.root,
      state: config.state,
      diskTotalBytes: BigInt(disk.totalBytes),
      diskAvailableBytes: BigInt(disk.availableBytes),
      blobs: BigInt(blobs),
      contentBytes: BigInt(sizeBytes),
      runtimeHandlers: [...host.runtimes.keys()],
      running: parts.engine?.running().length ?? 0,
      leaseHeld: parts.door?.status().leaseHeld ?? false,
      bus: parts.door?.status().bus ?? "",
      ...standingFields(parts.door?.status().standing, tasks()),
      stopperProblem: parts.stopper?.problem() ?? "",
      registryMirrors: [...host.registryRoutes.names()],
      mirrorsRevision: BigInt(host.registryRoutes.applied().revision),
    };
  };
  return { ...host, status, tasks, logger };
}

/** Of the lease only what is short: `/healthz` is for whoever watches the process. */
function healthOf(door: FleetDoor | undefined): Readonly<Record<string, unknown>> {
  if (door === undefined) return {};
  const { standing, ...rest } = door.status();
  const { cutOffSince, refused } = standing;
  return { ...rest, ...(cutOffSince && { cutOffSince }), ...(refused === "" ? {} : { refused }) };
}

function openStopper(config: AgentConfig, logger: Logger): Promise<Stopper> {
  return FileStopper.open(
    { clock: systemClock, boottimeMs, bootId: bootId(), cgroups: detectCgroupLayout(), logger },
    { directory: join(config.state, "stopper"), cgroup: `${cgroupParentOf(config)}/_stopper` },
  );
}

async function openDoor(
  { logger, failpoint }: AgentDeps,
  config: AgentConfig,
  host: Host,
  { engine, keeper, collector }: OpenedEngine,
  {
    progress,
    stopper,
    gate,
    assignmentState,
    upgrade,
  }: {
    progress: Emitter<PullProgress>;
    stopper: Stopper;
    gate: LeaseGate;
    assignmentState: AssignmentState;
    upgrade: OrderedUpgrade;
  },
): Promise<FleetDoor> {
  const handlers = [...host.runtimes.keys()];
  const snapshotters = host.snapshots.map(({ snapshotter }) => snapshotter.name);
  const instance = uuidv7();
  await host.journal.append([agentEntry("started", host.journal.reason, `berthd ${VERSION}, instance ${instance}`)]);
  return openFleetDoor(
    {
      engine,
      imageKeeper: keeper,
      journal: host.journal,
      assignmentState,
      registryRoutes: host.registryRoutes,
      facts: {
        config,
        disk: () => diskInfo(config.root),
        bootId: bootId(),
        machineId: machineIdOf(config.machineIdFile),
        instance,
        version: VERSION,
        handlers,
        snapshotters,
        address: () => hostAddress(config.cni.bridge),
        clock: systemClock,
      },
      defaults: { handler: handlers[0]!, handlers, snapshotter: snapshotters[0]!, snapshotters },
      clock: systemClock,
      logger,
      failpoint,
      stopper,
      gate,
      upgrade: (order) => upgrade.take(order),
      drillFile: join(config.root, "drill.json"),
      ownProcess: new OwnProcess({
        cgroups: detectCgroupLayout(),
        cgroup: `${cgroupParentOf(config)}/_drill`,
        directory: join(config.state, "drill"),
        supervised: config.supervised,
      }),
      onCollect: () => collector.want(),
      onPullProgress: (listener) => progress.on(listener),
    },
    config,
  );
}

async function close(lifetime: Lifetime, host: Host, logger: Logger): Promise<void> {
  await host.journal.append([agentEntry("stopped", "Terminated", "containers go on")]).catch((error: unknown) => {
    logger.debug({ err: StatusError.from(error) }, "the end was not journaled");
  });
  await lifetime[Symbol.asyncDispose]();
}
