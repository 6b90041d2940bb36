/** A node's row, with what is counted beside it, as the message that the API gives. Pure. */
import { create, type JsonObject } from "@bufbuild/protobuf";
import { timestampFromDate, timestampFromMs } from "@bufbuild/protobuf/wkt";
import { effectiveTaints } from "@berth/model";
import {
  ConditionSchema,
  NodeDrainSchema,
  NodeDrainStatusSchema,
  NodeResourcesSchema,
  NodeSchema,
  NodeSpecSchema,
  NodeStatusSchema,
  TaintSchema,
  type Condition,
  type Node,
  type NodeDrain,
  type NodeDrainStatus,
  type NodeSpec,
} from "@berth/proto";
import { metadataOf, optional, parse, timestampOf } from "./messages.ts";
import type { NodeJournal, NodeUsage } from "./node-usage.ts";
import type { nodes } from "./schema/index.ts";

export type NodeRow = typeof nodes.$inferSelect;

const UNUSED: NodeUsage = {
  cpuMillis: 0,
  memoryBytes: 0,
  tasks: 0,
  fencedUntil: null,
  unboundedTasks: 0,
  journal: { storedSeq: 0, storedAt: null, breaks: 0 },
};

/** Does the node say that its stopper works, so that it ends fenced tasks by itself? */
export function hasStopper(row: Pick<NodeRow, "conditions">): boolean {
  return row.conditions.some((condition) => condition["type"] === "Stopper" && condition["status"] === "True");
}

export function nodeMessage(row: NodeRow, usage: NodeUsage = UNUSED): Node {
  return create(NodeSchema, {
    metadata: metadataOf({ ...row, labels: row.effectiveLabels }),
    spec: nodeSpec(row),
    status: create(NodeStatusSchema, {
      observedGeneration: BigInt(row.generation),
      phase: row.phase,
      conditions: [
        ...row.conditions.map(conditionOf),
        ...ownConditions(row),
        ...journalConditions(row.name, usage.journal),
      ],
      capacity: create(NodeResourcesSchema, {
        cpuMillis: BigInt(row.cpuMillis),
        memoryBytes: BigInt(row.memoryBytes),
        tasks: row.maxTasks,
        diskBytes: BigInt(row.diskBytes),
      }),
      allocated: create(NodeResourcesSchema, {
        cpuMillis: BigInt(usage.cpuMillis),
        memoryBytes: BigInt(usage.memoryBytes),
        tasks: usage.tasks,
      }),
      runtimeHandlers: row.runtimeHandlers,
      snapshotters: row.snapshotters,
      agentVersion: row.agentVersion,
      bootId: row.bootId,
      leaseRenewedAt: timestampFromDate(row.leaseRenewedAt),
      leaseExpiresAt: timestampFromDate(row.leaseExpiresAt),
      journalEpoch: row.journalEpoch,
      journalStoredSeq: BigInt(usage.journal.storedSeq),
      journalHeadSeq: BigInt(row.journalHeadSeq),
      assignmentRevision: BigInt(row.assignmentRevision),
      appliedRevision: BigInt(row.appliedRevision),
      tasks: usage.tasks,
      kernelVersion: row.kernelVersion,
      address: row.address,
      ...optional("drain", drainStatusOf(row)),
      ...(row.phase === "Unknown" && {
        unboundedTasks: usage.unboundedTasks,
        ...optional("fencedUntil", timestampOf(usage.fencedUntil)),
      }),
      ...journalTimes(row, usage.journal),
      journalBreaks: BigInt(usage.journal.breaks),
      taints: effectiveTaints(row).map(({ key, value, effect }) => create(TaintSchema, { key, value, effect })),
    }),
  });
}

/** What {@link parse} reads, to the millisecond, in a fraction of its time: a list of nodes has thousands of these. */
export function conditionOf(json: JsonObject): Condition {
  const { type = "", status = "", reason = "", message = "", changedAt } = json as Readonly<Record<string, string>>;
  const at = changedAt === undefined ? {} : { changedAt: timestampFromMs(Date.parse(changedAt)) };
  return create(ConditionSchema, { type, status, reason, message, ...at });
}

