/**
 * Gives tasks a node.
 *
 * One batch at a time in the whole fleet (a transaction lock), so that two controllers never promise the same room twice. A
 * placed task, the raised revision of its node (D5) and the job in the outbox are one transaction.
 */
import { Lifetime, type Failpoint, type Logger } from "@berth/base";
import { placeTasks, type PlacementTask } from "@berth/model";
import {
  announceTasks,
  insertEvents,
  PLACEMENT_LOCK,
  tryTransactionLock,
  unplacedTasks,
  updateTasks,
  WORK_CHANNEL,
  workloadPlacements,
  type Store,
  type TaskRow,
  type TaskUpdate,
  type Tx,
} from "@berth/store";
import { startLoop, type Round } from "../loop/loop.ts";
import type { PlacementMetrics } from "../metrics.ts";
import { readFleet } from "./fleet.ts";

export interface PlacementDeps {
  readonly store: Store;
  readonly logger: Logger;
  readonly metrics: PlacementMetrics;
  readonly failpoint: Failpoint;
}

export interface PlacementConfig {
  readonly batchSize?: number;
  /** How often tasks that fit nowhere are looked at again though nothing rang. */
  readonly resyncMs?: number;
}

export interface PlacementLoop extends AsyncDisposable {
  ring(): void;
}

interface Batch {
  readonly rows: readonly TaskRow[];
  readonly placed: number;
}

type After = { readonly createdAt: Date; readonly uid: string } | undefined;

/** A task that still fits nowhere has its reason told anew only so often: it changes with every task that is placed. */
const REASON_MS = 5_000;

export async function startPlacement(
  deps: PlacementDeps,
  config: PlacementConfig = {},
  options: { readonly signal?: AbortSignal } = {},
): Promise<PlacementLoop> {
  const { store, logger } = deps;
  const { batchSize = 500, resyncMs = 10_000 } = config;
  const lifetime = new Lifetime(options.signal);
  const placer = new Placer(deps, batchSize);
  const loop = startLoop(
    { logger },
    {
      name: "placement",
      round: async (ending): Promise<Round> => ((await placer.pass(ending)) ? resyncMs : 250),
    },
    lifetime.signal,
  );
  lifetime.own(loop);
  lifetime.own(await store.listen(WORK_CHANNEL, () => loop.ring()));
  return { ring: () => loop.ring(), [Symbol.asyncDispose]: () => lifetime[Symbol.asyncDispose]() };
}

export class Placer {
  readonly #deps: PlacementDeps;
  readonly #batchSize: number;
  /** When each unplaceable task's reason was last written, by the wall clock. */
  readonly #told = new Map<string, number>();

  constructor(deps: PlacementDeps, batchSize = 500) {
    this.#deps = deps;
    this.#batchSize = batchSize;
  }

  /** Looks at every unplaced task once, oldest first. False: another controller is at it. */
  async pass(signal?: AbortSignal): Promise<boolean> {
    const { store, metrics, failpoint } = this.#deps;
    let after: After;
    let unplaceable = 0;
    while (signal?.aborted !== true) {
      const started = performance.now();
      const from = after;
      const batch = await store.transaction((tx) => this.#placeBatch(tx, from));
      if (batch === undefined) return false;
      if (batch.placed > 0) {
        failpoint("placement.after-assign");
        metrics.placed(batch.placed, (performance.now() - started) / 1_000);
      }
      unplaceable += batch.rows.length - batch.placed;
      if (batch.rows.length < this.#batchSize) break;
      after = batch.rows.at(-1);
    }
    if (unplaceable === 0) this.#told.clear();
    metrics.unplaceable(unplaceable);
    return true;
  }

  async #placeBatch(tx: Tx, after: After): Promise<Batch | undefined> {
    if (!(await tryTransactionLock(tx, PLACEMENT_LOCK))) return undefined;
    const rows = await unplacedTasks(tx, after, this.#batchSize);
    if (rows.length === 0) return { rows, placed: 0 };
    const fleet = await readFleet(tx, rows);
    const placements = await workloadPlacements(tx, rows);
    const tasks = rows.map((row) => toPlace(row, placements.get(row.workloadUid)));
    const decisions = placeTasks(tasks, fleet.nodes, fleet.spread);
    const placed: TaskUpdate[] = [];
    const refused: TaskUpdate[] = [];
    for (const [index, decision] of decisions.entries()) {
      const before = rows[index]!;
      if (decision.node !== undefined) {
        placed.push({ before, patch: { node: decision.node, phase: "Assigned", reason: "", message: "" } });
      } else if (this.#shouldTell(before, decision.reason)) {
        refused.push({ before, patch: { reason: "NoNodeFits", message: decision.reason } });
      }
    }
    // protocol: TaskPlaced
    const updated = await updateTasks(tx, [...placed, ...refused]);
    await announceTasks(tx, updated.slice(0, placed.length));
    await insertEvents(tx, [
      ...updated.slice(0, placed.length).map((row) => eventOf(row, "/scheduler/assigned")),
      ...updated
        .slice(placed.length)
        .filter((_, index) => refused[index]!.before.reason !== "NoNodeFits")
        .map((row) => eventOf(row, "/scheduler/unplaceable")),
    ]);
    return { rows, placed: placed.length };
  }

  #shouldTell(row: TaskRow, reason: string): boolean {
    if (row.reason === "NoNodeFits" && row.message === reason) return false;
    const now = Date.now();
    if (row.reason === "NoNodeFits" && now - (this.#told.get(row.uid) ?? 0) < REASON_MS) return false;
    this.#told.set(row.uid, now);
    return true;
  }
}

function toPlace(row: TaskRow, placement: WorkloadPlacement | undefined): PlacementTask {
  const container = row.container as { runtimeHandler?: string; snapshotter?: string };
  return {
    uid: row.uid,
    workloadUid: row.workloadUid,
    cpuMillis: row.cpuMillis,
    memoryBytes: row.memoryBytes,
    hostPorts: row.hostPorts,
    nodeSelector: placement?.nodeSelector ?? {},
    spreadBy: placement?.spreadBy ?? "",
    runtimeHandler: container.runtimeHandler ?? "",
    snapshotter: container.snapshotter ?? "",
    pinnedNode: row.pinnedNode,
  };
}

interface WorkloadPlacement {
  readonly nodeSelector: Readonly<Record<string, string>>;
  readonly spreadBy: string;
}

function eventOf(row: TaskRow, topic: string): Parameters<typeof insertEvents>[1][number] {
  const { namespace, name, uid, node } = row;
  if (node !== null) return { namespace, topic, kind: "Task", name, uid, node, message: `assigned to node ${node}` };
  return { namespace, topic, kind: "Task", name, uid, severity: "Warning", reason: row.reason, message: row.message };
}
