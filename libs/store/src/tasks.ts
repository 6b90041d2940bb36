/**
 * Rows of tasks. Only the reconciler makes them; placement, ingest and the lease loop move them, many at a time.
 *
 * A task's status is written only where it still is the execution that the writer has seen: `WHERE generation = ? AND
 * attempt = ?` (D3).
 */
import { StatusError } from "@berth/base";
import { and, eq, getTableColumns, is, sql, SQL } from "drizzle-orm";
import type { Tx } from "./database.ts";
import { recordChanges, type ChangeOp, type NewChange } from "./feed/record.ts";
import { pageKey, pageLimit, pageOf, type Page } from "./page.ts";
import { tasks } from "./schema/index.ts";
import { selectorSql } from "./selector-sql.ts";
import { taskJson } from "./task-message.ts";
import { selectTasks, type TaskRow } from "./task-rows.ts";
import { together } from "./together.ts";
import type { NamespacedQuery } from "./workloads.ts";

export type { TaskRow } from "./task-rows.ts";

export async function getTask(tx: Tx, namespace: string, name: string): Promise<TaskRow | undefined> {
  const [row] = await selectTasks(tx, sql`where namespace = ${namespace} and name = ${name}`);
  return row;
}

/** The row, locked until the transaction ends. */
export async function lockTask(tx: Tx, namespace: string, name: string): Promise<TaskRow | undefined> {
  const [row] = await lockTasks(tx, and(eq(tasks.namespace, namespace), eq(tasks.name, name))!);
  return row;
}

/** Locks rows in the order of their uids, so that two who lock several never wait for each other. */
export function lockTasks(tx: Tx, where: SQL): Promise<TaskRow[]> {
  return selectTasks(tx, sql`where ${where} order by ${tasks.uid} for update`);
}

export function lockTasksByUid(tx: Tx, uids: readonly string[]): Promise<TaskRow[]> {
  return lockTasks(
    tx,
    sql`${tasks.uid} in (select value::uuid from jsonb_array_elements_text(${JSON.stringify(uids)}::jsonb))`,
  );
}

export async function listTasks(
  tx: Tx,
  query: NamespacedQuery & { readonly workload?: string; readonly node?: string },
): Promise<Page<TaskRow>> {
  const limit = pageLimit(query);
  const after = pageKey(query, 2);
  const where = and(
    query.namespace === undefined ? undefined : ofNamespace(query.namespace),
    query.workload === undefined ? undefined : eq(tasks.workload, query.workload),
    query.node === undefined ? undefined : eq(tasks.node, query.node),
    selectorSql(tasks.labels, query.selector ?? []),
    after && sql`(${tasks.namespace}, ${tasks.name}) > (${after[0]}, ${after[1]})`,
  );
  const rows = await selectTasks(
    tx,
    sql`where ${where ?? sql`true`} order by ${tasks.namespace}, ${tasks.name} limit ${limit + 1}`,
  );
  return pageOf(rows, limit, (row) => [row.namespace, row.name]);
}

/**
 * As a range of the index that the list is in the order of. By equality Postgres, whose statistics know little of tasks that were just
 * made, takes the namespace for small, and reads and sorts all of it for each page.
 */
function ofNamespace(namespace: string): SQL {
  return sql`(${tasks.namespace}, ${tasks.name}) >= (${namespace}, '') and ${tasks.namespace} <= ${namespace}`;
}

export type NewTask = Pick<
  TaskRow,
  | "uid"
  | "namespace"
  | "name"
  | "labels"
  | "workload"
  | "workloadUid"
  | "workloadGeneration"
  | "slot"
  | "pinnedNode"
  | "container"
  | "fence"
  | "cpuMillis"
  | "memoryBytes"
  | "hostPorts"
  | "beginsAgain"
>;

const ROWS_PER_INSERT = 1_000;

