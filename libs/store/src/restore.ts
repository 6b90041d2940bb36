/**
 * A store that was put back from a copy (D5): how that is noticed, the hold that follows, and the numbers that executions get
 * afterwards.
 *
 * Invariants:
 *  1. A database notes which one it is. One that finds another note in itself is a copy: nothing of which there must never be
 *     two is placed from then on ({@link MAY_PLACE}), before anybody has told so.
 *  2. While it is held, no execution of a fenced task is made. It is held from the beginning of the epoch until every node has
 *     shown that it runs only what this store names, or has ended it.
 *  3. (task, generation, attempt) never names two executions, though this store has forgotten which numbers were given: the next
 *     execution of a task older than the restore gets a generation above all of them ({@link numberedAfterRestore}).
 *
 * Of a node, `holdings` says: `wanted`, it has not shown yet what it holds, so that nothing is begun and nothing ended there;
 * `shown`, it has, and does so again once the store is confirmed; `clean`, and it runs only what this store names; empty, nothing is
 * asked of it. The store's release makes `shown` of all that is clean, so that what was held back is begun where it is missing.
 */
import { sql, type SQL } from "drizzle-orm";
import type { Tx } from "./database.ts";
import { notify, WORK_CHANNEL } from "./feed/record.ts";
import { getStoreMeta, IDENTITY, type StoreMeta } from "./meta.ts";
import type { NodeRow } from "./node-message.ts";
import { recordNodes } from "./nodes.ts";
import { nodes, tasks } from "./schema/index.ts";
import { lockTasks, type TaskRow, type TaskUpdate } from "./tasks.ts";

/** Of a task: may a node be found for it? Fenced tasks wait while the store is held, or is a copy that nobody has noticed yet. */
export const MAY_PLACE: SQL = sql`(not ${tasks.fence} or exists (
  select from store_meta where not held and identity in ('', ${IDENTITY})))`;

/**
 * Is nothing fenced to be begun? As it is until this transaction ends: ask before making an execution of a fenced task.
 * Also true of a copy that nobody has noticed yet.
 */
export async function lockHold(tx: Tx): Promise<boolean> {
  const [row] = await tx.execute<{ held: boolean }>(
    sql`select held or identity not in ('', ${IDENTITY}) as held from store_meta for share`,
  );
  return row!.held;
}

/** Is this the database that it says it is? Notes it in one that says nothing yet. */
export async function isOriginal(tx: Tx): Promise<boolean> {
  const systemId = await systemIdOf(tx);
  const [row] = await tx.execute<{ same: boolean; noted: boolean }>(sql`
    select identity = ${IDENTITY} and (system_id = ${systemId} or system_id = '' or ${systemId} = '') as same,
      identity <> '' as noted
    from store_meta`);
  if (row!.noted) return row!.same;
  await tx.execute(sql`update store_meta set identity = ${IDENTITY}, system_id = ${systemId} where identity = ''`);
  return true;
}

/** Of the server's data directory; empty where we may not know it. */
async function systemIdOf(tx: Tx): Promise<string> {
  const [may] = await tx.execute<{ may: boolean }>(
    sql`select has_function_privilege('pg_control_system()', 'execute') as may`,
  );
  if (!may!.may) return "";
  const [row] = await tx.execute<{ id: string }>(sql`select system_identifier::text as id from pg_control_system()`);
  return row!.id;
}

/**
 * Begins a new epoch, in which nothing is stopped for being absent until an operator confirms, and nothing fenced is begun. Every
 * node is taken to have got its lease just now, for who knows what was written since the copy was made. Returns false when
 * somebody else has done so already.
 */
