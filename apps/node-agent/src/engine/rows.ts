/** The engine's rows: reading executions, and the statements that change them. No decisions are made here. */
import type { Metadata, SqlRow, Statement } from "@berth/metadata";
import type { Container } from "./container.ts";
import type { Execution, ExecutionKey, ExecutionState } from "./execution.ts";
import type { Health } from "./health/probe-plan.ts";
import type { ContainerPlan } from "./plan.ts";

const COLUMNS = `task_uid, generation, attempt, namespace, name, desired, state, cleaned, store_epoch, revision, plan,
  boot_id, image_digest, stop_signal, health, health_reason, health_message`;

const STANDING = "SELECT generation, attempt, desired, state FROM executions";

/** How far one is. */
export type Standing = Pick<Execution, "generation" | "attempt" | "desired" | "state">;

/** Whatever still has something on the host or has to get there. */
const OPEN = "(state <> 'removed' OR cleaned = 0)";

export class EngineRows {
  readonly #metadata: Metadata;
  readonly #owner: string;

  /** `owner`: whose rows of a shared file (see libs/journal); empty on a real host. */
  constructor(metadata: Metadata, owner = "") {
    this.#metadata = metadata;
    this.#owner = owner;
  }

  /** Of one task, the newest first, tombstones included. */
  ofTask(taskUid: string): readonly Execution[] {
    const sql = `SELECT ${COLUMNS} FROM executions WHERE task_uid = ? ORDER BY generation DESC, attempt DESC`;
    return this.#metadata.all(sql, taskUid).map(toExecution);
  }

  newest(taskUid: string): Execution | undefined {
    const sql = `SELECT ${COLUMNS} FROM executions WHERE task_uid = ? ORDER BY generation DESC, attempt DESC LIMIT 1`;
    const row = this.#metadata.get(sql, taskUid);
    return row === undefined ? undefined : toExecution(row);
  }

  get(key: ExecutionKey): Execution | undefined {
    const sql = `SELECT ${COLUMNS} FROM executions WHERE task_uid = ? AND generation = ? AND attempt = ?`;
    const row = this.#metadata.get(sql, key.taskUid, key.generation, key.attempt);
    return row === undefined ? undefined : toExecution(row);
  }

  /** Without its plan and what else takes long to read. */
  standing(key: ExecutionKey): Standing | undefined {
    const sql = `${STANDING} WHERE task_uid = ? AND generation = ? AND attempt = ?`;
    const row = this.#metadata.get(sql, key.taskUid, key.generation, key.attempt);
    return row === undefined ? undefined : toStanding(row);
  }

