/**
 * From the outbox into the nodes' queues.
 *
 * Invariants:
 *  1. A row is deleted only after Redis has taken its job; a crash in between adds the job again, under the same id (D2).
 *  2. No transaction is open while Redis is asked: watches wait for the oldest one. One dispatcher at a time is ensured by a
 *     lock, and two at a time, for the moment in which a lost connection is not noticed, do no harm by 1.
 *  3. While Redis is away nothing is lost: rows wait, and the nodes learn of their work from the assignment sets (D5).
 */
import { anySignal, hasCode, Lifetime, throwIfAborted, withSignal, type Failpoint, type Logger } from "@berth/base";
import { JOB_BUNDLES, type JobQueues, type JobToAdd } from "@berth/jobs";
import {
  deleteFromOutbox,
  DISPATCH_LOCK,
  OUTBOX_CHANNEL,
  takeFromOutbox,
  type OutboxJob,
  type Store,
} from "@berth/store";
import { KeptLock } from "../loop/kept-lock.ts";
import { startLoop, type Round } from "../loop/loop.ts";
import type { DispatchMetrics } from "../metrics.ts";

export interface DispatchDeps {
  readonly store: Store;
  readonly queues: Pick<JobQueues, "addBulk">;
  readonly logger: Logger;
  readonly metrics: DispatchMetrics;
  readonly failpoint: Failpoint;
}

export interface DispatchConfig {
  readonly batchSize?: number;
  readonly pollMs?: number;
  /** How long Redis may take: a queue that is used for the first time during an outage waits for it without end. */
  readonly addTimeoutMs?: number;
}

export interface Dispatch extends AsyncDisposable {
  ring(): void;
}

export async function startDispatch(
  deps: DispatchDeps,
  config: DispatchConfig = {},
  options: { readonly signal?: AbortSignal } = {},
): Promise<Dispatch> {
  const { store, logger, metrics } = deps;
  const { batchSize = 5_000, pollMs = 1_000, addTimeoutMs = 10_000 } = config;
  const lifetime = new Lifetime(options.signal);
  const lock = lifetime.own(new KeptLock(store, DISPATCH_LOCK));
  const loop = startLoop(
    { logger },
    {
      name: "dispatch",
      onFailure: () => metrics.dispatchFailed(),
      async round(ending): Promise<Round> {
        if ((await lock.held()) === undefined) return pollMs;
        const count = await dispatchBatch(deps, batchSize, anySignal(ending, AbortSignal.timeout(addTimeoutMs)));
        return count === batchSize ? "again" : pollMs;
      },
    },
    lifetime.signal,
  );
  lifetime.own(loop);
  lifetime.own(await store.listen(OUTBOX_CHANNEL, () => loop.ring()));
  return { ring: () => loop.ring(), [Symbol.asyncDispose]: () => lifetime[Symbol.asyncDispose]() };
}

/** Moves the oldest rows; returns how many. When the signal fires, jobs may have been added, and their rows stay. */
export async function dispatchBatch(deps: DispatchDeps, batchSize: number, signal?: AbortSignal): Promise<number> {
  const { store, metrics, failpoint } = deps;
  const jobs = await store.transaction((tx) => takeFromOutbox(tx, batchSize));
  if (jobs.length === 0) return 0;
  failpoint("dispatch.before-add");
  throwIfAborted(signal);
  // protocol: JobDispatched
  await withSignal(add(deps, jobs), signal);
  failpoint("dispatch.after-add");
  await store.transaction((tx) => deleteFromOutbox(tx, jobs.map((job) => job.row))); // prettier-ignore
  for (const [name, group] of Map.groupBy(jobs, (job) => job.name)) metrics.dispatched(name, group.length);
  return jobs.length;
}

async function add({ queues, logger }: DispatchDeps, jobs: readonly OutboxJob[]): Promise<void> {
  const toAdd = jobs.map(({ node, name, id, job, features }): JobToAdd => ({
    node,
    name: name as JobToAdd["name"],
    id,
    data: job,
    bundles: features.includes(JOB_BUNDLES),
  }));
  try {
    await queues.addBulk(toAdd);
  } catch (error) {
    if (!hasCode(error, "INVALID_ARGUMENT")) throw error;
    // One bad row must not hold up the others for ever: they go one by one, and the bad one is dropped, loudly.
    for (const job of toAdd) {
      await queues.addBulk([job]).catch((cause: unknown) => {
        if (!hasCode(cause, "INVALID_ARGUMENT")) throw cause;
        logger.error({ err: cause, node: job.node, job: job.id }, "a job that no queue takes was dropped");
      });
    }
  }
}
