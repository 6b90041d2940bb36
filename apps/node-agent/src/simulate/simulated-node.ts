/**
 * One simulated agent: the real journal, engine, lifecycle and fleet door over a runtime and images that pretend.
 *
 * It differs from `agent.ts` in what is beneath the engine and in what it shares with the others of its process: the file of
 * rows, the connections, the runtime. It has no host door, no collection and no metrics of its own.
 */
import { join } from "node:path";
import { Emitter, Lifetime, noFailpoints, systemClock, uuidv7, type Logger } from "@berth/base";
import type { SimulationProfile } from "@berth/config";
import { openJournal, type Journal } from "@berth/journal";
import { bootId as machineBootId, boottimeMs } from "@berth/linux";
import type { Metadata } from "@berth/metadata";
import type { PullProgress } from "@berth/images";
import { normaliseImage } from "@berth/model";
import {
  openFleetDoor,
  type FleetDoor,
  type FleetDoorConfig,
  type SharedConnections,
} from "../doors/fleet/fleet-door.ts";
import { ContainerRunner } from "../engine/container-runner.ts";
import { containerOf, type EnginePaths } from "../engine/container.ts";
import { Engine } from "../engine/engine.ts";
import { describeKey } from "../engine/execution.ts";
import { ImageKeeper } from "../engine/image-keeper.ts";
import { agentEntry } from "../engine/journal-entries.ts";
import { HealthKeeper } from "../engine/health/keeper.ts";
import { LogReaders } from "../engine/logs.ts";
import { noObserver } from "../engine/operations.ts";
import { recoverEngine } from "../engine/recover.ts";
import { EngineRows } from "../engine/rows.ts";
import { TaskLifecycle } from "../engine/task-lifecycle.ts";
import type { Origin } from "../engine/intent.ts";
import { AssignmentState } from "../doors/fleet/assignment-state.ts";
import { LeaseGate } from "../stopper/lease-gate.ts";
import type { Stopper } from "../stopper/stopper.ts";
import { VERSION } from "../version.ts";
import type { Chance } from "./chance.ts";
import type { NodeIdentity } from "./identity.ts";
import { PretendImages, SNAPSHOTTER } from "./pretend-images.ts";
import type { PretendRuntime } from "./pretend-runtime.ts";
import { pretendSteps } from "./pretend-steps.ts";
import { PretendStopper } from "./pretend-stopper.ts";

export interface SimulationDeps {
  readonly metadata: Metadata;
  readonly runtime: PretendRuntime;
  readonly profile: SimulationProfile;
  readonly chance: Chance;
  readonly connections: SharedConnections;
  readonly endpoints: Omit<FleetDoorConfig, "node">;
  /** The same until the directory is another one: what is pretended to be a boot of the host. */
  readonly bootId: string;
  readonly paths: EnginePaths;
  /** Of files that the nodes' stoppers keep. */
  readonly stoppers: string;
  /** Of the ends of drills, by node. */
  readonly drills: string;
  readonly logger: Logger;
}

export interface SimulatedNode extends AsyncDisposable {
  readonly name: string;
  readonly door: FleetDoor;
  readonly engine: Engine;
}

/** Starts at a time, of tasks, as in a real agent. */
const MAX_STARTS = 8;
const MAX_CAMPAIGN_PULLS = 3;

export async function startSimulatedNode(deps: SimulationDeps, identity: NodeIdentity): Promise<SimulatedNode> {
  const lifetime = new Lifetime();
  const { metadata, logger, bootId } = deps;
  const { name } = identity;
  const journal = lifetime.own(
    await openJournal({ metadata, logger }, { node: name, identity: bootId, sharesFile: true }),
  );
  const progress = new Emitter<PullProgress>((error) => logger.error({ err: error }, "a listener of progress failed"));
  const images = new PretendImages(name, { ...deps, clock: systemClock });
  const applied = new AssignmentState(journal);
  const gate = new LeaseGate({ boottimeMs, applied: () => applied.applied() });
  const { engine, keeper, stopper } = await openEngine(deps, { name, journal, images, gate }, lifetime);
  const instance = uuidv7();
  await journal.append([agentEntry("started", journal.reason, `berthd ${VERSION}, simulated, instance ${instance}`)]);
  const disk = (): { totalBytes: number; availableBytes: number } => {
    const { diskBytes: totalBytes } = identity.capacity;
    return { totalBytes, availableBytes: Math.max(0, totalBytes - images.sizeBytes) };
  };
  const facts = {
    disk,
    bootId,
    machineId: "",
    instance,
    version: VERSION,
    handlers: [deps.runtime.name],
    snapshotters: [SNAPSHOTTER],
  };
  const door = lifetime.own(
    openFleetDoor(
      {
        engine,
        imageKeeper: keeper,
        journal,
        assignmentState: applied,
        registryRoutes: new PretendRoutes(),
        facts: {
          ...facts,
          config: { node: name, labels: identity.labels, capacity: identity.capacity },
          address: () => identity.address,
          clock: systemClock,
        },
        defaults: { handler: deps.runtime.name, snapshotter: SNAPSHOTTER, ...facts },
        clock: systemClock,
        logger,
        failpoint: noFailpoints,
        stopper,
        gate,
        drillFile: join(deps.drills, `${name}.json`),
        onCollect: () => {},
        onPullProgress: (listener) => progress.on(listener),
        shared: deps.connections,
      },
      { ...deps.endpoints, node: name },
    ),
  );
  return { name, door, engine, [Symbol.asyncDispose]: () => close(lifetime, journal, logger) };
}

