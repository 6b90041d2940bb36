/**
 * Writing the change feed: each change of a watchable resource leaves a row in the transaction that makes it, and rings two
 * bells at its commit: one for the watches, one that tells the loops which resource to look at.
 */
import { sql } from "drizzle-orm";
import type { Tx } from "../database.ts";
import type { Unwritten } from "../proto-json.ts";
import { changes } from "../schema/index.ts";

export type ResourceKind = "Namespace" | "Node" | "Workload" | "Task" | "Campaign" | "CronJob";
export type ChangeOp = "ADDED" | "MODIFIED" | "DELETED";

export interface NewChange {
  readonly kind: ResourceKind;
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly op: ChangeOp;
  /** The resource in protobuf's JSON form: as it is now, or as it was last. */
  readonly object: Unwritten;
  /** Whose loop should look, when it is another resource: the workload's uid, of a task. */
  readonly owner?: string;
}

/** Watches of resources. */
export const CHANGES_CHANNEL = "berth_changes";
/** Watches of events. */
export const EVENTS_CHANNEL = "berth_events";
/** The dispatcher. */
export const OUTBOX_CHANNEL = "berth_outbox";
/** The loops; the payload is a {@link Wake} as text. */
export const WORK_CHANNEL = "berth_work";

/** What a loop should look at. `all`: whatever it is in charge of. */
export type Wake =
  | { readonly what: "all" }
  | { readonly what: "workload" | "campaign"; readonly namespace: string; readonly uid: string }
  | { readonly what: "namespace" | "node"; readonly name: string };

/** Above this, a transaction wakes everybody with one notification. */
const MAX_WAKES = 64;
const ROWS_PER_INSERT = 2_000;

/** Call it in the transaction of the change, after the change. */
export async function recordChanges(tx: Tx, records: readonly NewChange[]): Promise<void> {
  if (records.length === 0) return;
  const wakes = [...new Set(records.flatMap(wakesOf))];
  const bells = JSON.stringify(wakes.length > MAX_WAKES ? ["*"] : wakes);
  for (let from = 0; from < records.length; from += ROWS_PER_INSERT) {
    const rows = records.slice(from, from + ROWS_PER_INSERT).map(({ owner: _owner, ...row }) => row);
    // Rings with each part: the same bell twice in a transaction rings once.
    await tx.execute(sql`
      with written as (
        insert into ${changes} (kind, namespace, name, uid, op, object)
        select kind, namespace, name, uid, op, object
        from jsonb_to_recordset(${JSON.stringify(rows)}::jsonb)
          as r(kind text, namespace text, name text, uid text, op text, object jsonb))
      select pg_notify(${CHANGES_CHANNEL}, '') union all
      select pg_notify(${WORK_CHANNEL}, wake) from jsonb_array_elements_text(${bells}::jsonb) as w(wake)`);
  }
}

/** Rings a bell at commit; the same bell twice in a transaction rings once. */
export async function notify(tx: Tx, channel: string, payload = ""): Promise<void> {
  await tx.execute(sql`select pg_notify(${channel}, ${payload})`);
}

function wakesOf(change: NewChange): string[] {
  // A namespace that goes away waits for the last of what it owns.
  const emptied = change.op === "DELETED" ? [`s/${change.namespace}`] : [];
  switch (change.kind) {
    case "Workload":
      return [`w/${change.namespace}/${change.uid}`, ...emptied];
    case "Task":
      return [`w/${change.namespace}/${change.owner ?? ""}`];
    case "Campaign":
      return [`c/${change.namespace}/${change.uid}`, ...emptied];
    case "Namespace":
      return [`s/${change.name}`];
    case "Node":
      return [`n/${change.name}`];
    case "CronJob":
      // Looked at by the clock.
      return [];
  }
}

/** Reads a payload of {@link WORK_CHANNEL}; one that a newer controller sent wakes for all. */
export function parseWake(payload: string | undefined): Wake {
  const [what, first = "", second = ""] = (payload ?? "").split("/");
  if (what === "w") return { what: "workload", namespace: first, uid: second };
  if (what === "c") return { what: "campaign", namespace: first, uid: second };
  if (what === "s") return { what: "namespace", name: first };
  if (what === "n") return { what: "node", name: first };
  return { what: "all" };
}
