/** Rows of nodes. What agents say of themselves is written by `leases.ts`. */
import { create, toJson, type JsonObject } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { effectiveTaints, type Requirement } from "@berth/model";
import {
  ConditionSchema,
  NodeDrainSchema,
  NodeDrainStatusSchema,
  NodeResourcesSchema,
  NodeSchema,
  NodeSpecSchema,
  NodeStatusSchema,
  type Condition,
  TaintSchema,
  type Node,
  type NodeDrain,
  type NodeDrainStatus,
  type NodeSpec,
} from "@berth/proto";
import { and, asc, eq, gt, sql, type SQL } from "drizzle-orm";
import type { Tx } from "./database.ts";
import { recordChanges, type ChangeOp } from "./feed/record.ts";
import { metadataOf, optional, parse, timestampOf } from "./messages.ts";
import { pageKey, pageLimit, pageOf, type Page, type PageRequest } from "./page.ts";
import { nodes, type NodeTaint } from "./schema/index.ts";
import { selectorSql } from "./selector-sql.ts";

export type NodeRow = typeof nodes.$inferSelect;

/** What a node's tasks declare, and how far its journal is stored. */
export interface NodeUsage {
  readonly cpuMillis: number;
  readonly memoryBytes: number;
  readonly tasks: number;
  readonly journal: NodeJournal;
}

/** What is stored of a node's journal: of its current epoch, and breaks of all. */
export interface NodeJournal {
  readonly storedSeq: number;
  readonly storedAt: Date | null;
  readonly breaks: number;
  /** Where the chain broke last. */
  readonly lastBreak?: { readonly epoch: string; readonly seq: number; readonly at: Date };
}

const UNUSED: NodeUsage = {
  cpuMillis: 0,
  memoryBytes: 0,
  tasks: 0,
  journal: { storedSeq: 0, storedAt: null, breaks: 0 },
};

/** Phases in which a task holds its share of the node no longer, unless another attempt is to follow. */
export const ENDED_PHASES = ["Succeeded", "Failed", "Stopped"] as const;

