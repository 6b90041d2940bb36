/**
 * Desired state and what is known of it: namespaces, nodes, workloads, tasks, campaigns.
 *
 * What queries filter, order or count by is a column; the rest of a spec or status is its message as JSON. A task's status
 * is all columns, because many tasks are moved by one statement.
 */
import { sql } from "drizzle-orm";
import type { JsonObject } from "@bufbuild/protobuf";
import {
  bigserial,
  boolean,
  index,
  integer,
  jsonb,
  pgTable,
  primaryKey,
  smallint,
  text,
  uniqueIndex,
  uuid,
} from "drizzle-orm/pg-core";
import { counter, labels, message, resourceColumns, strings, time, xid8 } from "./columns.ts";
import type { NodeTaint } from "./placement.ts";

export const namespaces = pgTable("namespaces", {
  ...resourceColumns,
  name: text("name").primaryKey(),
  spec: message("spec").notNull().default({}),
  observedGeneration: counter("observed_generation").notNull().default(0),
});

export const registryMirrors = pgTable("registry_mirrors", {
  ...resourceColumns,
  name: text("name").primaryKey(),
  /** Of the spec; one mirror speaks for a registry. */
  registry: text("registry").notNull().unique(),
  spec: message("spec").notNull().default({}),
});

export interface NodeConflict {
  readonly instance: string;
  readonly address: string;
  /** NameInUse or OtherMachine. */
  readonly reason: string;
  readonly message: string;
  /** When it was refused last. */
  readonly at: string;
  /** When it was refused first. */
  readonly since?: string;
}

export const nodes = pgTable(
  "nodes",
  {
    ...resourceColumns,
    name: text("name").primaryKey(),
    /** What the agent says of itself; `labels` are the operator's and win. */
    agentLabels: labels("agent_labels").notNull().default({}),
    effectiveLabels: labels("effective_labels")
      .notNull()
      .generatedAlwaysAs(sql`agent_labels || labels`),
    cordoned: boolean("cordoned").notNull().default(false),
    /** A berth.v1.NodeDrain, while its tasks are to move elsewhere; when that was asked for; how far it is. */
    drain: message("drain"),
    drainStartedAt: time("drain_started_at"),
    drainStatus: message("drain_status"),
    /** The operator's: berth.v1.Taint. Those by condition follow from the row (`effectiveTaints`). */
    taints: jsonb("taints").$type<NodeTaint[]>().notNull().default([]),
    /** In percent; 0: the fleet's. */
    cpuOvercommit: integer("cpu_overcommit").notNull().default(0),
    memoryOvercommit: integer("memory_overcommit").notNull().default(0),
    /** Ready, NotReady or Unknown. */
    phase: text("phase").notNull(),
    conditions: jsonb("conditions").$type<JsonObject[]>().notNull().default([]),
    cpuMillis: counter("cpu_millis").notNull().default(0),
    memoryBytes: counter("memory_bytes").notNull().default(0),
    maxTasks: integer("max_tasks").notNull().default(0),
    diskBytes: counter("disk_bytes").notNull().default(0),
    runtimeHandlers: strings("runtime_handlers").notNull().default([]),
    snapshotters: strings("snapshotters").notNull().default([]),
    agentVersion: text("agent_version").notNull().default(""),
    /** What it may be sent that earlier builds do not understand. */
    features: strings("features").notNull().default([]),
    kernelVersion: text("kernel_version").notNull().default(""),
    address: text("address").notNull().default(""),
    bootId: text("boot_id").notNull().default(""),
    /** Of the agent that holds the lease. */
    instance: text("instance").notNull().default(""),
    /** The one before: it has been taken over from, and does not get the lease back. */
    previousInstance: text("previous_instance").notNull().default(""),
    leaseRenewedAt: time("lease_renewed_at").notNull(),
    leaseExpiresAt: time("lease_expires_at").notNull(),
    /** Of the machine that the name belongs to; empty: not known. */
    machineId: text("machine_id").notNull().default(""),
    /** The last agent that was refused this name although another holds it. */
    conflict: jsonb("conflict").$type<NodeConflict>(),
    /** Why its tasks are not replaced though it has been silent for long; empty: they may be, or it is not. Of a node that is heard: until it is told. */
    evictionHeld: text("eviction_held").notNull().default(""),
    /** When the node fell silent; null while it is heard. */
    silentSince: time("silent_since"),
    /** As the newest lease request said. What is stored of it is in `journal_state`. */
    journalEpoch: text("journal_epoch").notNull().default(""),
    journalHeadSeq: counter("journal_head_seq").notNull().default(0),
    /** Raised in the transaction that changes what is assigned to the node (D5). */
    assignmentRevision: counter("assignment_revision").notNull().default(0),
    appliedRevision: counter("applied_revision").notNull().default(0),
    appliedStoreEpoch: text("applied_store_epoch").notNull().default(""),
    /** After a restore: wanted, shown, clean; empty: nothing is asked of it (`restore.ts`). */
    holdings: text("holdings").notNull().default(""),
    shard: smallint("shard").notNull(),
  },
  (t) => [
    // Asked for at each round of the placement, and hardly ever any.
    index("nodes_no_execute")
      .on(t.name)
      .where(sql`taints @> '[{"effect":"NoExecute"}]'`),
  ],
);

