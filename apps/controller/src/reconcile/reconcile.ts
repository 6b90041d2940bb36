/**
 * Compares what is wanted with what is there, workload by workload, and writes the difference.
 *
 * Work is divided by namespace over partitions, each an advisory lock, so that several controllers may run at once. A
 * workload is looked at when something of it changed (NOTIFY), when something is due (a restart), and at every resync. Each
 * look is one transaction that can be repeated at any time: two controllers that believe they own a partition, for a moment,
 * only wait for each other's row locks.
 */
import { Lifetime, type Failpoint, type Logger } from "@berth/base";
import {
  namespacesOf,
  parseWake,
  reconcileLock,
  WORK_CHANNEL,
  workloadRefs,
  workloadsOnNode,
  type Store,
  type Wake,
} from "@berth/store";
import { startKeyedLoop } from "../loop/keyed-loop.ts";
import { partitionOf, startPartitions } from "../loop/partitions.ts";
import { sleepUnless } from "../loop/sleep.ts";
import { MOVE_FAILPOINT } from "../failpoints.ts";
import type { ReconcileMetrics } from "../metrics.ts";
import { evictionConfig, type EvictionConfig } from "./fleet.ts";
import { Gathering } from "./gathering.ts";
import { reconcileNamespace } from "./namespace.ts";
import { reconcileWorkload, Sight } from "./workload.ts";

export interface ReconcileDeps {
  readonly store: Store;
  readonly logger: Logger;
  readonly metrics: ReconcileMetrics;
  readonly failpoint: Failpoint;
}

export interface ReconcileConfig extends Partial<EvictionConfig> {
  readonly partitions?: number;
  readonly concurrency?: number;
  readonly resyncMs?: number;
}

export interface Reconcile extends AsyncDisposable {
  /** Keys that are due or being worked on. */
  readonly busy: number;
}

export async function startReconcile(
  deps: ReconcileDeps,
  config: ReconcileConfig = {},
  options: { readonly signal?: AbortSignal } = {},
): Promise<Reconcile> {
  const { store, logger } = deps;
  const { partitions: count = 8, concurrency = 4, resyncMs = 30_000 } = config;
  const sight = new Sight(evictionConfig(config));
  const lifetime = new Lifetime(options.signal);
  const held = new Set<number>();
  const isOurs = (namespace: string): boolean => held.has(partitionOf(namespace, count));
  const gathering = new Gathering();
  const loop = startKeyedLoop(
    { logger },
    { name: "reconcile", concurrency, process: (key) => processKey(deps, { sight, gathering, isOurs }, key) },
    lifetime.signal,
  );

  const addWorkload = (namespace: string, uid: string): void => {
    const key = keyOf("workload", namespace, uid);
    loop.add(key, gathering.waitMs(key));
  };
  /** Looks at everything that concerns us. */
  const resync = async (only: (namespace: string) => boolean): Promise<void> => {
    for (const name of await namespacesOf(store.db)) if (only(name)) loop.add(keyOf("namespace", name));
    for (const { namespace, uid } of await workloadRefs(store.db)) if (only(namespace)) addWorkload(namespace, uid);
  };

  lifetime.own(
    await startPartitions(
      deps,
      {
        name: "reconcile",
        count,
        lockOf: reconcileLock,
        async hold(partition, signal) {
          held.add(partition);
          try {
            const inIt = (namespace: string): boolean => partitionOf(namespace, count) === partition;
            while (!signal.aborted) {
              await resync(inIt);
              await sleepUnless(signal, resyncMs);
            }
          } finally {
            held.delete(partition);
          }
        },
      },
      lifetime.signal,
    ),
  );
  lifetime.own(loop);
  const onWake = async (wake: Wake): Promise<void> => {
    switch (wake.what) {
      case "workload":
        if (isOurs(wake.namespace)) addWorkload(wake.namespace, wake.uid);
        return;
      case "campaign":
        return;
      case "namespace":
        if (isOurs(wake.name)) loop.add(keyOf("namespace", wake.name));
        return;
      case "node":
        for (const ref of await workloadsOnNode(store.db, wake.name)) {
          if (isOurs(ref.namespace)) addWorkload(ref.namespace, ref.uid);
        }
        return;
      case "all":
        await resync(isOurs);
        return;
    }
  };
  lifetime.own(
    await store.listen(WORK_CHANNEL, (payload) => {
      onWake(parseWake(payload)).catch((error: unknown) => {
        if (!lifetime.signal.aborted)
          logger.warn({ err: error }, "a wake-up of reconcile was lost; the resync makes up for it");
      });
    }),
  );
  return {
    get busy() {
      return loop.busy;
    },
    [Symbol.asyncDispose]: () => lifetime[Symbol.asyncDispose](),
  };
}

interface Process {
  readonly sight: Sight;
  readonly gathering: Gathering;
  readonly isOurs: (namespace: string) => boolean;
}

async function processKey(
  deps: ReconcileDeps,
  { sight, gathering, isOurs }: Process,
  key: string,
): Promise<number | undefined> {
  const { store, metrics, failpoint } = deps;
  const [what, namespace = "", uid = ""] = key.split("/");
  if (!isOurs(namespace)) {
    gathering.forget(key);
    return undefined;
  }
  const started = performance.now();
  try {
    if (what === "namespace") {
      await store.transaction((tx) => reconcileNamespace(tx, namespace));
      return undefined;
    }
    const outcome = await store.transaction((tx) => reconcileWorkload(tx, uid, sight));
    gathering.took(key, performance.now() - started, outcome.seen);
    if (outcome.created > 0) failpoint("reconcile.after-tasks");
    if (outcome.moved > 0) failpoint(MOVE_FAILPOINT);
    if (outcome.reactedMs !== undefined) metrics.reactionTime("Workload", outcome.reactedMs / 1_000);
    metrics.reconciled(what === "namespace" ? "Namespace" : "Workload", "ok", (performance.now() - started) / 1_000);
    return outcome.wakeMs;
  } catch (error) {
    metrics.reconciled(what === "namespace" ? "Namespace" : "Workload", "error", (performance.now() - started) / 1_000);
    throw error;
  }
}

const keyOf = (what: "namespace" | "workload", namespace: string, uid = ""): string => `${what}/${namespace}/${uid}`;
