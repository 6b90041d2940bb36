/**
 * Answers many lease requests by one transaction. The answer is the lease, so it is given only after the commit.
 *
 * A node that is heard for the first time is registered. An agent that is ahead of this store shows that the store was put
 * back from a copy: a new store epoch begins, and nothing is stopped for being absent until an operator confirms (D5).
 */
import { create } from "@bufbuild/protobuf";
import { LeaseReplySchema, type LeaseReply } from "@berth/proto";
import {
  getStoreMeta,
  insertEvents,
  insertNewNodes,
  journalStates,
  lockLeases,
  renewLeases,
  setConflict,
  wantsHoldings,
  type LeasedNode,
  type LeaseRenewal,
  type NewEvent,
  type NodeRow,
  type RenewedLease,
  type StoreMeta,
  type Tx,
} from "@berth/store";
import { beginHold, type HoldTerms } from "../restore/begin.ts";
import type { LeaseTerms } from "./terms.ts";
import {
  decideLease,
  isStoreRestored,
  isSuccessor,
  isVisibleChange,
  newestRevision,
  type LeaseDecision,
} from "./decide.ts";
import { fencedUntil } from "./fenced-until.ts";
import { beginUnderNewNumbers } from "./name-given.ts";

export interface RenewOutcome {
  /** In the order of the requests. */
  readonly replies: readonly LeaseReply[];
  /** Nodes that were silent and are heard again. */
  readonly returned: readonly string[];
  /** The resource versions of the rows that now say what was granted, by node. */
  readonly versions: ReadonlyMap<string, number>;
}

export type RenewTerms = LeaseTerms & HoldTerms;

/** Requests of different nodes; two of one node belong into two batches. */
export async function renewBatch(tx: Tx, renewals: readonly LeaseRenewal[], terms: RenewTerms): Promise<RenewOutcome> {
  const events: NewEvent[] = [];
  const nodes = await lockAll(tx, renewals, events);
  const meta = await currentMeta(tx, renewals, nodes, terms);
  const decisions = await decide(tx, renewals, nodes, terms);
  const granted = renewals.filter((renewal) => decisions.get(renewal.name)!.granted);
  const visible = granted.filter((renewal) => isVisibleChange(nodes.get(renewal.name)!, renewal));
  for (const renewal of granted)
    events.push(...eventsOf(nodes.get(renewal.name)!, renewal, decisions.get(renewal.name)!));
  // protocol: LeaseGranted
  const news = new Set(visible.map((renewal) => renewal.name));
  await renewLeases(tx, granted, terms.ttlMs, news);
  await beginUnderNewNumbers(tx, granted.filter((renewal) => isOtherRoot(nodes.get(renewal.name)!.row, renewal)).map(({ name }) => name)); // prettier-ignore
  await noteConflicts(tx, renewals, nodes, decisions, events);
  await insertEvents(tx, events);
  const stored = await storedByNode(tx, granted);
  return {
    replies: renewals.map((renewal) => {
      const decision = decisions.get(renewal.name)!;
      if (!decision.granted) return create(LeaseReplySchema, { refused: decision.why });
      const { row } = nodes.get(renewal.name)!;
      const told = { ...meta, holdingsWanted: wantsHoldings(row, meta), stored: stored.get(renewal.name) ?? {} };
      return leaseReply({ ...row, ...told }, renewal.journalEpoch, terms);
    }),
    versions: new Map(
      granted.map(({ name }) => [name, nodes.get(name)!.row.resourceVersion + (news.has(name) ? 1 : 0)]),
    ),
    // protocol: NodeHeard
    returned: granted.map((r) => nodes.get(r.name)!.row).filter((row) => row.phase === "Unknown").map((row) => row.name), // prettier-ignore
  };
}

/** A second agent under a name is shown with the node: as a condition, and as an event the first time. */
async function noteConflicts(
  tx: Tx,
  renewals: readonly LeaseRenewal[],
  nodes: ReadonlyMap<string, LeasedNode>,
  decisions: ReadonlyMap<string, LeaseDecision>,
  events: NewEvent[],
): Promise<void> {
  for (const { name, instance, address } of renewals) {
    const decision = decisions.get(name)!;
    if (decision.granted || decision.conflict === undefined) continue;
    const { row, now } = nodes.get(name)!;
    const known = row.conflict?.instance === instance && row.conflict.reason === decision.conflict;
    const at = now.toISOString();
    const since = (known ? row.conflict?.since : undefined) ?? at;
    const conflict = { instance, address, reason: decision.conflict, message: decision.why, at, since };
    await setConflict(tx, row, conflict, !known);
    if (known) continue;
    const message = `an agent at ${address || "an unknown address"} is refused: ${decision.why}`;
    const about = { kind: "Node", name, uid: row.uid, node: name, severity: "Warning" } as const;
    events.push({ ...about, topic: "/nodes/conflict", reason: decision.conflict, message });
  }
}

