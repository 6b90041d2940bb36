/**
 * What a controller counts. Loops take the narrow part that they move; what can be read from Postgres is read at each scrape,
 * so that it is right also after a restart.
 */
import type { CounterInstrument, HistogramInstrument, Metrics } from "@berth/telemetry";

/** For the API; `@berth/rpc`'s CallMetrics. */
export interface ApiMetrics {
  observe(labels: { method: string; transport: string; code: string }, seconds: number): void;
}

export interface ReconcileMetrics {
  /** How long one look at one resource took, and how it ended (`ok`, `error`). */
  reconciled(kind: string, result: "ok" | "error", seconds: number): void;
  /** From the change of a spec to its first reconciliation. */
  reactionTime(kind: string, seconds: number): void;
}

export interface PlacementMetrics {
  placed(count: number, seconds: number): void;
  /** Tasks that no node fits. */
  unplaceable(count: number): void;
}

export interface DispatchMetrics {
  dispatched(job: string, count: number): void;
  dispatchFailed(): void;
}

export interface IngestMetrics {
  /** `duplicate`: stored before; `gap`: asked for again; `stale`: of an execution that is no more. */
  ingested(result: "stored" | "duplicate" | "gap" | "stale", count: number): void;
  ingestBatch(seconds: number): void;
}

export interface LeaseMetrics {
  leaseAnswered(result: "granted" | "refused" | "error", seconds: number): void;
}

export interface WebhookMetrics {
  /** One request, what became of it, and how many events were in it. */
  webhookSent(outcome: "Delivered" | "Failed" | "Refused" | "Gone", events: number, seconds: number): void;
  /** Events that nobody took for too long. */
  webhookGaveUp(events: number): void;
}

export interface ControllerMetrics {
  readonly api: ApiMetrics;
  readonly reconcile: ReconcileMetrics;
  readonly placement: PlacementMetrics;
  readonly dispatch: DispatchMetrics;
  readonly ingest: IngestMetrics;
  readonly lease: LeaseMetrics;
  readonly webhooks: WebhookMetrics;
}

/** What is counted in Postgres and Redis. A reading that fails is left out of that scrape. */
export interface FleetReadings {
  readonly outboxDepth: () => Promise<number>;
  readonly tasksByPhase: () => Promise<
    readonly { readonly phase: string; readonly certainty: string; readonly count: number }[]
  >;
  readonly nodesByPhase: () => Promise<readonly { readonly phase: string; readonly count: number }[]>;
  readonly webhooksByPhase: () => Promise<readonly { readonly phase: string; readonly count: number }[]>;
  /** Jobs that wait in the nodes' queues. */
  readonly queuedJobs?: () => Promise<number>;
}

export function makeControllerMetrics(metrics: Metrics, readings: FleetReadings): ControllerMetrics {
  addReadings(metrics, readings);
  return {
    api: apiMetrics(metrics),
    reconcile: reconcileMetrics(metrics),
    placement: placementMetrics(metrics),
    dispatch: dispatchMetrics(metrics),
    ingest: ingestMetrics(metrics),
    lease: leaseMetrics(metrics),
    webhooks: webhookMetrics(metrics),
  };
}

function addReadings(metrics: Metrics, readings: FleetReadings): void {
  const { outboxDepth, queuedJobs, tasksByPhase, nodesByPhase, webhooksByPhase } = readings;
  metrics.gauge<"queue">({
    name: "berth_queue_depth",
    help: "Jobs that wait: in the outbox for dispatch, in the nodes' queues for their agents.",
    labels: ["queue"],
    async collect(gauge) {
      gauge.clear();
      await reading(async () => gauge.set({ queue: "outbox" }, await outboxDepth()));
      if (queuedJobs !== undefined) await reading(async () => gauge.set({ queue: "nodes" }, await queuedJobs()));
    },
  });
  metrics.gauge<"phase" | "certainty">({
    name: "berth_tasks",
    help: "Tasks by phase, and whether the phase is observed.",
    labels: ["phase", "certainty"],
    async collect(gauge) {
      gauge.clear();
      await reading(async () => {
        for (const { phase, certainty, count } of await tasksByPhase()) gauge.set({ phase, certainty }, count);
      });
    },
  });
  metrics.gauge<"phase">({
    name: "berth_nodes",
    help: "Nodes by phase.",
    labels: ["phase"],
    async collect(gauge) {
      gauge.clear();
      await reading(async () => {
        for (const { phase, count } of await nodesByPhase()) gauge.set({ phase }, count);
      });
    },
  });
  metrics.gauge<"phase">({
    name: "berth_webhooks",
    help: "Webhooks by phase: Active, Failing, Gone (the receiver answered 410), Suspended.",
    labels: ["phase"],
    async collect(gauge) {
      gauge.clear();
      await reading(async () => {
        for (const { phase, count } of await webhooksByPhase()) gauge.set({ phase }, count);
      });
    },
  });
}

