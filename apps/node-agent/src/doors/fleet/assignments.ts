/**
 * Taking over what the controller wants of this node: single jobs as they ring, and the full set (D5).
 *
 * Rules:
 *  1. A set older than the one applied, of the same store, is refused.
 *  2. Absence from a set stops what is ours (the engine holds executions of this door only), and only when its own job is
 *     not newer than the set, and only when the store is confirmed (`stops_confirmed`).
 *  3. A job that is not newer than the applied set says nothing new: the set had all there was. A job of another store than
 *     the applied one is left to the next set.
 *  4. A set counts as applied when every intent in it is durable.
 */
import type { Logger } from "@berth/base";
import type { AssignmentsReply, ImageAssignment, Job, TaskAssignment } from "@berth/proto";
import type { Engine } from "../../engine/engine.ts";
import type { ImageKeeper } from "../../engine/image-keeper.ts";
import type { IntentOutcome, Origin } from "../../engine/intent.ts";
import type { AssignmentState } from "./assignment-state.ts";
import { planOf, type NodeDefaults } from "./plan-of.ts";

export interface AssignmentsDeps {
  readonly engine: Pick<Engine, "run" | "stop" | "executions" | "forgetRemoved">;
  readonly images: Pick<ImageKeeper, "present" | "absent" | "assignments">;
  readonly state: AssignmentState;
  readonly defaults: NodeDefaults;
  readonly logger: Logger;
  /** The set is to be asked for, soon. */
  readonly onSetWanted: () => void;
  /** A set was taken over. */
  readonly onApplied?: () => void;
  /** A job asks for a collection of what nobody uses. */
  readonly onCollect: () => void;
}

/** A whole set, its pages joined. */
export interface AssignmentSet {
  readonly storeEpoch: string;
  readonly revision: number;
  readonly tasks: readonly TaskAssignment[];
  readonly images: readonly ImageAssignment[];
  readonly stopsConfirmed: boolean;
}

export type SetOutcome = "applied" | "refused";

const TOMBSTONE_MS = 3_600_000;

export class Assignments {
  readonly #deps: AssignmentsDeps;

  constructor(deps: AssignmentsDeps) {
    this.#deps = deps;
  }

  /** Resolves when the job's intent is durable, or when it is not worth one. */
  async takeJob(name: string, job: Job): Promise<void> {
    if (name === "node.collect") return this.#deps.onCollect();
    const applied = this.#deps.state.applied();
    const origin: Origin = { storeEpoch: job.storeEpoch, revision: Number(job.revision) };
    if (applied.storeEpoch !== "" && applied.storeEpoch !== origin.storeEpoch) {
      this.#deps.logger.warn({ job: name, ...origin, applied }, "a job of another store is left to the next set");
      return this.#deps.onSetWanted();
    }
    if (applied.storeEpoch !== "" && origin.revision <= applied.revision) return;
    // protocol: JobTaken
    if (job.task !== undefined) await this.#takeTask(job.task, origin, name === "task.stop");
    if (job.image !== undefined) await this.#takeImage(job.image, origin, name === "image.remove");
  }