export function nodeMessage(row: NodeRow, usage: NodeUsage = UNUSED): Node {
  return create(NodeSchema, {
    metadata: metadataOf({ ...row, labels: row.effectiveLabels }),
    spec: nodeSpec(row),
    status: create(NodeStatusSchema, {
      observedGeneration: BigInt(row.generation),
      phase: row.phase,
      conditions: [
        ...row.conditions.map((condition) => parse(ConditionSchema, condition)),
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
      ...journalTimes(row, usage.journal),
      journalBreaks: BigInt(usage.journal.breaks),
      taints: effectiveTaints(row).map(({ key, value, effect }) => create(TaintSchema, { key, value, effect })),
    }),
  });
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
    ...(evictionHeld === ""
      ? []
      : [
          create(ConditionSchema, {
            type: "EvictionHeld",
            status: "True",
            reason: evictionHeld,
            message: holdWords(row),
          }),
        ]),
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

export async function getNode(tx: Tx, name: string): Promise<NodeRow | undefined> {
  const [row] = await tx.select().from(nodes).where(eq(nodes.name, name));
  return row;
}

/** Rows locked in the order of their names. */
export function lockNodes(tx: Tx, names: readonly string[]): Promise<NodeRow[]> {
  return tx.select().from(nodes).where(nodeIn(names)).orderBy(asc(nodes.name)).for("update");
}

export async function lockNode(tx: Tx, name: string): Promise<NodeRow | undefined> {
  const [row] = await lockNodes(tx, [name]);
  return row;
}

export async function listNodes(
  tx: Tx,
  query: PageRequest & { readonly selector?: readonly Requirement[] },
): Promise<Page<NodeRow>> {
  const limit = pageLimit(query);
  const after = pageKey(query, 1);
  const rows = await tx
    .select()
    .from(nodes)
    .where(and(selectorSql(nodes.effectiveLabels, query.selector ?? []), after && gt(nodes.name, after[0]!)))
    .orderBy(asc(nodes.name))
    .limit(limit + 1);
  return pageOf(rows, limit, (row) => [row.name]);
}

/** These nodes, as they are now. */
export function nodesByName(tx: Tx, names: readonly string[]): Promise<NodeRow[]> {
  return tx.select().from(nodes).where(nodeIn(names));
}

/** Does the node say that its stopper works, so that it ends fenced tasks by itself? */
export function hasStopper(row: Pick<NodeRow, "conditions">): boolean {
  return row.conditions.some((condition) => condition["type"] === "Stopper" && condition["status"] === "True");
}

/** What a look at a workload needs of the nodes; there may be ten thousand, so it is not all of their rows. */
export type FleetNodeRow = Pick<
  NodeRow,
  | "name"
  | "phase"
  | "silentSince"
  | "effectiveLabels"
  | "cordoned"
  | "drain"
  | "drainStartedAt"
  | "taints"
  | "conditions"
>;

export function fleetNodes(tx: Tx): Promise<FleetNodeRow[]> {
  const { name, phase, silentSince, effectiveLabels, cordoned, drain, drainStartedAt, taints, conditions } = nodes;
  const columns = { name, phase, silentSince, effectiveLabels, cordoned, drain, drainStartedAt, taints, conditions };
  return tx.select(columns).from(nodes).orderBy(asc(name));
}

/** Every node, for placement and campaigns. */
export function allNodes(tx: Tx, where?: SQL): Promise<NodeRow[]> {
  return tx.select().from(nodes).where(where).orderBy(asc(nodes.name));
}

export async function nodeUsage(tx: Tx, names: readonly string[]): Promise<ReadonlyMap<string, NodeUsage>> {
  const rows = await tx.execute<{
    name: string;
    cpu: string;
    memory: string;
    tasks: number;
    stored: string;
    stored_at: string | null;
    breaks: string;
    break_epoch: string | null;
    break_seq: string | null;
    break_at: string | null;
  }>(sql`
    select n.name, coalesce(t.cpu, 0)::text as cpu, coalesce(t.memory, 0)::text as memory,
      coalesce(t.tasks, 0) as tasks, coalesce(j.stored_seq, 0)::text as stored, j.updated_at::text as stored_at,
      coalesce(b.breaks, 0)::text as breaks, b.epoch as break_epoch, b.seq::text as break_seq, b.at::text as break_at
    from nodes n
    left join lateral (
      select sum(cpu_millis) as cpu, sum(memory_bytes) as memory, count(*)::int as tasks
      from tasks where node = n.name
        and (phase not in ('Succeeded', 'Failed', 'Stopped') or next_attempt_at is not null)) t on true
    left join journal_state j on j.node = n.name and j.epoch = n.journal_epoch
    left join lateral (
      select sum(breaks) over () as breaks, epoch, last_break_seq as seq, last_break_at as at
      from journal_state where node = n.name and breaks > 0 order by last_break_at desc limit 1) b on true
    where n.name in (select jsonb_array_elements_text(${JSON.stringify(names)}::jsonb))`);
  return new Map(
    rows.map((row) => [
      row.name,
      {
        cpuMillis: Number(row.cpu),
        memoryBytes: Number(row.memory),
        tasks: row.tasks,
        journal: {
          storedSeq: Number(row.stored),
          storedAt: row.stored_at === null ? null : new Date(row.stored_at),
          breaks: Number(row.breaks),
          ...(row.break_epoch === null
            ? {}
            : { lastBreak: { epoch: row.break_epoch, seq: Number(row.break_seq), at: new Date(row.break_at!) } }),
        },
      },
    ]),
  );
}

/** Messages with everything that is counted from elsewhere. */
export async function nodeMessages(tx: Tx, rows: readonly NodeRow[]): Promise<Node[]> {
  const usage = await nodeUsage(
    tx,
    rows.map((row) => row.name),
  );
  return rows.map((row) => nodeMessage(row, usage.get(row.name)));
}

export interface NodePatch {
  readonly labels?: Record<string, string>;
  readonly cordoned?: boolean;
  readonly taints?: NodeTaint[];
  readonly cpuOvercommit?: number;
  readonly memoryOvercommit?: number;
  /** Null ends the drain; a new one begins now. */
  readonly drain?: NodeDrain | null;
}

/** What an operator changes, of a row that this transaction has locked. */
export async function updateNode(tx: Tx, row: NodeRow, { drain, ...patch }: NodePatch): Promise<NodeRow> {
  const [updated] = await tx
    .update(nodes)
    .set({
      ...patch,
      ...(drain === undefined ? {} : drainColumns(drain)),
      generation: row.generation + (drain === undefined && Object.keys(patch).every((key) => key === "labels") ? 0 : 1),
      resourceVersion: row.resourceVersion + 1,
    })
    .where(eq(nodes.name, row.name))
    .returning();
  await recordNodes(tx, [updated!], "MODIFIED");
  return updated!;
}

function drainColumns(drain: NodeDrain | null): Pick<NodeRow, "drain" | "drainStartedAt" | "drainStatus"> {
  if (drain === null) return { drain: null, drainStartedAt: null, drainStatus: null };
  return { drain: toJson(NodeDrainSchema, drain) as JsonObject, drainStartedAt: new Date(), drainStatus: null };
}

/** How far its drain is. */
export async function setDrainStatus(tx: Tx, row: NodeRow, status: NodeDrainStatus): Promise<NodeRow> {
  const [updated] = await tx
    .update(nodes)
    .set({
      drainStatus: toJson(NodeDrainStatusSchema, status) as JsonObject,
      resourceVersion: row.resourceVersion + 1,
    })
    .where(eq(nodes.name, row.name))
    .returning();
  await recordNodes(tx, [updated!], "MODIFIED");
  return updated!;
}

/** Nodes whose tasks are to leave, or have. */
export function drainingNodes(tx: Tx): Promise<NodeRow[]> {
  return tx
    .select()
    .from(nodes)
    .where(sql`${nodes.drain} is not null`)
    .orderBy(asc(nodes.name));
}

/** Something that is told of these nodes beside their rows has changed: watches are to see it. */
export async function touchNodes(tx: Tx, names: readonly string[]): Promise<void> {
  if (names.length === 0) return;
  const rows = await lockNodes(tx, names);
  const resourceVersion = sql`${nodes.resourceVersion} + 1`;
  await tx.update(nodes).set({ resourceVersion }).where(nodeIn(names));
  await recordNodes(
    tx,
    rows.map((row) => ({ ...row, resourceVersion: row.resourceVersion + 1 })),
    "MODIFIED",
  );
}

/** Forgets a node's row and its journal's watermarks. Its tasks are the caller's business, before. */
export async function removeNode(tx: Tx, row: NodeRow): Promise<void> {
  await recordNodes(tx, [row], "DELETED");
  await tx.execute(sql`
    insert into forgotten_nodes (name, assignment_revision) select name, assignment_revision + 1 from nodes
    where name = ${row.name}
    on conflict (name) do update set assignment_revision = excluded.assignment_revision`);
  await tx.execute(sql`delete from journal_state where node = ${row.name}`);
  await tx.execute(sql`delete from outbox where node = ${row.name}`);
  await tx.execute(sql`delete from node_images where node = ${row.name}`);
  await tx.execute(sql`delete from campaign_targets where node = ${row.name}`);
  await tx.delete(nodes).where(eq(nodes.name, row.name));
}

export async function recordNodes(tx: Tx, rows: readonly NodeRow[], op: ChangeOp): Promise<void> {
  if (rows.length === 0) return;
  const messages = await nodeMessages(tx, rows);
  await recordChanges(
    tx,
    rows.map((row, index) => ({
      kind: "Node",
      namespace: "",
      name: row.name,
      uid: row.uid,
      op,
      object: toJson(NodeSchema, messages[index]!) as JsonObject,
    })),
  );
}

export function nodeIn(names: readonly string[]): SQL {
  return sql`${nodes.name} in (select jsonb_array_elements_text(${JSON.stringify(names)}::jsonb))`;
}