/** What an operator says of a node. */
export function nodeSpec(
  row: Pick<NodeRow, "cordoned" | "taints" | "cpuOvercommit" | "memoryOvercommit" | "drain">,
): NodeSpec {
  const { cordoned, taints, cpuOvercommit: cpuPercent, memoryOvercommit: memoryPercent } = row;
  const overcommit = cpuPercent === 0 && memoryPercent === 0 ? undefined : { cpuPercent, memoryPercent };
  return create(NodeSpecSchema, {
    cordoned,
    taints: taints.map(({ addedAt, ...taint }) => ({ ...taint, addedAt: timestampFromDate(new Date(addedAt)) })),
    ...optional("overcommit", overcommit),
    ...optional("drain", drainOf(row)),
  });
}

export function drainOf(row: Pick<NodeRow, "drain">): NodeDrain | undefined {
  return row.drain ? parse(NodeDrainSchema, row.drain) : undefined;
}

export function drainStatusOf(row: NodeRow): NodeDrainStatus | undefined {
  return row.drainStatus ? parse(NodeDrainStatusSchema, row.drainStatus) : undefined;
}

function journalTimes(row: NodeRow, { storedSeq, storedAt }: NodeJournal) {
  const journalStoredAt = timestampOf(storedAt);
  const behind = row.journalHeadSeq > storedSeq;
  return {
    ...optional("journalStoredAt", journalStoredAt),
    ...optional("journalBehindSince", behind ? (journalStoredAt ?? timestampFromDate(row.createdAt)) : undefined),
  };
}

/** Shown only where something is wrong: most journals are whole. */
function journalConditions(node: string, { breaks, lastBreak }: NodeJournal): Condition[] {
  if (lastBreak === undefined) return [];
  const { epoch, seq, at } = lastBreak;
  const message =
    `entry ${seq} of epoch ${epoch} does not follow from the one before it (${breaks} of its kind so far); ` +
    `see berth journal verify ${node}`;
  return [
    create(ConditionSchema, {
      type: "JournalIntact",
      status: "False",
      reason: "ChainBroken",
      message,
      changedAt: timestampFromDate(at),
    }),
  ];
}

/** What the controller knows of a node that its agent cannot say. */
function ownConditions(row: NodeRow): Condition[] {
  const { conflict, evictionHeld, silentSince } = row;
  const silent = row.phase === "Unknown";
  const since = silent && silentSince !== null ? { changedAt: timestampFromDate(silentSince) } : {};
  const lease = silent
    ? { status: "False", reason: "LeaseExpired", message: `not heard since ${row.leaseRenewedAt.toISOString()}` }
    : { status: "True", reason: "LeaseRenewed", message: "" };
  return [
    create(ConditionSchema, { type: "LeaseHeld", ...lease, ...since }),
    ...(evictionHeld === "" || !silent
      ? []
      : [
          create(ConditionSchema, {
            type: "EvictionHeld",
            status: "True",
            reason: evictionHeld,
            message: holdWords(row),
          }),
        ]),
    ...holdingsCondition(row),
    ...(conflict === null
      ? []
      : [
          create(ConditionSchema, {
            type: "IdentityConflict",
            status: "True",
            reason: conflict.reason,
            message: `an agent at ${conflict.address || "an unknown address"} is refused: ${conflict.message}`,
          }),
        ]),
  ];
}

/** After a restore, until the node has shown what it runs. */
function holdingsCondition({ name, holdings }: NodeRow): Condition[] {
  if (holdings !== "wanted" && holdings !== "shown") return [];
  const message =
    holdings === "shown"
      ? "it has shown what it runs; the store is to be confirmed"
      : `the store was put back: this node has not shown yet that it runs only what the store names; if its host is off for ` +
        `good: berth store release EPOCH ${name}`;
  const reason = holdings === "shown" ? "AwaitsConfirmation" : "HoldingsUnknown";
  return [create(ConditionSchema, { type: "StoreUnconfirmed", status: "True", reason, message })];
}

/** In a sentence, with the way out. */
function holdWords({ name, evictionHeld }: NodeRow): string {
  const out = `if this host is off for good, berth delete node ${name}`;
  switch (evictionHeld) {
    case "MostOfFleetSilent":
      return `most of the fleet fell silent together: nothing is replaced until they are back; ${out}`;
    case "MostOfDomainSilent":
      return `most of its failure domain fell silent together: nothing of it is replaced until they are back; ${out}`;
    default:
      return "so many nodes are silent that their tasks are replaced one node after the other";
  }
}