/** Nodes that were forgotten, so that one that comes back goes on from its revision instead of seeming ahead of us (D5). */
export const forgottenNodes = pgTable("forgotten_nodes", {
  name: text("name").primaryKey(),
  assignmentRevision: counter("assignment_revision").notNull(),
});

export const workloads = pgTable(
  "workloads",
  {
    ...resourceColumns,
    uid: uuid("uid").primaryKey(),
    namespace: text("namespace").notNull(),
    name: text("name").notNull(),
    spec: message("spec").notNull(),
    status: message("status").notNull().default({}),
    /** Of its tasks, for the order in which they are placed. */
    priority: integer("priority")
      .notNull()
      .generatedAlwaysAs(sql`coalesce((spec -> 'placement' ->> 'priority')::int, 0)`),
    /** Of the spec, in `workload_revisions`. */
    revision: counter("revision").notNull().default(1),
    /** Rollouts are held; not part of the spec, so that applying a manifest again does not let them go. */
    paused: boolean("paused").notNull().default(false),
  },
  (t) => [uniqueIndex("workloads_name").on(t.namespace, t.name)],
);

/** What workloads' tasks were, are and are to become: all of a spec but how many and how they are rolled out. */
export const workloadRevisions = pgTable(
  "workload_revisions",
  {
    workloadUid: uuid("workload_uid").notNull(),
    revision: counter("revision").notNull(),
    /** Of the workload when it was made; its tasks carry it as `workload_generation`. */
    generation: counter("generation").notNull(),
    /** A berth.v1.WorkloadSpec. */
    template: message("template").notNull(),
    /** Every task begins anew for it, though its container is the same. */
    restart: boolean("restart").notNull().default(false),
    cause: text("cause").notNull().default(""),
    createdAt: time("created_at").notNull().defaultNow(),
  },
  (t) => [primaryKey({ columns: [t.workloadUid, t.revision] })],
);