async function openEngine(
  deps: SimulationDeps,
  { name, journal, images, gate }: { name: string; journal: Journal; images: PretendImages; gate: LeaseGate },
  lifetime: Lifetime,
): Promise<{ readonly engine: Engine; readonly keeper: ImageKeeper; readonly stopper: Stopper }> {
  const { runtime, paths, logger, bootId } = deps;
  const rows = new EngineRows(journal.metadata, journal.owner);
  const stop = (key: string, agoMs: number): void => {
    const execution = rows.open().find((each) => describeKey(each) === key);
    if (execution?.plan === undefined) return;
    try {
      runtime.stopAt(containerOf(execution, execution.plan, paths), systemClock.nowMs() - agoMs);
    } catch (error) {
      // It may have ended by itself, or not have been begun: then the gate does not let it begin.
      logger.debug({ err: error, task: execution.name }, "nothing to stop");
    }
  };
  const stopperDeps = { boottimeMs, bootId: machineBootId(), stop };
  const stopper = lifetime.own(new PretendStopper(stopperDeps, join(deps.stoppers, name)));
  const common = {
    journal,
    rows,
    runtime: () => runtime,
    paths,
    clock: systemClock,
    logger,
    observer: noObserver,
    bootId,
    logReaders: new LogReaders(),
    fence: { stopper, gate },
  };
  const steps = pretendSteps({ ...deps, images, clock: systemClock, stopper, gate });
  const runner = new ContainerRunner({ steps, observer: noObserver });
  // What only pretends to run is always well.
  const health = new HealthKeeper({ ...common, ask: () => Promise.resolve({ success: true }) });
  const lifecycle = new TaskLifecycle({ ...common, runner, health, maxStarts: MAX_STARTS, onNamespaceEmpty: () => {} });
  for (const { namespace, plan, state } of rows.open()) {
    if (plan !== undefined && state === "running") images.keep(namespace, plan.image);
  }
  for (const execution of rows.open()) {
    if (execution.plan?.fence === true && execution.state === "running") stopper.takeUp(describeKey(execution));
  }
  const sweep = { run: async () => 0 };
  await recoverEngine({ journal, rows, lifecycle, sweep, paths, logger });
  const engine = new Engine({ ...common, lifecycle });
  const isUsed = (namespace: string, image: string): boolean =>
    engine
      .executions()
      .some((each) => each.namespace === namespace && each.plan && normaliseImage(each.plan.image) === image);
  const keeper = new ImageKeeper({
    journal,
    images,
    clock: systemClock,
    logger,
    onPullProgress: () => {},
    isUsed,
    onRemoved: () => {},
    maxPulls: MAX_CAMPAIGN_PULLS,
  });
  for (const row of keeper.assignments()) if (row.state === "present") images.keep(row.namespace, row.image);
  lifetime.own(keeper);
  keeper.recover();
  lifetime.own(lifecycle);
  return { engine, keeper, stopper };
}

/** Registry mirrors are taken, and nobody is asked by them. */
class PretendRoutes {
  #applied: Origin = { storeEpoch: "", revision: 0 };

  isBehind({ storeEpoch, revision }: Origin): boolean {
    if (storeEpoch === this.#applied.storeEpoch) return revision > this.#applied.revision;
    return revision > 0;
  }

  async take({ storeEpoch, revision }: Origin): Promise<"taken"> {
    this.#applied = { storeEpoch, revision };
    return "taken";
  }
}

async function close(lifetime: Lifetime, journal: Journal, logger: Logger): Promise<void> {
  await journal.append([agentEntry("stopped", "Terminated", "containers go on")]).catch((error: unknown) => {
    logger.debug({ err: error }, "the end was not journaled");
  });
  await lifetime[Symbol.asyncDispose]();
}