/** What {@link NewTask} gives, with its type in Postgres; all else has the table's defaults. */
const INSERTED = {
  uid: "uuid",
  namespace: "text",
  name: "text",
  labels: "jsonb",
  workload: "text",
  workload_uid: "uuid",
  workload_generation: "bigint",
  slot: "int",
  pinned_node: "text",
  container: "jsonb",
  fence: "bool",
  cpu_millis: "bigint",
  memory_bytes: "bigint",
  host_ports: "text[]",
  begins_again: "text",
} as const;
const INSERT_COLUMNS = sql.raw(Object.keys(INSERTED).join(", "));
const INSERT_TYPES = sql.raw(typed(INSERTED));

/**
 * Those whose name or slot is taken are left out of what is inserted, and of the answer. One JSON parameter a statement: a
 * placeholder for each value costs more, here and in Postgres, than all the rest of making a task.
 */
export async function insertTasks(tx: Tx, rows: readonly NewTask[]): Promise<TaskRow[]> {
  const inserted: TaskRow[] = [];
  for (let from = 0; from < rows.length; from += ROWS_PER_INSERT) {
    const batch = rows.slice(from, from + ROWS_PER_INSERT);
    const written = await tx.execute<{ uid: string; created: string }>(sql`
      insert into tasks (${INSERT_COLUMNS})
      select ${INSERT_COLUMNS} from jsonb_to_recordset(${JSON.stringify(batch.map(snakeCase))}::jsonb) as v(${INSERT_TYPES})
      on conflict do nothing returning uid::text as uid, created_at::text as created`);
    const created = new Map(written.map((row) => [row.uid, new Date(row.created)]));
    for (const row of batch) {
      const createdAt = created.get(row.uid);
      if (createdAt !== undefined) inserted.push({ ...defaultRow(), ...row, createdAt });
    }
  }
  await recordTasks(tx, inserted, "ADDED");
  return inserted;
}

/** A row of the table's own defaults; null where it has none, or where Postgres computes it. */
function defaultRow(): TaskRow {
  const values = DEFAULTS.map(([key, value]): [string, unknown] => [key, Array.isArray(value) ? [] : value]);
  return Object.fromEntries(values) as TaskRow;
}

const DEFAULTS = Object.entries(getTableColumns(tasks)).map(
  ([key, column]) => [key, is(column.default, SQL) ? null : (column.default ?? null)] as const,
);

export interface TaskUpdate {
  /** As it was when this transaction locked it. */
  readonly before: TaskRow;
  /** What is different. */
  readonly patch: Partial<Omit<TaskRow, "uid" | "namespace" | "name" | "resourceVersion" | "createdAt">>;
}

/** Writes many tasks in one statement, and their changes. All rows must be locked by this transaction. */
export async function updateTasks(tx: Tx, updates: readonly TaskUpdate[]): Promise<TaskRow[]> {
  if (updates.length === 0) return [];
  const rows = updates.map(({ before, patch }) => ({
    ...before,
    ...patch,
    resourceVersion: before.resourceVersion + 1,
  }));
  const { columns, assignments, types } = changedColumns(updates);
  const values = rows.map((row, index) => {
    const { generation: at_generation, attempt: at_attempt } = updates[index]!.before;
    const value: Record<string, unknown> = { uid: row.uid, at_generation, at_attempt };
    for (const [key, column] of columns) value[column] = row[key];
    return value;
  });
  const writing = tx.execute(sql`
    update tasks t set ${assignments}
    from jsonb_to_recordset(${JSON.stringify(values)}::jsonb) as v(
      uid uuid, at_generation bigint, at_attempt int, ${types})
    where t.uid = v.uid and t.generation = v.at_generation and t.attempt = v.at_attempt`);
  const [written] = await together(writing, recordTasks(tx, rows, "MODIFIED"));
  if (written.count !== rows.length) {
    throw new StatusError("ABORTED", `${rows.length - written.count} of ${rows.length} tasks have moved on`, {
      reason: "STORE_CONFLICT",
    });
  }
  return rows;
}