  newestStanding(taskUid: string): Standing | undefined {
    const row = this.#metadata.get(
      `${STANDING} WHERE task_uid = ? ORDER BY generation DESC, attempt DESC LIMIT 1`,
      taskUid,
    );
    return row === undefined ? undefined : toStanding(row);
  }

  open(): readonly Execution[] {
    const sql = `SELECT ${COLUMNS} FROM executions WHERE node = ? AND ${OPEN} ORDER BY task_uid`;
    return this.#metadata.all(sql, this.#owner).map(toExecution);
  }

  /** Does any container object live in this namespace? */
  hasContainers(namespace: string): boolean {
    return this.#metadata.get("SELECT 1 AS one FROM containers WHERE namespace = ? LIMIT 1", namespace) !== undefined;
  }

  insert(execution: Execution, nowMs: number): Statement {
    return insertExecution(execution, this.#owner, nowMs);
  }

  /** Tombstones are needed only until the controller's set has passed them. */
  forgetRemoved(beforeMs: number): Statement {
    return {
      sql: "DELETE FROM executions WHERE node = ? AND state = 'removed' AND cleaned = 1 AND changed_at_ms < ?",
      params: [this.#owner, beforeMs],
    };
  }

  startedAtMs(namespace: string, id: string): number | undefined {
    const row = this.#metadata.get("SELECT started_at_ms FROM tasks WHERE namespace = ? AND id = ?", namespace, id);
    return row === undefined ? undefined : Number(row["started_at_ms"]);
  }

  addresses(namespace: string, id: string): readonly string[] {
    const row = this.#metadata.get("SELECT addresses FROM tasks WHERE namespace = ? AND id = ?", namespace, id);
    return row === undefined ? [] : (JSON.parse(String(row["addresses"])) as string[]);
  }
}

function toStanding(row: SqlRow): Standing {
  return {
    generation: Number(row["generation"]),
    attempt: Number(row["attempt"]),
    desired: row["desired"] === "stop" ? "stop" : "run",
    state: String(row["state"]) as ExecutionState,
  };
}

function toExecution(row: SqlRow): Execution {
  const plan = row["plan"];
  return {
    taskUid: String(row["task_uid"]),
    generation: Number(row["generation"]),
    attempt: Number(row["attempt"]),
    namespace: String(row["namespace"]),
    name: String(row["name"]),
    desired: row["desired"] === "stop" ? "stop" : "run",
    state: String(row["state"]) as ExecutionState,
    cleaned: Number(row["cleaned"]) === 1,
    storeEpoch: String(row["store_epoch"]),
    revision: Number(row["revision"]),
    plan: typeof plan === "string" ? (JSON.parse(plan) as ContainerPlan) : undefined,
    bootId: String(row["boot_id"]),
    imageDigest: String(row["image_digest"]),
    stopSignal: String(row["stop_signal"]),
    health: String(row["health"]) as Health,
    healthReason: String(row["health_reason"]),
    healthMessage: String(row["health_message"]),
  };
}

function insertExecution(execution: Execution, owner: string, nowMs: number): Statement {
  return {
    sql: `INSERT INTO executions (${COLUMNS}, changed_at_ms, node) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)`,
    params: [
      execution.taskUid,
      execution.generation,
      execution.attempt,
      execution.namespace,
      execution.name,
      execution.desired,
      execution.state,
      execution.cleaned ? 1 : 0,
      execution.storeEpoch,
      execution.revision,
      execution.plan === undefined ? null : JSON.stringify(execution.plan),
      execution.bootId,
      execution.imageDigest,
      execution.stopSignal,
      execution.health,
      execution.healthReason,
      execution.healthMessage,
      nowMs,
      owner,
    ],
  };
}

export interface ExecutionChange {
  readonly state?: ExecutionState;
  readonly cleaned?: boolean;
  readonly imageDigest?: string;
  readonly stopSignal?: string;
  readonly bootId?: string;
  readonly health?: Health;
  readonly healthReason?: string;
  readonly healthMessage?: string;
}

/** Changes an execution that is in one of the states `from`; in another one the transaction is undone. */
export function changeExecution(
  key: ExecutionKey,
  from: readonly ExecutionState[],
  change: ExecutionChange,
  nowMs: number,
): Statement {
  const sets: readonly (readonly [string, string | number | undefined])[] = [
    ["state", change.state],
    ["cleaned", change.cleaned === undefined ? undefined : Number(change.cleaned)],
    ["image_digest", change.imageDigest],
    ["stop_signal", change.stopSignal],
    ["boot_id", change.bootId],
    ["health", change.health],
    ["health_reason", change.healthReason],
    ["health_message", change.healthMessage],
    ["changed_at_ms", nowMs],
  ];
  const given = sets.filter((set): set is readonly [string, string | number] => set[1] !== undefined);
  return {
    sql: `UPDATE executions SET ${given.map(([column]) => `${column} = ?`).join(", ")}
      WHERE task_uid = ? AND generation = ? AND attempt = ? AND state IN (${from.map(() => "?").join(", ")})`,
    params: [...given.map(([, value]) => value), key.taskUid, key.generation, key.attempt, ...from],
    expect: {
      changes: 1,
      otherwise: {
        code: "ABORTED",
        reason: "EXECUTION_MOVED_ON",
        message: `execution ${key.taskUid}-${key.generation}-${key.attempt} is no longer ${from.join(" or ")}`,
      },
    },
  };
}

/** Everything of a task up to (and including) a key is no longer wanted. */
export function unwant(key: ExecutionKey): Statement {
  return {
    sql: `UPDATE executions SET desired = 'stop' WHERE task_uid = ? AND state <> 'removed'
      AND (generation < ? OR (generation = ? AND attempt <= ?))`,
    params: [key.taskUid, key.generation, key.generation, key.attempt],
  };
}

export function insertContainer(container: Container, owner: string, nowMs: number): Statement {
  const { namespace, id, plan, snapshotKey, generation, attempt, name } = container;
  const labels = {
    "berth.io/task": name,
    "berth.io/task-uid": container.taskUid,
    "berth.io/generation": String(generation),
    "berth.io/attempt": String(attempt),
  };
  return {
    sql: `INSERT OR REPLACE INTO containers
      (namespace, id, owner, image, snapshotter, handler, snapshot_key, spec, labels, created_at_ms)
      VALUES (?,?,?,?,?,?,?,?,?,?)`,
    params: [
      namespace,
      id,
      owner,
      plan.image,
      plan.snapshotter,
      plan.handler,
      snapshotKey,
      JSON.stringify(plan),
      JSON.stringify(labels),
      nowMs,
    ],
  };
}

export function deleteContainer(namespace: string, id: string): readonly Statement[] {
  return [
    { sql: "DELETE FROM tasks WHERE namespace = ? AND id = ?", params: [namespace, id] },
    { sql: "DELETE FROM containers WHERE namespace = ? AND id = ?", params: [namespace, id] },
  ];
}

export function insertTask(namespace: string, id: string, addresses: readonly string[], nowMs: number): Statement {
  return {
    sql: "INSERT OR REPLACE INTO tasks (namespace, id, status, started_at_ms, addresses) VALUES (?,?,'running',?,?)",
    params: [namespace, id, nowMs, JSON.stringify(addresses)],
  };
}