async function lockAll(
  tx: Tx,
  renewals: readonly LeaseRenewal[],
  events: NewEvent[],
): Promise<ReadonlyMap<string, LeasedNode>> {
  const names = renewals.map((renewal) => renewal.name);
  let locked = await lockLeases(tx, names);
  const known = new Set(locked.map(({ row }) => row.name));
  const unknown = renewals.filter((renewal) => !known.has(renewal.name));
  if (unknown.length > 0) {
    for (const name of await insertNewNodes(tx, unknown)) {
      events.push({
        topic: "/nodes/join",
        kind: "Node",
        name,
        node: name,
        reason: "Joined",
        message: `node ${name} joined`,
      });
    }
    locked = await lockLeases(tx, names);
  }
  return new Map(locked.map((node) => [node.row.name, node]));
}

/** The agent that had the name last had another data root. */
const isOtherRoot = (row: NodeRow, renewal: LeaseRenewal): boolean =>
  row.instance !== "" && row.journalEpoch !== "" && row.journalEpoch !== renewal.journalEpoch;

async function decide(
  tx: Tx,
  renewals: readonly LeaseRenewal[],
  nodes: ReadonlyMap<string, LeasedNode>,
  terms: RenewTerms,
): Promise<ReadonlyMap<string, LeaseDecision>> {
  const contested = renewals.flatMap((renewal) => {
    const { row } = nodes.get(renewal.name)!;
    return isSuccessor(row, renewal) ? [] : [row];
  });
  const until = await fencedUntil(tx, contested, terms);
  return new Map(
    renewals.map((renewal) => {
      const { name } = renewal;
      return [name, decideLease({ ...nodes.get(name)!, fencedUntil: until.get(name) }, renewal)];
    }),
  );
}

/** Begins a new epoch when one of the nodes, or the database itself, shows that it was put back. */
async function currentMeta(
  tx: Tx,
  renewals: readonly LeaseRenewal[],
  nodes: ReadonlyMap<string, LeasedNode>,
  terms: RenewTerms,
): Promise<StoreMeta> {
  const meta = await getStoreMeta(tx);
  const ahead = renewals.find((renewal) => isStoreRestored(meta.storeEpoch, nodes.get(renewal.name)!.row, renewal));
  if (ahead === undefined && !meta.copy) return meta;
  const known = ahead === undefined ? undefined : nodes.get(ahead.name)!.row.assignmentRevision;
  const found =
    ahead === undefined
      ? { why: "it is another database than the one that it was" }
      : {
          why: `node ${ahead.name} has taken assignment revision ${newestRevision(ahead)}, this store knows ${known}`,
          node: ahead.name,
        };
  await beginHold(tx, meta.storeEpoch, terms, found);
  return await getStoreMeta(tx);
}

function eventsOf({ row }: LeasedNode, renewal: LeaseRenewal, decision: LeaseDecision): NewEvent[] {
  const about = { kind: "Node", name: row.name, uid: row.uid, node: row.name } as const;
  const events: NewEvent[] = [];
  if (decision.granted && decision.takeover !== "none") {
    const reason = decision.takeover === "restart" ? "AgentRestarted" : "Rebooted";
    const message = `agent ${renewal.instance} follows ${row.instance}`;
    events.push({ ...about, topic: "/nodes/agent", reason, message });
  }
  if (row.phase === "Unknown" && row.silentSince !== null) {
    const message = `silent since ${row.silentSince.toISOString()}`;
    events.push({ ...about, topic: "/nodes/ready", reason: "HeardAgain", message });
  }
  return events;
}

async function storedByNode(
  tx: Tx,
  renewals: readonly LeaseRenewal[],
): Promise<ReadonlyMap<string, Record<string, number>>> {
  const byNode = new Map<string, Record<string, number>>();
  for (const { node, epoch, storedSeq } of await journalStates(
    tx,
    renewals.map((renewal) => renewal.name),
  )) {
    byNode.set(node, { ...byNode.get(node), [epoch]: storedSeq });
  }
  return byNode;
}

/** What an agent whose lease was renewed is told. */
export function leaseReply(renewed: Omit<RenewedLease, "name">, journalEpoch: string, terms: RenewTerms): LeaseReply {
  const journalStored = Object.fromEntries(
    Object.entries(renewed.stored).map(([epoch, storedSeq]) => [epoch, BigInt(storedSeq)]),
  );
  return create(LeaseReplySchema, {
    ttlMs: BigInt(terms.ttlMs),
    renewAfterMs: BigInt(terms.renewMs),
    storeEpoch: renewed.storeEpoch,
    revision: BigInt(renewed.assignmentRevision),
    journalEpoch,
    journalStoredSeq: journalStored[journalEpoch] ?? 0n,
    shard: renewed.shard,
    journalStored,
    mirrorsRevision: BigInt(renewed.mirrorsRevision),
    holdingsWanted: renewed.holdingsWanted,
    held: renewed.held,
    fenceSlackMs: BigInt(terms.slackMs),
  });
}