export async function removeTasks(tx: Tx, rows: readonly TaskRow[]): Promise<void> {
  if (rows.length === 0) return;
  const uids = JSON.stringify(rows.map((row) => row.uid));
  await tx
    .delete(tasks)
    .where(sql`${tasks.uid} in (select value::uuid from jsonb_array_elements_text(${uids}::jsonb))`);
  await recordTasks(tx, rows, "DELETED");
}

async function recordTasks(tx: Tx, rows: readonly TaskRow[], op: ChangeOp): Promise<void> {
  await recordChanges(
    tx,
    rows.map((row): NewChange => ({
      kind: "Task",
      namespace: row.namespace,
      name: row.name,
      uid: row.uid,
      op,
      object: taskJson(row),
      owner: row.workloadUid,
    })),
  );
}

/** What may change in a task, with its type in Postgres. */
const UPDATABLE = {
  labels: "jsonb",
  generation: "bigint",
  resource_version: "bigint",
  deleted_at: "timestamptz",
  workload_generation: "bigint",
  pinned_node: "text",
  node: "text",
  nominated_node: "text",
  decision_id: "bigint",
  container: "jsonb",
  fence: "bool",
  desired: "text",
  cpu_millis: "bigint",
  memory_bytes: "bigint",
  host_ports: "text[]",
  observed_generation: "bigint",
  attempt: "int",
  phase: "text",
  reason: "text",
  message: "text",
  certainty: "text",
  possibly_until: "timestamptz",
  exit_code: "int",
  oom_killed: "bool",
  started_at: "timestamptz",
  finished_at: "timestamptz",
  addresses: "text[]",
  restarts: "int",
  image_digest: "text",
  next_attempt_at: "timestamptz",
  begins_again: "text",
  holds_slot: "bool",
  removed: "bool",
  failures: "int",
  health: "text",
  available_since: "timestamptz",
} as const;
const UPDATABLE_KEYS = Object.entries(getTableColumns(tasks)).flatMap(([key, { name }]) =>
  name in UPDATABLE ? [[key as keyof TaskRow, name as keyof typeof UPDATABLE] as const] : [],
);

/**
 * What any of these updates changes: a batch of one kind changes few columns, and a container is long. Always in one order, so that
 * batches of one kind are one statement.
 */
function changedColumns(updates: readonly TaskUpdate[]): {
  readonly columns: readonly (readonly [keyof TaskRow, string])[];
  readonly assignments: SQL;
  readonly types: SQL;
} {
  const columns = UPDATABLE_KEYS.filter(
    ([key]) => key === "resourceVersion" || updates.some((update) => differs(update, key)),
  );
  return {
    columns,
    assignments: sql.raw(columns.map(([, column]) => `${column} = v.${column}`).join(", ")),
    types: sql.raw(columns.map(([, column]) => `${column} ${UPDATABLE[column]}`).join(", ")),
  };
}

/** Lists, which are short, by what is in them: one that was made anew is no change. */
function differs({ before, patch }: TaskUpdate, key: keyof TaskRow): boolean {
  const [was, is]: unknown[] = [before[key], (patch as Partial<TaskRow>)[key]];
  if (was === is || !Object.hasOwn(patch, key)) return false;
  if (!Array.isArray(was) || !Array.isArray(is)) return true;
  return was.length !== is.length || was.some((value, index) => value !== is[index]);
}

/** As a column definition list. */
function typed(columns: Readonly<Record<string, string>>): string {
  return Object.entries(columns)
    .map(([column, type]) => `${column} ${type}`)
    .join(", ");
}

function snakeCase(row: NewTask): Record<string, unknown> {
  return Object.fromEntries(Object.entries(row).map(([key, value]) => [snakeCaseOf(key), value]));
}

const snakeCaseNames = new Map<string, string>();

function snakeCaseOf(key: string): string {
  const known = snakeCaseNames.get(key);
  if (known !== undefined) return known;
  const name = key.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  snakeCaseNames.set(key, name);
  return name;
}
