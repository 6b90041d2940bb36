/**
 * Tasks of workloads, kept between looks: one look at a thousand tasks is made because a few of them have moved, and only those
 * are read again.
 *
 * Invariants:
 *  1. What is given is the workload's tasks at one moment, no older than the moment of asking: one statement compares what is kept
 *     with what is there. Rows are told apart by their uids and resource versions, which every change raises. Ask before the
 *     transaction writes tasks: a version that is undone is given to another change.
 *  2. Versions are compared within one history: whoever keeps these drops them when another one is told (`HISTORY` of `meta.ts`).
 *  3. At most so many rows are kept, of the workloads that were asked for last; larger workloads are read whole each time.
 */
import { sql } from "drizzle-orm";
import type { Tx } from "./database.ts";
import { selectTasksWith, type TaskRow } from "./task-rows.ts";

const MOST_ROWS = 20_000;

interface Kept {
  /** By their marks ({@link MARK}). */
  readonly marked: ReadonlyMap<string, TaskRow>;
  /** In order. */
  readonly rows: readonly TaskRow[];
}

/** Of one version of one task, in 64 bits: the uid's hash, with the version as its seed. */
const MARK = sql`uuid_hash_extended(uid, resource_version)`;

export class KeptTasks {
  readonly #mostRows: number;
  /** By workload; the one that was asked for last is the last. */
  readonly #kept = new Map<string, Kept>();
  #rowCount = 0;

  constructor(mostRows: number = MOST_ROWS) {
    this.#mostRows = mostRows;
  }

  /** Every task of a workload, as `tasksOfWorkload` gives them, in its order. Not locked. */
  async ofWorkload(tx: Tx, workloadUid: string): Promise<readonly TaskRow[]> {
    const kept = this.#kept.get(workloadUid);
    const read = await (kept === undefined ? readAll(tx, workloadUid) : readChanged(tx, workloadUid, kept));
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
  const found = await selectTasksWith(
    tx,
    sql<string>`${MARK}::text`,
    sql`where workload_uid = ${workloadUid} order by slot, uid`,
  );
  return { marked: new Map(found.map(({ row, value }) => [value, row])), rows: found.map(({ row }) => row) };
}

/** Asks for what is not kept, and for the marks of what is kept and no more there; of what is both nothing is said. */
async function readChanged(tx: Tx, workloadUid: string, { marked: before, rows }: Kept): Promise<Kept> {
  const marks = `{${[...before.keys()].join(",")}}`;
  const differing = await selectTasksWith(
    tx,
    sql<string>`differing.mark::text`,
    sql`right join (
      with there as materialized (select uid, ${MARK} as mark from tasks where workload_uid = ${workloadUid})
      select uid, coalesce(there.mark, kept.mark) as mark
      from there full join unnest(${marks}::bigint[]) as kept(mark) on kept.mark = there.mark
      where there.mark is null or kept.mark is null) differing on tasks.uid = differing.uid`,
  );
  if (differing.length === 0) return { marked: before, rows };
  const marked = new Map(before);
  for (const { row, value: mark } of differing) {
    if ((row.uid as string | null) === null) marked.delete(mark);
    else marked.set(mark, row);
  }
  return { marked, rows: [...marked.values()].sort(inOrder) };
}

const inOrder = (a: TaskRow, b: TaskRow): number => a.slot - b.slot || (a.uid < b.uid ? -1 : 1);
