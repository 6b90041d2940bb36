/**
 * Tasks of workloads, kept between looks: one look at a thousand tasks is made because a few of them have moved, and only those
 * are read again.
 *
 * Invariants:
 *  1. What is given is the workload's tasks at one moment, no older than the moment of asking: rows that are kept are told apart
 *     from changed ones by their resource versions, which every change raises. Ask before the transaction writes tasks: a version
 *     that is undone is given to another change.
 *  2. Versions are compared within one history: whoever keeps these drops them when another one is told (`HISTORY` of `meta.ts`).
 *  3. At most so many rows are kept, of the workloads that were asked for last; larger workloads are read whole each time.
 */
import { sql, type SQL } from "drizzle-orm";
import type { Tx } from "./database.ts";
import { uuidIn } from "./placement.ts";
import { tasksOfWorkload } from "./reconcile.ts";
import { tasks } from "./schema/index.ts";
import { selectTasksWith, type TaskRow } from "./task-rows.ts";

const MOST_ROWS = 20_000;

interface Kept {
  /** As {@link readVersions} gave them for these rows. */
  readonly versions: string;
  readonly rows: readonly TaskRow[];
}

export class KeptTasks {
  readonly #mostRows: number;
  /** By workload; the one that was asked for last is the last. */
  readonly #kept = new Map<string, Kept>();
  #rowCount = 0;

  constructor(mostRows: number = MOST_ROWS) {
    this.#mostRows = mostRows;
  }

  /** Every task of a workload, in the order of {@link tasksOfWorkload}. Not locked. */
  async ofWorkload(tx: Tx, workloadUid: string): Promise<readonly TaskRow[]> {
    const kept = this.#kept.get(workloadUid);
    const read = kept === undefined ? await readAll(tx, workloadUid) : await readChanged(tx, workloadUid, kept);
    this.#keep(workloadUid, read);
    return read.rows;
  }

  #keep(workloadUid: string, read: Kept): void {
    this.#drop(workloadUid);
    if (read.rows.length === 0 || read.rows.length > this.#mostRows) return;
    this.#kept.set(workloadUid, read);
    this.#rowCount += read.rows.length;
    for (const oldest of this.#kept.keys()) {
      if (this.#rowCount <= this.#mostRows) break;
      this.#drop(oldest);
    }
  }

  #drop(workloadUid: string): void {
    this.#rowCount -= this.#kept.get(workloadUid)?.rows.length ?? 0;
    this.#kept.delete(workloadUid);
  }
}

async function readAll(tx: Tx, workloadUid: string): Promise<Kept> {
  const rows = await tasksOfWorkload(tx, workloadUid);
  return { versions: rows.map(versionOf).join(","), rows };
}

async function readChanged(tx: Tx, workloadUid: string, kept: Kept): Promise<Kept> {
  const [read] = await tx.execute<{ versions: string }>(sql`select ${versionsOf(workloadUid)} as versions`);
  const { versions } = read!;
  if (versions === kept.versions) return kept;
  const known = new Map(kept.rows.map((row) => [versionOf(row), row]));
  const now = versions === "" ? [] : versions.split(",");
  const changed = now.filter((version) => !known.has(version)).map((version) => version.slice(0, UUID_LENGTH));
  // Most have changed: reading all is cheaper than naming them.
  if (changed.length * 2 > now.length) return await readAll(tx, workloadUid);
  const rows = await selectTasksWith(
    tx,
    sql<boolean>`${versionsOf(workloadUid)} = ${versions}`,
    sql`where ${uuidIn(tasks.uid, changed)}`,
  );
  // Something moved between the two statements: the kept rows are of another moment than these.
  if (rows.length < changed.length || rows.some(({ value: unmoved }) => !unmoved))
    return await readAll(tx, workloadUid);
  for (const { row } of rows) known.set(versionOf(row), row);
  return { versions, rows: now.map((version) => known.get(version)!) };
}

const UUID_LENGTH = 36;

const versionOf = (row: TaskRow): string => `${row.uid}${row.resourceVersion}`;

/** The versions of all tasks as one text: `<uid><version>` of each, in order. */
function versionsOf(workloadUid: string): SQL {
  return sql`(select coalesce(string_agg(v.uid::text || v.resource_version, ',' order by v.slot, v.uid), '')
    from tasks v where v.workload_uid = ${workloadUid})`;
}