export async function beginStoreEpoch(tx: Tx, previous: string, ttlMs: number): Promise<boolean> {
  const systemId = await systemIdOf(tx);
  const done = await tx.execute(sql`
    update store_meta set store_epoch = gen_random_uuid(), stops_confirmed = false, held = true,
      restored_at = greatest(clock_timestamp(), restored_at + interval '1 second'), identity = ${IDENTITY}, system_id = ${systemId}
    where store_epoch = ${previous}::uuid`);
  if (done.count !== 1) return false;
  await askAgain(tx, "wanted", sql`true`);
  // The fleet may have been larger, and its leases longer.
  await tx.execute(sql`update nodes set lease_renewed_at = clock_timestamp(), lease_expires_at = clock_timestamp() +
    greatest(make_interval(secs => ${ttlMs / 1000}), lease_expires_at - lease_renewed_at)`);
  await rewindFeeds(tx);
  return true;
}

/** Transactions of another server may have had higher numbers than this one's: their entries would hide all that follow (ADR 7). */
async function rewindFeeds(tx: Tx): Promise<void> {
  const ahead = sql`xid >= pg_snapshot_xmax(pg_current_snapshot())`;
  for (const table of ["changes", "events", "feed_readers", "feed_marks"])
    await tx.execute(sql`update ${sql.identifier(table)} set xid = '1'::xid8 where ${ahead}`);
}

/** Nodes may stop what this store does not name. Returns false when the epoch is not the current one. */
export async function confirmStore(tx: Tx, storeEpoch: string): Promise<boolean> {
  const done = await tx.execute(
    sql`update store_meta set stops_confirmed = true where store_epoch::text = ${storeEpoch}`,
  );
  if (done.count === 1) await askAgain(tx, "shown", sql`holdings = 'shown'`);
  return done.count === 1;
}

/** Everything may be begun again; nodes show once more what they hold, so that what is missing there is made. */
export async function releaseStore(tx: Tx, storeEpoch: string): Promise<boolean> {
  const done = await tx.execute(
    sql`update store_meta set held = false where store_epoch::text = ${storeEpoch} and held`,
  );
  if (done.count !== 1) return false;
  await askAgain(tx, "shown", sql`holdings <> 'wanted'`);
  await notify(tx, WORK_CHANNEL, "*");
  return true;
}

/** The revision is raised, so that a set of now comes before what the node says. */
async function askAgain(tx: Tx, holdings: "wanted" | "shown", which: SQL): Promise<void> {
  const rows = (await tx.execute<{ name: string }>(sql`
    with locked as (select name from nodes where ${which} order by name for update)
    update nodes n set holdings = ${holdings}, assignment_revision = n.assignment_revision + 1,
      resource_version = n.resource_version + 1
    from locked where n.name = locked.name returning n.name`)) as readonly { name: string }[];
  await recordNamed(tx, rows.map(({ name }) => name)); // prettier-ignore
}

/** What a node and this store say of each other: tasks that are on it, and those that it names. Locked. */
export function lockTasksOnOrNamed(tx: Tx, node: string, uids: readonly string[]): Promise<TaskRow[]> {
  const named = sql`${tasks.uid}::text in (select jsonb_array_elements_text(${JSON.stringify(uids)}::jsonb))`;
  return lockTasks(tx, sql`(${tasks.node} = ${node} or ${named})`);
}

/** Of nodes that this transaction has locked. The set of one that has shown what it holds may end what is not named. */
export async function setHoldings(tx: Tx, names: readonly string[], holdings: "" | "shown" | "clean"): Promise<void> {
  await tx.execute(sql`
    update nodes set holdings = ${holdings}, resource_version = resource_version + 1,
      assignment_revision = assignment_revision + ${holdings === "shown" ? 1 : 0}
    where ${nodes.name} in (select jsonb_array_elements_text(${JSON.stringify(names)}::jsonb))`);
  await recordNamed(tx, names);
}

const MAY_RUN = sql`${tasks.phase} not in ('Succeeded', 'Failed', 'Stopped')`;

/** In milliseconds, as SQL: what a task is given to end before SIGKILL. */
const graceMs = (defaultMs: number): SQL =>
  sql`coalesce(extract(epoch from (container -> 'stop' ->> 'grace')::interval) * 1000, ${defaultMs}::int)`;

