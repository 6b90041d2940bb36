/**
 * The full set of what is assigned to a node (D5).
 *
 * Each agent of a fleet asks for it when it starts, and once after a burst of jobs; most sets are a few tasks and no images, and
 * are read by one statement, which is a snapshot of its own ({@link smallSet}). What is larger comes page by page.
 */
import { create } from "@bufbuild/protobuf";
import { AssignmentsReplySchema, type AssignmentsReply } from "@berth/proto";
import { and, asc, eq, isNotNull, sql } from "drizzle-orm";
import { imageAssignment, taskAssignment } from "./assignments.ts";
import type { TargetRow } from "./campaign-targets.ts";
import type { Tx } from "./database.ts";
import { getStoreMeta, type StoreMeta } from "./meta.ts";
import { isNamedBefore } from "./restore.ts";
import { campaignTargets, tasks } from "./schema/index.ts";
import { selectTasks, selectTasksWith, type TaskRow } from "./task-rows.ts";

/** What of the store and of the node's row a set depends on. */
interface SetState extends Pick<StoreMeta, "storeEpoch" | "stopsConfirmed" | "held" | "restoredAt"> {
  /** Undefined: no such node. */
  readonly revision: string | undefined;
  readonly holdings: string;
}

/**
 * The whole set of a node that has no images and at most `limit` tasks; undefined: it has, ask page by page. It need not be
 * asked in a transaction. An unknown node has an empty set of revision 0 that stops nothing.
 */
export async function smallSet(tx: Tx, node: string, limit: number): Promise<AssignmentsReply | undefined> {
  // The node is said of the tasks, too: joined by name alone, tasks that Postgres knows little of are read whole.
  const found = await selectTasksWith(
    tx,
    sql<string>`state`,
    sql`right join (
        select n.name as of_node, json_build_object('storeEpoch', m.store_epoch, 'stopsConfirmed', m.stops_confirmed,
          'held', m.held, 'restoredMs', (extract(epoch from m.restored_at) * 1000)::bigint,
          'revision', n.assignment_revision::text, 'holdings', n.holdings, 'images', exists (
            select from campaign_targets c where c.node = n.name and c.announced_generation is not null))::text as state
        from store_meta m left join nodes n on n.name = ${node} offset 0) s
      on tasks.node = ${node} and s.of_node is not null and not tasks.removed order by tasks.uid limit ${limit + 1}`,
  );
  if (found.length > limit) return undefined;
  const { restoredMs, revision, images, ...rest } = JSON.parse(found[0]!.value) as Omit<SetState, "revision"> & {
    readonly restoredMs: number | null;
    readonly revision: string | null;
    readonly images: boolean;
  };
  if (images) return undefined;
  const state = {
    ...rest,
    restoredAt: restoredMs === null ? null : new Date(restoredMs),
    revision: revision ?? undefined,
  };
  // Where nothing joined there is one row of nulls.
  const rows = found.map(({ row }) => row).filter(({ uid }) => (uid as string | null) !== null);
  return setOf(state, rows, [], 0);
}

/**
 * One page of a node's set: its tasks, then its images. Give it one snapshot ({@link Store.snapshot}); pages of different
 * revisions do not belong together. An unknown node has an empty set of revision 0 that stops nothing.
 */
export async function assignmentPage(tx: Tx, node: string, offset: number, limit: number): Promise<AssignmentsReply> {
  const state = { ...(await getStoreMeta(tx)), ...(await nodeState(tx, node)) };
  if (state.revision === undefined) return setOf(state, [], [], 0);
  const ofNode = and(eq(tasks.node, node), eq(tasks.removed, false));
  const taskRows = await selectTasks(
    tx,
    sql`where ${ofNode} order by ${tasks.uid} offset ${offset} limit ${limit + 1}`,
  );
  const taskItems = taskRows.slice(0, limit);
  let images: TargetRow[] = [];
  let more = taskRows.length > limit;
  if (!more) {
    const taskCount = offset === 0 ? 0 : await tx.$count(tasks, ofNode);
    const room = limit - taskItems.length;
    const found = await tx
      .select()
      .from(campaignTargets)
      .where(and(eq(campaignTargets.node, node), isNotNull(campaignTargets.announcedGeneration)))
      .orderBy(asc(campaignTargets.id))
      .offset(Math.max(0, offset - taskCount))
      .limit(room + 1);
    images = found.slice(0, room);
    more = found.length > room;
  }
  return setOf(state, taskItems, images, more ? offset + taskItems.length + images.length : 0);
}

function setOf(
  state: SetState,
  taskRows: readonly TaskRow[],
  images: readonly TargetRow[],
  nextOffset: number,
): AssignmentsReply {
  const { storeEpoch, revision, holdings } = state;
  if (revision === undefined) return create(AssignmentsReplySchema, { storeEpoch, stopsConfirmed: false });
  // It may run what is to be taken over.
  const stopsConfirmed = state.stopsConfirmed && holdings !== "wanted";
  // What was named before a restore is begun only where it is known to be there.
  const isStartable = (row: TaskRow): boolean =>
    !isNamedBefore(row, state) || (holdings !== "wanted" && !(row.fence && state.held));
  return create(AssignmentsReplySchema, {
    storeEpoch,
    revision: BigInt(revision),
    tasks: taskRows.map((row) => taskAssignment(row, isStartable(row))),
    images: images.map(imageAssignment),
    nextOffset,
    stopsConfirmed,
  });
}

async function nodeState(tx: Tx, node: string): Promise<Pick<SetState, "revision" | "holdings">> {
  const [row] = await tx.execute<{ revision: string; holdings: string }>(sql`
    select assignment_revision::text as revision, holdings from nodes where name = ${node}`);
  return { revision: row?.revision, holdings: row?.holdings ?? "" };
}