/** A scrape shows what can be read; a server that is away has its own alarm. */
async function reading(body: () => Promise<void>): Promise<void> {
  await body().catch(() => undefined);
}

function apiMetrics(metrics: Metrics): ApiMetrics {
  const seconds: HistogramInstrument<"method" | "transport" | "code"> = metrics.histogram({
    name: "berth_api_request_duration_seconds",
    help: "How long calls took, streams until they ended, by gRPC code.",
    labels: ["method", "transport", "code"],
  });
  return { observe: (labels, value) => seconds.observe(labels, value) };
}

function reconcileMetrics(metrics: Metrics): ReconcileMetrics {
  const duration: HistogramInstrument<"kind" | "result"> = metrics.histogram({
    name: "berth_reconcile_duration_seconds",
    help: "How long one reconciliation of one resource took.",
    labels: ["kind", "result"],
  });
  const reaction: HistogramInstrument<"kind"> = metrics.histogram({
    name: "berth_reconcile_reaction_seconds",
    help: "From the change of a spec to its reconciliation.",
    labels: ["kind"],
  });
  return {
    reconciled: (kind, result, seconds) => duration.observe({ kind, result }, seconds),
    reactionTime: (kind, seconds) => reaction.observe({ kind }, seconds),
  };
}

function placementMetrics(metrics: Metrics): PlacementMetrics {
  const placed: CounterInstrument = metrics.counter({ name: "berth_placement_tasks_total", help: "Tasks placed." });
  const duration: HistogramInstrument = metrics.histogram({
    name: "berth_placement_duration_seconds",
    help: "How long one batch of placement took.",
  });
  const unplaceable = metrics.gauge({ name: "berth_placement_unplaceable_tasks", help: "Tasks that no node fits." });
  return {
    placed(count, seconds) {
      placed.add({}, count);
      duration.observe({}, seconds);
    },
    unplaceable: (count) => unplaceable.set({}, count),
  };
}

function dispatchMetrics(metrics: Metrics): DispatchMetrics {
  const jobs: CounterInstrument<"job"> = metrics.counter({
    name: "berth_dispatch_jobs_total",
    help: "Jobs put into the nodes' queues.",
    labels: ["job"],
  });
  const failures: CounterInstrument = metrics.counter({
    name: "berth_dispatch_failures_total",
    help: "Batches that could not be put into the queues; they are tried again.",
  });
  return { dispatched: (job, count) => jobs.add({ job }, count), dispatchFailed: () => failures.add({}) };
}

function ingestMetrics(metrics: Metrics): IngestMetrics {
  const entries: CounterInstrument<"result"> = metrics.counter({
    name: "berth_ingest_entries_total",
    help: "Journal entries, by what became of them.",
    labels: ["result"],
  });
  const duration: HistogramInstrument = metrics.histogram({
    name: "berth_ingest_batch_duration_seconds",
    help: "How long storing one batch of journal entries took.",
  });
  return {
    ingested: (result, count) => entries.add({ result }, count),
    ingestBatch: (seconds) => duration.observe({}, seconds),
  };
}

function leaseMetrics(metrics: Metrics): LeaseMetrics {
  const duration: HistogramInstrument<"result"> = metrics.histogram({
    name: "berth_lease_request_duration_seconds",
    help: "How long the answer to an agent's lease request took.",
    labels: ["result"],
  });
  return { leaseAnswered: (result, seconds) => duration.observe({ result }, seconds) };
}

function webhookMetrics(metrics: Metrics): WebhookMetrics {
  const duration: HistogramInstrument<"outcome"> = metrics.histogram({
    name: "berth_webhook_request_duration_seconds",
    help: "How long a webhook's request took, by what became of it: Delivered, Failed, Refused (the address), Gone (410).",
    labels: ["outcome"],
  });
  const events: CounterInstrument<"result"> = metrics.counter({
    name: "berth_webhook_events_total",
    help: "Events of webhooks: delivered, or given_up because nobody took them for too long.",
    labels: ["result"],
  });
  return {
    webhookSent(outcome, count, seconds) {
      duration.observe({ outcome }, seconds);
      if (outcome === "Delivered") events.add({ result: "delivered" }, count);
    },
    webhookGaveUp: (count) => events.add({ result: "given_up" }, count),
  };
}
