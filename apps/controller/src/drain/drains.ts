/**
 * Keeps the status of every drain true. One controller does it, by an advisory lock; another takes over when it is gone.
 *
 * It moves nothing itself: the reconciler does, workload by workload, in transactions that see the whole workload and so keep
 * its budget. When a deadline passes, the changed status of the node rings the reconciler.
 */
import { equals } from "@bufbuild/protobuf";
import { Lifetime, type Logger } from "@berth/base";
import { NodeDrainStatusSchema, type NodeDrainStatus } from "@berth/proto";
import {
  allNodes,
  DRAIN_LOCK,
  drainingNodes,
  drainStatusOf,
  insertEvents,
  lockNode,
  parseWake,
  setDrainStatus,
  WORK_CHANNEL,
  workloadsAndTasksOf,
  type NewEvent,
  type NodeRow,
  type Store,
  storeTime,
} from "@berth/store";
import { KeptLock } from "../loop/kept-lock.ts";
import { startLoop } from "../loop/loop.ts";
import { evictionConfig, fleetView, type EvictionConfig } from "../reconcile/fleet.ts";
import { drainReport } from "./report.ts";

export interface DrainDeps {
  readonly store: Store;
  readonly logger: Logger;
}

export interface DrainConfig extends Partial<EvictionConfig> {
  /** How often drains are looked at while there are any; otherwise when a node changes, and ten times as seldom. */
  readonly lookMs?: number;
}

export async function startDrains(
  { store, logger }: DrainDeps,
  config: DrainConfig,
  options: { readonly signal?: AbortSignal } = {},
): Promise<AsyncDisposable> {
  const { lookMs = 1_000 } = config;
  const eviction = evictionConfig(config);
  const lifetime = new Lifetime(options.signal);
  const lock = lifetime.own(new KeptLock(store, DRAIN_LOCK));
  const loop = lifetime.own(
    startLoop(
      { logger },
      {
        name: "drains",
        async round() {
          if ((await lock.held()) === undefined) return lookMs * 10;
          const draining = await drainingNodes(store.db);
          for (const { name } of draining) await lookAt(store, name, eviction);
          return draining.length > 0 ? lookMs : lookMs * 10;
        },
      },
      lifetime.signal,
    ),
  );
  lifetime.own(
    await store.listen(WORK_CHANNEL, (payload) => {
      const { what } = parseWake(payload);
      if (what === "node" || what === "all") loop.ring();
    }),
  );
  return lifetime;
}

/** Writes what has changed in the status of one node's drain. */
async function lookAt(store: Store, name: string, eviction: EvictionConfig): Promise<void> {
  await store.transaction(async (tx) => {
    const { workloads, tasks } = await workloadsAndTasksOf(tx, name);
    const now = await storeTime(tx);
    const { nodes } = fleetView(await allNodes(tx), eviction, now);
    const row = await lockNode(tx, name);
    if (row === undefined || row.drain === null) return;
    const before = drainStatusOf(row);
    const status = drainReport({ row, workloads, tasks, nodes, now });
    if (before !== undefined && equals(NodeDrainStatusSchema, before, status)) return;
    await setDrainStatus(tx, row, status);
    if (before?.phase !== status.phase) await insertEvents(tx, eventsOf(row, status));
  });
}

function eventsOf({ name, uid }: NodeRow, { phase, total, remaining, tasks }: NodeDrainStatus): NewEvent[] {
  const about = { topic: "/nodes/drain", kind: "Node", name, uid, node: name } as const;
  const first = tasks[0];
  const left = `${remaining} of ${total} tasks are left${first ? `; ${first.name}: ${first.message || first.state}` : ""}`;
  switch (phase) {
    case "Drained":
      return [{ ...about, reason: "Drained", message: `${total} tasks have left` }];
    case "GaveUp":
      return [{ ...about, severity: "Warning", reason: "DrainGaveUp", message: `its deadline has passed: ${left}` }];
    case "Forcing":
      return [{ ...about, severity: "Warning", reason: "DrainForced", message: `its deadline has passed: ${left}` }];
    default:
      return [];
  }
}
