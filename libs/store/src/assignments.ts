/**
 * What is assigned to a node (D5), and the jobs that announce changes of it. The full set is `assignment-sets.ts`.
 *
 * Invariant: whoever changes what is assigned to a node raises its revision in the same transaction; `announceTasks` and
 * `announceImages` do so and write the outbox.
 */
import { create, toJson, type JsonObject } from "@bufbuild/protobuf";
import { hasEnded } from "@berth/model";
import {
  ImageAssignmentSchema,
  JobSchema,
  TaskAssignmentSchema,
  type ContainerSpec,
  type ImageAssignment,
  type TaskAssignment,
} from "@berth/proto";
import { sql } from "drizzle-orm";
import type { TargetRow } from "./campaign-targets.ts";
import type { Tx } from "./database.ts";
import { optional } from "./messages.ts";
import { getStoreMeta } from "./meta.ts";
import { addToOutbox } from "./outbox.ts";
import { containerOf, type TaskRow } from "./task-rows.ts";

/** @param startable false: what is not there yet is not to be begun. The container is shared (`containerOf`). */
export function taskAssignment(row: TaskRow, startable = true): TaskAssignment {
  return assignmentOf(row, startable, containerOf(row));
}

function assignmentOf(row: TaskRow, startable: boolean, container: ContainerSpec | undefined): TaskAssignment {
  return create(TaskAssignmentSchema, {
    namespace: row.namespace,
    taskUid: row.uid,
    name: row.name,
    generation: BigInt(row.generation),
    attempt: row.attempt,
    desired: row.desired === "Stop" ? "Stop" : isEnded(row) || !startable ? "Ended" : "Run",
    ...optional("container", container),
    workload: row.workload,
    fence: row.fence,
  });
}

/** Wanted, but it has run: a node that lost its memory must not run it once more. */
function isEnded(row: TaskRow): boolean {
  return hasEnded(row.phase);
}

export function imageAssignment(row: TargetRow): ImageAssignment {
  return create(ImageAssignmentSchema, {
    namespace: row.namespace,
    image: row.image,
    campaignUid: row.campaignUid,
    generation: BigInt(row.announcedGeneration ?? row.generation),
    attempt: row.announcedAttempt ?? row.attempt,
    desired: "Present",
    snapshotter: row.snapshotter,
  });
}

/** Raises the revisions of these nodes, in the order of their names, and gives the new ones. */
export async function raiseRevisions(tx: Tx, names: Iterable<string>): Promise<ReadonlyMap<string, number>> {
  const rows = await tx.execute<{ name: string; revision: string }>(sql`
    with locked as (
      select name from nodes where name in (select jsonb_array_elements_text(${JSON.stringify([...new Set(names)])}::jsonb))
      order by name for update)
    update nodes n set assignment_revision = n.assignment_revision + 1 from locked where n.name = locked.name
    returning n.name, n.assignment_revision::text as revision`);
  return new Map(rows.map((row) => [row.name, Number(row.revision)]));
}

/** Tells the nodes of these tasks (as they are now) what is wanted of them. Tasks without a node are left out. */
export async function announceTasks(tx: Tx, rows: readonly TaskRow[]): Promise<void> {
  const placed = rows.filter((row) => row.node !== null);
  if (placed.length === 0) return;
  const revisions = await raiseRevisions(tx, placed.map((row) => row.node!)); // prettier-ignore
  const { storeEpoch } = await getStoreMeta(tx);
  await addToOutbox(
    tx,
    placed.map((row) => {
      const stop = row.desired === "Stop";
      return {
        node: row.node!,
        name: stop ? "task.stop" : "task.run",
        id: `${stop ? "stop" : "run"}-${row.uid}-${row.generation}-${row.attempt}`,
        job: taskJob(row, storeEpoch, revisions.get(row.node!) ?? 0),
      };
    }),
  );
}

/** A berth.v1.Job in protobuf's JSON form. The container is in that form already. */
function taskJob(row: TaskRow, storeEpoch: string, revision: number): JsonObject {
  const job = create(JobSchema, { storeEpoch, revision: BigInt(revision), task: assignmentOf(row, true, undefined) });
  const { task, ...rest } = toJson(JobSchema, job) as { readonly task: JsonObject };
  return { ...rest, task: { ...task, container: row.container } };
}

/** Tells the nodes of these targets to pull; the rows say so themselves (`announcedAttempt`). */
export async function announceImages(tx: Tx, rows: readonly TargetRow[]): Promise<void> {
  if (rows.length === 0) return;
  const revisions = await raiseRevisions(tx, rows.map((row) => row.node)); // prettier-ignore
  const { storeEpoch } = await getStoreMeta(tx);
  await addToOutbox(
    tx,
    rows.map((row) => ({
      node: row.node,
      name: "image.pull",
      id: `pull-${row.campaignUid}-${row.generation}-${row.id}-${row.attempt}`,
      job: toJson(
        JobSchema,
        create(JobSchema, {
          storeEpoch,
          revision: BigInt(revisions.get(row.node) ?? 0),
          image: imageAssignment(row),
        }),
      ) as JsonObject,
    })),
  );
}
