/** Whether an agent gets its node's lease, and what of its request is news. Pure. */
import type { JsonObject } from "@bufbuild/protobuf";
import type { LeaseRenewal, NodeRow } from "@berth/store";

export type LeaseDecision =
  | { readonly granted: true; readonly takeover: "none" | "restart" | "reboot" }
  | { readonly granted: false; readonly why: string };

/**
 * One live agent per name. A restarted agent (same boot) takes over at once, for its predecessor is dead; another machine, or
 * the same one after a reboot, waits until the lease has run out.
 */
export function decideLease(row: NodeRow, leaseFresh: boolean, renewal: LeaseRenewal): LeaseDecision {
  if (row.instance === "" || row.instance === renewal.instance) return { granted: true, takeover: "none" };
  if (row.previousInstance === renewal.instance && leaseFresh) {
    return { granted: false, why: `a newer agent has taken over the name ${row.name}` };
  }
  if (row.bootId === renewal.bootId) return { granted: true, takeover: "restart" };
  if (!leaseFresh) return { granted: true, takeover: "reboot" };
  const until = row.leaseExpiresAt.toISOString();
  return {
    granted: false,
    why: `another agent at ${row.address || "an unknown address"} holds the name ${row.name} until ${until}`,
  };
}

/** Does a watch want to hear of it? Renewals alone are not news. */
export function isVisibleChange(row: NodeRow, renewal: LeaseRenewal): boolean {
  return (
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

/** The agent has taken over more than we know to have given, under our own epoch: this store was put back (D5). */
export function isStoreRestored(storeEpoch: string, row: NodeRow, renewal: LeaseRenewal): boolean {
  return renewal.appliedStoreEpoch === storeEpoch && renewal.appliedRevision > row.assignmentRevision;
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