export const tasks = pgTable(
  "tasks",
  {
    ...resourceColumns,
    uid: uuid("uid").primaryKey(),
    namespace: text("namespace").notNull(),
    name: text("name").notNull(),
    workload: text("workload").notNull(),
    workloadUid: uuid("workload_uid").notNull(),
    workloadGeneration: counter("workload_generation").notNull(),
    /** -1 for everyNode. */
    slot: integer("slot").notNull(),
    /** The only node it may be placed on, for everyNode. */
    pinnedNode: text("pinned_node"),
    /** Null until placed. */
    node: text("node"),
    /** Where room is being made for it, while it has no node. */
    nominatedNode: text("nominated_node"),
    /** The record that tells why it is where it is. */
    decisionId: counter("decision_id"),
    container: message("container").notNull(),
    /** Run; Leave, which runs until the task that took its slot does; or Stop. Its node knows Run and Stop. */
    desired: text("desired").notNull().default("Run"),
    /** Its node ends it when the lease runs out: onNodeLoss was stopThenReplace when this execution was made. */
    fence: boolean("fence").notNull().default(false),
    /** What the container declares, as placement counts it. */
    cpuMillis: counter("cpu_millis").notNull().default(0),
    memoryBytes: counter("memory_bytes").notNull().default(0),
    /** `tcp/8080`, of the node. */
    hostPorts: strings("host_ports").notNull().default([]),
    observedGeneration: counter("observed_generation").notNull().default(0),
    attempt: integer("attempt").notNull().default(1),
    phase: text("phase").notNull().default("Pending"),
    reason: text("reason").notNull().default(""),
    message: text("message").notNull().default(""),
    certainty: text("certainty").notNull().default("observed"),
    possiblyUntil: time("possibly_until"),
    exitCode: integer("exit_code"),
    oomKilled: boolean("oom_killed").notNull().default(false),
    startedAt: time("started_at"),
    finishedAt: time("finished_at"),
    addresses: strings("addresses").notNull().default([]),
    restarts: integer("restarts").notNull().default(0),
    imageDigest: text("image_digest").notNull().default(""),
    nextAttemptAt: time("next_attempt_at"),
    /** After which ends of this execution another begins where it is (`BeginsAgain` of libs/model): until then it holds its room. */
    beginsAgain: text("begins_again").notNull().default("always"),
    /** Of a task that is to stop: its slot stays taken until nothing is left of it, for two must not run at a time. */
    holdsSlot: boolean("holds_slot").notNull().default(false),
    /** The agent holds nothing of this execution any more. */
    removed: boolean("removed").notNull().default(false),
    /** What its probes last said: starting, healthy, unhealthy; empty when it has none. */
    health: text("health").notNull().default(""),
    /** Since when this execution has been available, by our clock; null while it is not. */
    availableSince: time("available_since"),
    /** Failures in a row, for the backoff of restarts. */
    failures: integer("failures").notNull().default(0),
  },
  (t) => [
    uniqueIndex("tasks_name").on(t.namespace, t.name),
    uniqueIndex("tasks_slot")
      .on(t.workloadUid, t.slot)
      .where(sql`desired = 'Run' and slot >= 0`),
    uniqueIndex("tasks_pinned_node")
      .on(t.workloadUid, t.pinnedNode)
      .where(sql`desired = 'Run' and pinned_node is not null`),
    index("tasks_workload").on(t.workloadUid),
    index("tasks_node").on(t.node),
    index("tasks_unplaced")
      .on(t.createdAt)
      .where(sql`node is null and desired = 'Run'`),
    index("tasks_next_attempt")
      .on(t.nextAttemptAt)
      .where(sql`next_attempt_at is not null`),
    index("tasks_unreachable")
      .on(t.node)
      .where(sql`certainty = 'unreachable'`),
  ],
);

export const campaigns = pgTable(
  "campaigns",
  {
    ...resourceColumns,
    uid: uuid("uid").primaryKey(),
    namespace: text("namespace").notNull(),
    name: text("name").notNull(),
    spec: message("spec").notNull(),
    status: message("status").notNull().default({}),
    /** Running, Succeeded or Failed: of the observed generation. */
    phase: text("phase").notNull().default("Running"),
    observedGeneration: counter("observed_generation").notNull().default(0),
    /** Of the observed generation; the deadline counts from here. */
    startedAt: time("started_at"),
    finishedAt: time("finished_at"),
  },
  (t) => [uniqueIndex("campaigns_name").on(t.namespace, t.name)],
);

/** One image on one node, for one generation of a campaign. */
export const campaignTargets = pgTable(
  "campaign_targets",
  {
    id: uuid("id").primaryKey(),
    campaignUid: uuid("campaign_uid").notNull(),
    generation: counter("generation").notNull(),
    namespace: text("namespace").notNull(),
    node: text("node").notNull(),
    image: text("image").notNull(),
    snapshotter: text("snapshotter").notNull().default(""),
    /** Waiting, Pulling, Succeeded or Failed. */
    phase: text("phase").notNull().default("Waiting"),
    attempt: integer("attempt").notNull().default(0),
    /**
     * The pull that the node was told of last; null: none, or it is to let go of the image. While a target waits for its
     * next pull, its node keeps what it has because of this one.
     */
    announcedGeneration: counter("announced_generation"),
    announcedAttempt: integer("announced_attempt"),
    message: text("message").notNull().default(""),
    imageDigest: text("image_digest").notNull().default(""),
    nextAttemptAt: time("next_attempt_at"),
    finishedAt: time("finished_at"),
  },
  (t) => [
    uniqueIndex("campaign_targets_place").on(t.campaignUid, t.node, t.image),
    index("campaign_targets_node").on(t.node),
    index("campaign_targets_phase").on(t.campaignUid, t.phase),
  ],
);