/** Milliseconds: the longest that a fenced task of this store is given to end. */
export async function longestFencedGrace(tx: Tx, defaultMs: number): Promise<number> {
  const [row] = await tx.execute<{ ms: string | null }>(sql`
    select max(${graceMs(defaultMs)})::bigint::text as ms from tasks where fence`);
  return Number(row!.ms ?? defaultMs);
}

/** The same of each of these nodes that possibly runs fenced tasks: of those that are not known to have ended. */
export async function fencedGraces(
  tx: Tx,
  names: readonly string[],
  defaultMs: number,
): Promise<ReadonlyMap<string, number>> {
  const rows = await tx.execute<{ node: string; ms: string }>(sql`
    select node, max(${graceMs(defaultMs)})::bigint::text as ms from tasks
    where fence and certainty <> 'fenced' and ${MAY_RUN}
      and node in (select jsonb_array_elements_text(${JSON.stringify(names)}::jsonb))
    group by node`);
  return new Map(rows.map(({ node, ms }) => [node, Number(ms)]));
}

/** Wanted fenced tasks on these nodes that are not known to have ended. Locked. */
export function lockFencedOn(tx: Tx, names: readonly string[]): Promise<TaskRow[]> {
  const on = sql`${tasks.node} in (select jsonb_array_elements_text(${JSON.stringify(names)}::jsonb))`;
  return lockTasks(tx, sql`${tasks.fence} and ${tasks.desired} <> 'Stop' and ${MAY_RUN} and ${on}`);
}

/** Fenced and unreachable tasks whose bound was reckoned from leases that were not the last. Locked. */
export function tasksOutOfReach(tx: Tx): Promise<TaskRow[]> {
  return lockTasks(tx, sql`${tasks.certainty} in ('fenced', 'unreachable')`);
}

async function recordNamed(tx: Tx, names: readonly string[]): Promise<void> {
  const rows: NodeRow[] = await tx
    .select()
    .from(nodes)
    .where(sql`${nodes.name} in (select jsonb_array_elements_text(${JSON.stringify(names)}::jsonb))`);
  await recordNodes(tx, rows, "MODIFIED");
}

/** The least generation of executions that are made after the restore; 0: there was none. Above whatever was counted up before. */
export function firstGenerationAfter(restoredAt: Date | null): number {
  return restoredAt === null ? 0 : Math.floor(restoredAt.getTime() / 1_000);
}

/** Is the node to tell what it holds? */
export function wantsHoldings({ holdings }: Pick<NodeRow, "holdings">, { stopsConfirmed }: StoreMeta): boolean {
  return holdings === "wanted" || (holdings === "shown" && stopsConfirmed);
}

/** Was this execution named before the restore? Then others may have been named since that this store has forgotten. */
export function isNamedBefore(
  { generation, createdAt }: TaskRow,
  { restoredAt }: Pick<StoreMeta, "restoredAt">,
): boolean {
  return restoredAt !== null && createdAt < restoredAt && generation < firstGenerationAfter(restoredAt);
}

/** Updates that make executions, with numbers that were never given before. */
export async function numberedAfterRestore(tx: Tx, updates: readonly TaskUpdate[]): Promise<readonly TaskUpdate[]> {
  if (!updates.some(isNewExecution)) return updates;
  const meta = await getStoreMeta(tx);
  if (meta.restoredAt === null) return updates;
  const generation = firstGenerationAfter(meta.restoredAt);
  return updates.map((update) =>
    isNewExecution(update) && isNamedBefore(update.before, meta)
      ? { before: update.before, patch: { ...update.patch, generation } }
      : update,
  );
}

/** Also one that gets its node only now: it may have had another one. */
function isNewExecution({ before, patch }: TaskUpdate): boolean {
  return patch.attempt !== undefined || (before.node === null && typeof patch.node === "string");
}
