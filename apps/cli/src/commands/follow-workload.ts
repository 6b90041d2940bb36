/**
 * Following the output of a whole workload: of the tasks that it has, and of those that it gets later, by a rollout, a scale or
 * a loss. Ends when no task says anything more and none is missing: with the workload, or when its tasks have ended for good.
 */
import { hasCode } from "@berth/base";
import { follow } from "../follow.ts";
import { taskKind, workloadKind } from "../kinds.ts";
import { persistCall } from "../persist.ts";
import type { Session } from "../session.ts";
import { TaskVersions, type VersionsOf } from "./task-versions.ts";

/** Resolves when that task has ended for good or is gone. */
export type FollowTask = (name: string, isLater: boolean, versionsOf: VersionsOf) => Promise<void>;

export async function followWorkload(session: Session, query: Query, followTask: FollowTask): Promise<void> {
  const following = new WorkloadFollower(session, query, followTask);
  await following.run();
}

interface Query {
  readonly namespace: string;
  readonly workload: string;
}

class WorkloadFollower {
  readonly #session: Session;
  readonly #query: Query;
  readonly #followTask: FollowTask;
  readonly #done = new AbortController();
  readonly #present = new Set<string>();
  readonly #begun = new Set<string>();
  readonly #active = new Set<string>();
  #failure: { readonly error: unknown } | undefined;

  constructor(session: Session, query: Query, followTask: FollowTask) {
    this.#session = session;
    this.#query = query;
    this.#followTask = followTask;
  }

  async run(): Promise<void> {
    const query = { selector: "", ...this.#query };
    const first = await taskKind.list(this.#session, query);
    const versions = new TaskVersions(this.#session.signal, first.items);
    const begin = (name: string, isLater: boolean): void => this.#begin(name, isLater, (of) => versions.of(of));
    for (const { metadata } of first.items) begin(metadata!.name, false);
    await this.#settle();
    const signal = AbortSignal.any([this.#session.signal, this.#done.signal]);
    try {
      for await (const change of follow({ ...this.#session, signal }, taskKind, query, first)) {
        versions.saw(change);
        const { name } = change.object.metadata!;
        if (change.event.type !== "DELETED") begin(name, true);
        else if (this.#present.delete(name)) await this.#settle();
        if (this.#done.signal.aborted) break;
      }
    } catch (error) {
      if (!this.#done.signal.aborted || this.#session.signal.aborted) throw error;
    }
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  #begin(name: string, isLater: boolean, versionsOf: VersionsOf): void {
    this.#present.add(name);
    if (this.#begun.has(name)) return;
    this.#begun.add(name);
    this.#active.add(name);
    this.#followTask(name, isLater, versionsOf)
      .then(() => {
        this.#active.delete(name);
        return this.#settle();
      })
      .catch((error: unknown) => {
        this.#failure ??= { error };
        this.#done.abort();
      });
  }

  /** Tasks that have ended for good and are still there fill their places in the workload. */
  async #settle(): Promise<void> {
    if (this.#active.size > 0) return;
    const wanted = await this.#wanted();
    if (this.#active.size === 0 && this.#present.size >= wanted) this.#done.abort();
  }

  /** How many tasks it is to have; none once it goes away. */
  async #wanted(): Promise<number> {
    const { namespace, workload } = this.#query;
    try {
      const found = await persistCall(this.#session, () => workloadKind.get(this.#session, namespace, workload));
      if (found.metadata?.deletedAt !== undefined) return 0;
      return found.spec?.everyNode === true ? (found.status?.desired ?? 0) : (found.spec?.replicas ?? 1);
    } catch (error) {
      if (hasCode(error, "NOT_FOUND")) return 0;
      throw error;
    }
  }
}
