/** The engine, put together on an opened host, recovered, and with its background work running. */
import { join } from "node:path";
import { StatusError, systemClock, type Emitter, type Failpoint, type Lifetime, type Logger } from "@berth/base";
import type { AgentConfig } from "@berth/config";
import type { PullProgress } from "@berth/images";
import { bootId, detectCgroupLayout, removeCgroup } from "@berth/linux";
import { normaliseImage } from "@berth/model";
import { readHostFacts, type HostFacts, type Runtime } from "@berth/runtime";
import type { NamespacedSnapshotter } from "@berth/snapshots";
import { cgroupParentOf, type Host } from "../host.ts";
import type { LeaseGate } from "../stopper/lease-gate.ts";
import type { Stopper } from "../stopper/stopper.ts";
import { startCollector, type Collector } from "./collector.ts";
import { namespaceCgroup, type EnginePaths } from "./container.ts";
import { ContainerRunner } from "./container-runner.ts";
import { Engine } from "./engine.ts";
import { ImageKeeper } from "./image-keeper.ts";
import { askProbe } from "./health/ask.ts";
import { HealthKeeper } from "./health/keeper.ts";
import { startLogRotation } from "./log-rotation.ts";
import { LogReaders } from "./logs.ts";
import type { OperationObserver } from "./operations.ts";
import { recoverEngine } from "./recover.ts";
import { EngineRows } from "./rows.ts";
import { startSteps } from "./steps/index.ts";
import { Sweep } from "./sweep.ts";
import { TaskLifecycle } from "./task-lifecycle.ts";

export interface EngineParts {
  readonly config: AgentConfig;
  readonly host: Host;
  readonly observer: OperationObserver;
  /** Where pulls tell of their progress. */
  readonly progress: Emitter<PullProgress>;
  readonly logger: Logger;
  readonly failpoint: Failpoint;
  readonly stopper: Stopper;
  readonly gate: LeaseGate;
}

export interface OpenedEngine {
  readonly engine: Engine;
  readonly keeper: ImageKeeper;
  readonly collector: Collector;
}

/** Starts at a time, of tasks. */
const MAX_STARTS = 8;
const MAX_CAMPAIGN_PULLS = 3;

/** Everything it starts belongs to the lifetime. */
export async function openEngine(parts: EngineParts, lifetime: Lifetime): Promise<OpenedEngine> {
  const { config, host, observer, logger, failpoint } = parts;
  const { journal, network, runtimes, snapshots } = host;
  const paths: EnginePaths = {
    bundles: join(config.state, "bundles"),
    logs: join(config.root, "logs"),
    cgroupParent: cgroupParentOf(config),
  };
  const rows = new EngineRows(journal.metadata, journal.owner);
  const common = {
    journal,
    rows,
    runtime: (handler: string) => runtimeOf(host, handler),
    paths,
    clock: systemClock,
    logger,
    observer,
    bootId: bootId(),
    fence: { stopper: parts.stopper, gate: parts.gate },
    logReaders: new LogReaders(),
  };
  const lifecycle = new TaskLifecycle({
    ...common,
    runner: makeRunner(parts),
    health: new HealthKeeper({
      ...common,
      ask: (container, check, timeoutMs, signal) =>
        askProbe({ network, runtime: runtimeOf(host, container.plan.handler), container }, check, timeoutMs, signal),
    }),
    maxStarts: MAX_STARTS,
    onNamespaceEmpty: removeNamespaceCgroup(paths),
  });
  const sweep = new Sweep({ runtimes: [...runtimes.values()], network, snapshots, paths, logger });
  await recoverEngine({ journal, rows, lifecycle, sweep, paths, logger });
  const engine = new Engine({ ...common, lifecycle, failpoint });
  const { keeper, collector } = openImageKeeping(parts, engine, lifetime);
  lifetime.own(lifecycle);
  lifetime.own(startLogRotation({ engine, logger }));
  return { engine, keeper, collector };
}

function makeRunner({ config, host, observer, progress, failpoint, stopper, gate }: EngineParts): ContainerRunner {
  let facts: Promise<HostFacts> | undefined;
  const steps = startSteps({
    images: host.images,
    snapshotter: (namespace, name) => snapshotterOf(host, namespace, name),
    runtime: (handler) => runtimeOf(host, handler),
    network: host.network,
    host: () => (facts ??= readHostFacts()),
    onPullProgress: (news) => progress.emit(news),
    defaultDiskBytes: config.defaultDiskBytes,
    stopper,
    gate,
    cgroups: detectCgroupLayout(),
  });
  return new ContainerRunner({ steps, observer, failpoint });
}

function openImageKeeping(
  { config, host, progress, logger }: EngineParts,
  engine: Engine,
  lifetime: Lifetime,
): { readonly keeper: ImageKeeper; readonly collector: Collector } {
  const { images, journal } = host;
  const collector = lifetime.own(startCollector({ gc: images.gc, logger }, config.gc));
  const isUsed = (namespace: string, image: string): boolean =>
    engine.executions().some((each) => {
      return each.namespace === namespace && each.plan !== undefined && normaliseImage(each.plan.image) === image;
    });
  const keeper = new ImageKeeper({
    journal,
    images,
    clock: systemClock,
    logger,
    onPullProgress: (news) => progress.emit(news),
    isUsed,
    onRemoved: () => collector.want(),
    maxPulls: MAX_CAMPAIGN_PULLS,
  });
  lifetime.own(keeper);
  keeper.recover();
  return { keeper, collector };
}

function removeNamespaceCgroup(paths: EnginePaths): (namespace: string) => void {
  const layout = detectCgroupLayout();
  return (namespace) => {
    // Tried once: a group that is in use again stays.
    removeCgroup(layout, namespaceCgroup(paths, namespace), { timeoutMs: 0 }).catch(() => {});
  };
}

function runtimeOf(host: Host, handler: string): Runtime {
  return host.runtimes.get(handler) ?? missing("runtime handler", handler);
}

function snapshotterOf(host: Host, namespace: string, name: string): NamespacedSnapshotter {
  const found = host.snapshots.find(({ snapshotter }) => snapshotter.name === name);
  return (found ?? missing("snapshotter", name)).namespace(namespace);
}

/** A record names what this host no longer has: its configuration has changed. */
function missing(kind: string, name: string): never {
  throw new StatusError("FAILED_PRECONDITION", `${kind} ${JSON.stringify(name)} is not usable on this node any more`, {
    reason: "HANDLER_UNKNOWN",
  });
}