/** Jobs by the clock. */
export const cronJobs = pgTable(
  "cron_jobs",
  {
    ...resourceColumns,
    uid: uuid("uid").primaryKey(),
    namespace: text("namespace").notNull(),
    name: text("name").notNull(),
    spec: message("spec").notNull(),
    /** Every scheduled time up to here has been decided. */
    decidedUntil: time("decided_until").notNull(),
    /** When it is to be looked at. */
    lookAt: time("look_at").notNull(),
    lastScheduledAt: time("last_scheduled_at"),
    nextAt: time("next_at"),
    active: integer("active").notNull().default(0),
  },
  (t) => [uniqueIndex("cron_jobs_name").on(t.namespace, t.name), index("cron_jobs_look_at").on(t.lookAt)],
);

/** What became of each scheduled time: the key lets none be decided twice. */
export const cronRuns = pgTable(
  "cron_runs",
  {
    cronUid: uuid("cron_uid").notNull(),
    scheduledAt: time("scheduled_at").notNull(),
    outcome: text("outcome").notNull(),
    message: text("message").notNull().default(""),
    workload: text("workload").notNull().default(""),
    workloadUid: uuid("workload_uid"),
  },
  (t) => [primaryKey({ columns: [t.cronUid, t.scheduledAt] })],
);

/** Who sends a namespace's events to a URL, and how far that is (`webhooks/` of the controller). */
export const webhooks = pgTable(
  "webhooks",
  {
    ...resourceColumns,
    uid: uuid("uid").primaryKey(),
    namespace: text("namespace").notNull(),
    name: text("name").notNull(),
    spec: message("spec").notNull(),
    /** `whsec_…`; empty: in a file of the controllers'. The one before signs, too, until then. */
    secret: text("secret").notNull().default(""),
    previousSecret: text("previous_secret").notNull().default(""),
    previousSecretUntil: time("previous_secret_until"),
    /** Everything up to here was sent, given up, or not chosen. */
    xid: xid8("xid").notNull(),
    eventId: counter("event_id").notNull(),
    /** What was stored up to then has been passed. */
    passedUntil: time("passed_until").notNull(),
    /** Raised by each controller that takes it up: one that was taken over from writes nothing more. */
    ownerEpoch: counter("owner_epoch").notNull().default(0),
    /** The batch that was last begun to be sent ends here: sent again it is the same batch, under the same id. */
    batchXid: xid8("batch_xid"),
    batchEventId: counter("batch_event_id"),
    /** It answered 410: nothing is sent until it is resumed or changed. */
    goneAt: time("gone_at"),
    lastSuccessAt: time("last_success_at"),
    lastFailureAt: time("last_failure_at"),
    lastError: text("last_error").notNull().default(""),
    failingSince: time("failing_since"),
    failures: integer("failures").notNull().default(0),
    nextAttemptAt: time("next_attempt_at"),
    pendingSince: time("pending_since"),
    delivered: counter("delivered").notNull().default(0),
    givenUp: counter("given_up").notNull().default(0),
    /** The last time that events went missing: see berth.v1.WebhookGap. */
    gapReason: text("gap_reason"),
    gapFrom: time("gap_from"),
    gapUntil: time("gap_until"),
    gapCount: counter("gap_count").notNull().default(0),
    gapToldAt: time("gap_told_at"),
  },
  (t) => [uniqueIndex("webhooks_name").on(t.namespace, t.name)],
);

/** The last requests of each webhook, for people. */
export const webhookDeliveries = pgTable(
  "webhook_deliveries",
  {
    id: bigserial("id", { mode: "number" }).primaryKey(),
    webhookUid: uuid("webhook_uid").notNull(),
    deliveryId: text("delivery_id").notNull(),
    attempt: integer("attempt").notNull(),
    at: time("at").notNull(),
    tookMs: integer("took_ms").notNull(),
    events: integer("events").notNull(),
    code: integer("code").notNull().default(0),
    outcome: text("outcome").notNull(),
    message: text("message").notNull().default(""),
  },
  (t) => [index("webhook_deliveries_webhook").on(t.webhookUid, t.id)],
);
