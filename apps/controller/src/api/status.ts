/** StatusService: the fleet at a glance, from one snapshot of the store and a look at the servers behind this controller. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import {
  FleetStatusSchema,
  StatusService,
  type FleetStatus,
  type NodeCountsSchema,
  type TaskCountsSchema,
} from "@berth/proto";
import { implement, type Implementation } from "@berth/rpc";
import { storeTime, type NodeRow, type Store, type TaskGroup } from "@berth/store";
import type { Checks } from "../http/checks.ts";
import type { EvictionConfig } from "../reconcile/eviction.ts";
import type { HoldTerms } from "../restore/begin.ts";
import { findingsOf } from "../status/findings.ts";
import { readFleet, type FleetReadings } from "../status/readings.ts";

export interface StatusDeps {
  readonly store: Store;
  readonly checks: Checks;
  readonly version: string;
  /** As the reconciler has it. */
  readonly eviction: EvictionConfig;
  readonly holdTerms: HoldTerms;
}

export function statusService(deps: StatusDeps): Implementation {
  return implement(StatusService, { getFleetStatus: () => fleetStatus(deps) });
}

async function fleetStatus({ store, checks, version, eviction, holdTerms }: StatusDeps): Promise<FleetStatus> {
  const [results, readings] = await Promise.all([checks.run(), store.snapshot((tx) => readFleet(tx, holdTerms))]);
  const now = await storeTime(store.db);
  const findings = findingsOf({ ...readings, checks: results, eviction, now });
  return create(FleetStatusSchema, {
    verdict: findings.length === 0 ? "healthy" : "attention",
    at: timestampFromDate(now),
    findings,
    nodes: nodeCounts(readings.nodes),
    tasks: taskCounts(readings.tasks),
    workloads: readings.workloads,
    controllers: readings.controllers.map(({ since, ...rest }) => ({ ...rest, since: timestampFromDate(since) })),
    checks: [...results],
    freshness: freshness(readings),
    version,
    storeEpoch: readings.meta.storeEpoch,
  });
}

function nodeCounts(nodes: readonly NodeRow[]): MessageInitShape<typeof NodeCountsSchema> {
  const count = (which: (row: NodeRow) => boolean): number => nodes.filter(which).length;
  return {
    total: nodes.length,
    ready: count((row) => row.phase === "Ready"),
    notReady: count((row) => row.phase === "NotReady"),
    unknown: count((row) => row.phase === "Unknown"),
    cordoned: count((row) => row.cordoned && row.drain === null),
    draining: count((row) => row.drain !== null),
  };
}

function taskCounts(groups: readonly TaskGroup[]): MessageInitShape<typeof TaskCountsSchema> {
  const count = (which: (group: TaskGroup) => boolean): number =>
    groups.filter(which).reduce((sum, group) => sum + group.count, 0);
  const ended = ({ phase }: TaskGroup): boolean => ["Succeeded", "Failed", "Stopped"].includes(phase);
  const lost = (group: TaskGroup): boolean => group.certainty === "unreachable" && !ended(group);
  const fenced = (group: TaskGroup): boolean => group.certainty === "fenced" && !ended(group);
  const heard = (group: TaskGroup): boolean => !lost(group) && !fenced(group);
  const leaving = (group: TaskGroup): boolean => heard(group) && group.desired !== "Run";
  const open = (group: TaskGroup): boolean => heard(group) && group.desired === "Run";
  return {
    total: count(() => true),
    running: count((group) => open(group) && group.phase === "Running"),
    unreachable: count(lost),
    fenced: count(fenced),
    unplaced: count((group) => open(group) && !group.placed),
    starting: count((group) => open(group) && group.placed && group.phase !== "Running" && !ended(group)),
    restarting: count((group) => open(group) && ended(group) && group.waiting),
    failed: count((group) => open(group) && ["Failed", "Stopped"].includes(group.phase) && !group.waiting),
    succeeded: count((group) => open(group) && group.phase === "Succeeded" && !group.waiting),
    leaving: count(leaving),
  };
}

function freshness({
  backlog,
  lags,
}: FleetReadings): NonNullable<MessageInitShape<typeof FleetStatusSchema>["freshness"]> {
  const { newestStoredAt, outbox, oldestOutboxAt } = backlog;
  return {
    journalLag: BigInt(lags.reduce((sum, { lag }) => sum + lag, 0)),
    nodesBehind: lags.length,
    outbox,
    ...(newestStoredAt === undefined ? {} : { newestStoredAt: timestampFromDate(newestStoredAt) }),
    ...(oldestOutboxAt === undefined ? {} : { oldestOutboxAt: timestampFromDate(oldestOutboxAt) }),
  };
}