  /** @throws RESOURCE_EXHAUSTED `JOURNAL_FULL` and the like: what was taken so far stays, the set is not applied. */
  async applySet(set: AssignmentSet): Promise<SetOutcome> {
    const { state, logger } = this.#deps;
    const applied = state.applied();
    if (applied.storeEpoch === set.storeEpoch && set.revision < applied.revision) {
      logger.error({ applied: applied.revision, got: set.revision }, "assignments went backwards: refused");
      return "refused";
    }
    if (applied.storeEpoch !== "" && applied.storeEpoch !== set.storeEpoch) {
      logger.warn({ from: applied.storeEpoch, to: set.storeEpoch, stops: set.stopsConfirmed }, "the store has changed");
    }
    // protocol: SetApplied
    const origin: Origin = { storeEpoch: set.storeEpoch, revision: set.revision };
    await Promise.all([
      ...set.tasks.map((task) => this.#takeTask(task, origin, false)),
      ...set.images.map((image) => this.#takeImage(image, origin, false)),
    ]);
    if (set.stopsConfirmed) await Promise.all([this.#stopAbsentTasks(set), this.#forgetAbsentImages(set)]);
    if (applied.storeEpoch !== origin.storeEpoch || applied.revision !== origin.revision) {
      await state.record(origin);
      logger.info({ ...origin, tasks: set.tasks.length, images: set.images.length }, "assignments applied");
    }
    this.#deps.onApplied?.();
    await this.#deps.engine.forgetRemoved(TOMBSTONE_MS);
    return "applied";
  }

  /** One that cannot even be named is left out: it must not keep the others from being taken. */
  async #takeTask(task: TaskAssignment, origin: Origin, stop: boolean): Promise<IntentOutcome> {
    if (!isUsableName(task.taskUid, 64) || !isUsableName(task.namespace, 63)) {
      this.#deps.logger.error(
        { taskUid: task.taskUid, namespace: task.namespace },
        "assignment with a bad name ignored",
      );
      return "stale";
    }
    const intent = {
      taskUid: task.taskUid,
      generation: Number(task.generation),
      attempt: task.attempt,
      namespace: task.namespace,
      name: task.name,
      origin,
    };
    if (stop || task.desired === "Stop") return await this.#deps.engine.stop(intent);
    // It has run. What is left of it stays; where nothing is left (a new data root), it is not run once more.
    if (task.desired === "Ended") return "known";
    return await this.#deps.engine.run({ ...intent, plan: planOf(task, this.#deps.defaults) });
  }

  async #takeImage(image: ImageAssignment, origin: Origin, remove: boolean): Promise<void> {
    const { namespace, campaignUid, attempt } = image;
    if (!isUsableName(namespace, 63)) return;
    const target = { namespace, image: image.image, campaignUid };
    const generation = Number(image.generation);
    if (remove || image.desired === "Absent") {
      await this.#deps.images.absent(target, { generation, attempt });
      return;
    }
    const snapshotter = image.snapshotter === "" ? this.#deps.defaults.snapshotter : image.snapshotter;
    await this.#deps.images.present({ ...target, generation, attempt, snapshotter, origin });
  }

  async #stopAbsentTasks(set: AssignmentSet): Promise<void> {
    const present = new Set(set.tasks.map((task) => task.taskUid));
    const absent = this.#deps.engine
      .executions()
      .filter((each) => each.desired === "run" && !present.has(each.taskUid) && isCovered(each, set));
    for (const { taskUid, generation, attempt, namespace, name } of absent) {
      this.#deps.logger.info(
        { taskUid, task: name, revision: set.revision },
        "task is no longer assigned: stopping it",
      );
      const origin: Origin = { storeEpoch: set.storeEpoch, revision: set.revision };
      await this.#deps.engine.stop({ taskUid, generation, attempt, namespace, name, origin });
    }
  }

  /** What a campaign has dropped is no longer kept; its bytes go when nothing else refers to them. */
  async #forgetAbsentImages(set: AssignmentSet): Promise<void> {
    const key = (image: { namespace: string; image: string; campaignUid: string }): string =>
      `${image.campaignUid} ${image.namespace} ${image.image}`;
    const present = new Set(set.images.map(key));
    for (const row of this.#deps.images.assignments()) {
      if (
        present.has(key(row)) ||
        !isCovered({ storeEpoch: row.origin.storeEpoch, revision: row.origin.revision }, set)
      ) {
        continue;
      }
      await this.#deps.images.absent(row, row);
    }
  }
}

/** Is the set at least as new as what asked for this (D5)? Another store's revisions cannot be compared with it. */
function isCovered(asked: Origin, set: AssignmentSet): boolean {
  return asked.storeEpoch !== set.storeEpoch || asked.revision <= set.revision;
}

/** Joins the pages of a set; `undefined` when it changed in between. */
export function joinPages(pages: readonly AssignmentsReply[]): AssignmentSet | undefined {
  const first = pages[0];
  if (first === undefined) return undefined;
  const same = pages.every((page) => page.storeEpoch === first.storeEpoch && page.revision === first.revision);
  if (!same) return undefined;
  return {
    storeEpoch: first.storeEpoch,
    revision: Number(first.revision),
    tasks: pages.flatMap((page) => page.tasks),
    images: pages.flatMap((page) => page.images),
    stopsConfirmed: pages.every((page) => page.stopsConfirmed),
  };
}

/** It becomes part of paths, cgroups and snapshots' keys. */
function isUsableName(name: string, maxLength: number): boolean {
  return name.length <= maxLength && /^[a-zA-Z0-9][a-zA-Z0-9-]*$/.test(name);
}
