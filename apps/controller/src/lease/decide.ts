/** Whether an agent gets its node's lease, and what of its request is news. Pure. */
import type { JsonObject } from "@bufbuild/protobuf";
import type { LeaseRenewal, NodeRow } from "@berth/store";
import type { FencedUntil } from "./fenced-until.ts";

export type LeaseDecision =
  | { readonly granted: true; readonly takeover: "none" | "restart" | "reboot" }
  /** `conflict`: two that live under one name, which an operator has to settle. */
  | { readonly granted: false; readonly why: string; readonly conflict: "NameInUse" | "OtherMachine" | undefined };

/** What the store knows of the agent that had the name last. */
export interface Holder {
  readonly row: NodeRow;
  readonly leaseFresh: boolean;
  /** Postgres' clock. */
  readonly now: Date;
  /** T of what it possibly runs that must never run twice; undefined: it runs nothing of the kind. */
  readonly fencedUntil: FencedUntil | undefined;
}

/** Is it the same agent, or one that has the word of the data root's lock that its predecessor is dead? */
export function isSuccessor(row: NodeRow, { instance, bootId, journalEpoch }: LeaseRenewal): boolean {
  if (row.instance === "" || row.instance === instance) return true;
  return row.bootId === bootId && row.journalEpoch === journalEpoch;
}

/**
 * One live agent per name, and one machine.
 *
 *  - A restarted agent (same boot, same data root) takes over at once: the lock of the data root says that its predecessor is dead.
 *  - After another boot, or with another data root, it waits until the lease has run out, and until T where the one before possibly
 *    runs what must never run twice: it may be another one that lives on, a copy of this machine or an agent beside this one.
 *    Where nothing bounds that, an operator decides.
 *  - Another machine is refused also then: the first may be cut off and run on. An operator decides, by forgetting the node.
 */
export function decideLease({ row, leaseFresh, now, fencedUntil }: Holder, renewal: LeaseRenewal): LeaseDecision {
  if (row.instance === "" || row.instance === renewal.instance) return { granted: true, takeover: "none" };
  if (row.previousInstance === renewal.instance && leaseFresh) {
    const why = `a newer agent has taken over the name ${row.name}`;
    return { granted: false, why, conflict: undefined };
  }
  const where = row.address || "an unknown address";
  if (row.machineId !== "" && renewal.machineId !== "" && row.machineId !== renewal.machineId) {
    const why =
      `the name ${row.name} belongs to another machine, at ${where}: give this one a name of ` +
      `its own (and a data root that is no copy), or, if that machine is gone for good, berth delete node ${row.name}`;
    return { granted: false, why, conflict: "OtherMachine" };
  }
  if (isSuccessor(row, renewal)) return { granted: true, takeover: "restart" };
  if (leaseFresh) {
    const why =
      `another agent at ${where} holds the name ${row.name} until ${row.leaseExpiresAt.toISOString()}: if it is another ` +
      "one that lives, give one of them a name and a data root of its own";
    return { granted: false, why, conflict: "NameInUse" };
  }
  if (fencedUntil === "unbounded") {
    const why =
      `the agent at ${where} that had the name ${row.name} possibly runs what must never run twice, and nothing ends it ` +
      `there (its stopper was not working): make sure that it is off, then berth delete node ${row.name}`;
    return { granted: false, why, conflict: "NameInUse" };
  }
  if (fencedUntil !== undefined && now < fencedUntil) {
    const why =
      `the agent at ${where} that had the name ${row.name} possibly runs what must never run twice until ` +
      `${fencedUntil.toISOString()}: this one gets the name then`;
    return { granted: false, why, conflict: undefined };
  }
  // protocol: NameGiven
  return { granted: true, takeover: row.bootId === renewal.bootId ? "restart" : "reboot" };
}

/** A conflict is shown until it has not been heard of for so long. */
export const CONFLICT_SHOWN_MS = 60_000;

export function isConflictOver({ conflict }: Pick<NodeRow, "conflict">, now: Date): boolean {
  return conflict !== null && now.getTime() - Date.parse(conflict.at) > CONFLICT_SHOWN_MS;
}

/** Does a watch want to hear of it? Renewals alone are not news. */
export function isVisibleChange({ row, now }: Pick<Holder, "row" | "now">, renewal: LeaseRenewal): boolean {
  return (
    isConflictOver(row, now) ||
    row.phase !== renewal.phase ||
    row.bootId !== renewal.bootId ||
    row.agentVersion !== renewal.agentVersion ||
    row.kernelVersion !== renewal.kernelVersion ||
    row.address !== renewal.address ||
    row.cpuMillis !== renewal.cpuMillis ||
    row.memoryBytes !== renewal.memoryBytes ||
    row.maxTasks !== renewal.maxTasks ||
    row.diskBytes !== renewal.diskBytes ||
    !sameLabels(row.agentLabels, renewal.agentLabels) ||
    !sameWords(row.runtimeHandlers, renewal.runtimeHandlers) ||
    !sameWords(row.snapshotters, renewal.snapshotters) ||
    conditionKey(row.conditions) !== conditionKey(renewal.conditions)
  );
}

/** The agent has taken more than we know to have given, by set or by job, under our own epoch: this store was put back (D5). */
export function isStoreRestored(storeEpoch: string, row: NodeRow, renewal: LeaseRenewal): boolean {
  return renewal.appliedStoreEpoch === storeEpoch && newestRevision(renewal) > row.assignmentRevision;
}

export function newestRevision({ appliedRevision, takenRevision }: LeaseRenewal): number {
  return Math.max(appliedRevision, takenRevision);
}

function sameLabels(a: Readonly<Record<string, string>>, b: Readonly<Record<string, string>>): boolean {
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => a[key] === b[key]);
}

const sameWords = (a: readonly string[], b: readonly string[]): boolean =>
  a.length === b.length && a.every((word, index) => word === b[index]);

/** Without the times, which an agent may set anew. */
function conditionKey(conditions: readonly JsonObject[]): string {
  return conditions
    .map(({ type, status, reason, message }) => JSON.stringify([type, status, reason ?? "", message ?? ""]))
    .sort((a, b) => (a < b ? -1 : 1))
    .join("\n");
}
