/** The columns of each kind. What is not certain says so: an unreachable task is never shown as failed (D6). */
import { durationMs, timestampDate } from "@bufbuild/protobuf/wkt";
import type {
  Campaign,
  CampaignTarget,
  CronJob,
  CronRun,
  Drill,
  Event,
  Namespace,
  Node,
  RegistryMirror,
  Taint,
  Task,
  Webhook,
  WebhookDelivery,
  Workload,
} from "@berth/proto";
import { formatBytes, type Column } from "@berth/base/terminal";
import { formatAge, formatCpu, formatTime } from "./units.ts";

/** `now` is asked at each row, for a watch goes on for long. */
type Columns<T> = (now: () => number) => readonly Column<T>[];

const orDash = (text: string | undefined): string => (text === undefined || text === "" ? "-" : text);
const labels = (map: Readonly<Record<string, string>> | undefined): string =>
  orDash(
    Object.entries(map ?? {})
      .map(([key, value]) => (value === "" ? key : `${key}=${value}`))
      .join(","),
  );

/** The phase with its doubt: `Unknown (was Running)`, `Unknown (was Running, until 12:00:05)`. */
export function taskStatus(task: Task): string {
  const status = task.status;
  const phase = status?.phase || "Pending";
  if (status?.certainty === "unreachable") {
    const until =
      status.possiblyUntil === undefined
        ? ""
        : `, until ${timestampDate(status.possiblyUntil).toISOString().slice(11, 19)}`;
    return `Unknown (was ${phase}${until})`;
  }
  if (status?.certainty === "fenced") return `Fenced (was ${phase})`;
  if (phase === "Pending" && status?.reason) return `Pending: ${status.reason}`;
  if (phase === "Failed" && status?.reason && status.reason !== "Error")
    return `Failed: ${status.reason}${again(task)}`;
  if (status?.certainty === "unknown") return `${phase} (exit unknown)`;
  if (phase !== "Running") return `${phase}${again(task)}`;
  if (task.spec?.desired === "Stop") return "Stopping";
  if (task.spec?.desired === "Leave") return "Running, leaving";
  const health = status?.health ?? "";
  return health === "" || health === "healthy" ? phase : `Running, ${health}`;
}

/** When another may be started in its place, never two at once. */
export function replaceable(task: Task): string {
  const replacement = task.status?.replacement;
  if (replacement === undefined) return "-";
  if (replacement.verdict !== "later") return replacement.verdict === "safe" ? "yes" : "no";
  return replacement.at === undefined ? "later" : `at ${timestampDate(replacement.at).toISOString().slice(11, 19)}`;
}

/** While a restart is backed off. */
function again(task: Task): string {
  const next = task.status?.nextAttemptAt;
  return next === undefined ? "" : ` (again at ${timestampDate(next).toISOString().slice(11, 19)})`;
}

/** Of a job: how many are done. */
function running({ status, spec }: Workload): string {
  if (spec?.job !== undefined) return `${status?.job?.succeeded ?? 0}/${spec.job.completions ?? 1} done`;
  return `${status?.running ?? 0}/${status?.desired ?? 0}`;
}

export const workloadColumns: Columns<Workload> = (now) => [
  { heading: "NAME", cell: (w) => w.metadata?.name ?? "" },
  { heading: "RUNNING", cell: running },
  { heading: "AVAILABLE", cell: (w) => String(w.status?.available ?? 0) },
  { heading: "UPDATED", cell: (w) => String(w.status?.updated ?? 0) },
  { heading: "STATUS", cell: (w) => w.status?.rollout?.phase || w.status?.job?.phase || "-" },
  { heading: "PENDING", cell: (w) => String(w.status?.pending ?? 0) },
  { heading: "FAILED", cell: (w) => String(w.status?.failed ?? 0) },
  { heading: "UNKNOWN", cell: (w) => String(w.status?.unknown ?? 0) },
  { heading: "AGE", cell: (w) => formatAge(w.metadata?.createdAt, now()) },
  { heading: "IMAGE", cell: (w) => orDash(w.spec?.container?.image), wide: true },
  {
    heading: "GENERATION",
    cell: (w) => `${w.status?.observedGeneration ?? 0}/${w.metadata?.generation ?? 0}`,
    wide: true,
  },
];

export const taskColumns: Columns<Task> = (now) => [
  { heading: "NAME", cell: (t) => t.metadata?.name ?? "", least: 16 },
  { heading: "WORKLOAD", cell: (t) => orDash(t.spec?.workload) },
  { heading: "NODE", cell: (t) => orDash(t.spec?.node) },
  { heading: "STATUS", cell: taskStatus, least: 9 },
  { heading: "RESTARTS", cell: (t) => String(t.status?.restarts ?? 0) },
  { heading: "AGE", cell: (t) => formatAge(t.metadata?.createdAt, now()) },
  { heading: "ADDRESS", cell: (t) => orDash(t.status?.addresses.join(",")), wide: true },
  { heading: "IMAGE", cell: (t) => orDash(t.spec?.container?.image), wide: true },
  { heading: "EXIT", cell: (t) => orDash(t.status?.exitCode?.toString()), wide: true },
  { heading: "EXECUTION", cell: (t) => `${t.metadata?.generation ?? 0}.${t.status?.attempt ?? 0}`, wide: true },
  { heading: "CERTAINTY", cell: (t) => orDash(t.status?.certainty), wide: true },
  { heading: "AS OF", cell: (t) => formatTime(t.status?.observedUntil), wide: true },
  { heading: "REPLACEABLE", cell: replaceable, wide: true },
];

export const mirrorColumns: Columns<RegistryMirror> = (now) => [
  { heading: "NAME", cell: (m) => m.metadata?.name ?? "" },
  { heading: "REGISTRY", cell: (m) => m.spec?.registry ?? "" },
  { heading: "ENDPOINTS", cell: (m) => orDash(m.spec?.endpoints.map(({ url }) => url).join(",")) },
  { heading: "ORIGIN", cell: (m) => (m.spec?.fallbackToOrigin === false ? "never asked" : "asked last") },
  { heading: "AGE", cell: (m) => formatAge(m.metadata?.createdAt, now()) },
];

/** `Ready`, `Ready,cordoned`, `Unknown,draining 3/8`: what is still there, of how many. */
export function nodeStatus({ spec, status }: Node): string {
  const phase = status?.phase || "Unknown";
  if (spec?.drain === undefined) return spec?.cordoned === true ? `${phase},cordoned` : phase;
  const { phase: drain = "Draining", remaining = 0, total = 0 } = status?.drain ?? {};
  if (drain === "Drained") return `${phase},drained`;
  return `${phase},${drain === "GaveUp" ? "drain gave up" : "draining"} ${remaining}/${total}`;
}

/** `12/12`; `12/15, 3 behind since 14:02:07`; `12/12, broken`. */
function journalStatus({ status }: Node): string {
  const [stored, head] = [status?.journalStoredSeq ?? 0n, status?.journalHeadSeq ?? 0n];
  const since = status?.journalBehindSince;
  const gap = since === undefined ? "" : `, ${head - stored} behind since ${timestampDate(since).toISOString().slice(11, 19)}`; // prettier-ignore
  return `${stored}/${head}${gap}${(status?.journalBreaks ?? 0n) > 0n ? ", broken" : ""}`;
}

/** Those that are well when they hold, and what is said when they do not; every other one is well when it does not. */
const GOOD_CONDITIONS: Readonly<Record<string, string>> = {
  Ready: "NotReady",
  LeaseHeld: "Silent",
  Stopper: "NoStopper",
  JournalIntact: "JournalBroken",
};

/** What is not as it should be. */
function badConditions({ status }: Node): string {
  const bad = status?.conditions.filter(({ type, status: holds }) => type in GOOD_CONDITIONS !== (holds === "True"));
  return orDash(bad?.map(({ type }) => GOOD_CONDITIONS[type] ?? type).join(","));
}

/** `gpu=yes:NoSchedule`; the operator's only: the others are in the status. */
function taintWord({ key, value, effect }: Taint): string {
  return `${key}${value === "" ? "" : `=${value}`}:${effect}`;
}

export const nodeColumns: Columns<Node> = (now) => [
  { heading: "NAME", cell: (n) => n.metadata?.name ?? "" },
  { heading: "STATUS", cell: nodeStatus },
  { heading: "TASKS", cell: (n) => String(n.status?.tasks ?? 0) },
  {
    heading: "CPU",
    cell: (n) => `${formatCpu(n.status?.allocated?.cpuMillis ?? 0n)}/${formatCpu(n.status?.capacity?.cpuMillis ?? 0n)}`,
  },
  {
    heading: "MEMORY",
    cell: (n) =>
      `${formatBytes(n.status?.allocated?.memoryBytes ?? 0n)}/${formatBytes(n.status?.capacity?.memoryBytes ?? 0n)}`,
  },
  { heading: "LEASE", cell: (n) => formatAge(n.status?.leaseRenewedAt, now()) },
  { heading: "AGE", cell: (n) => formatAge(n.metadata?.createdAt, now()) },
  { heading: "CONDITIONS", cell: badConditions, wide: true },
  { heading: "VERSION", cell: (n) => orDash(n.status?.agentVersion), wide: true },
  { heading: "HANDLERS", cell: (n) => orDash(n.status?.runtimeHandlers.join(",")), wide: true },
  { heading: "SNAPSHOTTERS", cell: (n) => orDash(n.status?.snapshotters.join(",")), wide: true },
  {
    heading: "JOURNAL",
    cell: journalStatus,
    wide: true,
  },
  { heading: "AS OF", cell: (n) => formatTime(n.status?.observedUntil), wide: true },
  { heading: "REPLACEABLE", cell: (n) => lostOf(n, now()), wide: true },
  { heading: "TAINTS", cell: (n) => orDash(n.spec?.taints.map(taintWord).join(",")), wide: true },
  { heading: "LABELS", cell: (n) => labels(n.metadata?.labels), wide: true },
];

/** When what a silent node ran may be replaced: T of what its stopper ends, and how many nothing ends. */
function lostOf({ status }: Node, nowMs: number): string {
  if (status?.phase !== "Unknown") return "-";
  const { fencedUntil, unboundedTasks } = status;
  const unbounded = unboundedTasks === 0 ? [] : [`${unboundedTasks} no`];
  if (fencedUntil === undefined) return unbounded[0] ?? "yes";
  const t = timestampDate(fencedUntil);
  const bounded = t.getTime() <= nowMs ? "yes" : `at ${t.toISOString().slice(11, 19)}`;
  return [bounded, ...unbounded].join(", ");
}

export const namespaceColumns: Columns<Namespace> = (now) => [
  { heading: "NAME", cell: (n) => n.metadata?.name ?? "" },
  { heading: "STATUS", cell: (n) => n.status?.phase || "Active" },
  { heading: "WORKLOADS", cell: (n) => String(n.status?.workloads ?? 0) },
  { heading: "TASKS", cell: (n) => String(n.status?.tasks ?? 0) },
  { heading: "AGE", cell: (n) => formatAge(n.metadata?.createdAt, now()) },
  { heading: "DESCRIPTION", cell: (n) => orDash(n.spec?.description), wide: true },
];

export const campaignColumns: Columns<Campaign> = (now) => [
  { heading: "NAME", cell: (c) => c.metadata?.name ?? "" },
  { heading: "STATUS", cell: (c) => c.status?.phase || "Running" },
  { heading: "DONE", cell: (c) => `${c.status?.succeeded ?? 0}/${c.status?.targets ?? 0}` },
  { heading: "PULLING", cell: (c) => String(c.status?.pulling ?? 0) },
  { heading: "FAILED", cell: (c) => String(c.status?.failed ?? 0) },
  { heading: "AGE", cell: (c) => formatAge(c.metadata?.createdAt, now()) },
  { heading: "IMAGES", cell: (c) => orDash(c.spec?.images.join(",")), wide: true },
];

export const targetColumns: readonly Column<CampaignTarget>[] = [
  { heading: "NODE", cell: (t) => t.node },
  { heading: "IMAGE", cell: (t) => t.image },
  { heading: "STATUS", cell: (t) => (t.certainty === "unreachable" ? `Unknown (was ${t.phase})` : t.phase) },
  { heading: "TRIES", cell: (t) => String(t.attempt) },
  { heading: "MESSAGE", cell: (t) => orDash(t.message) },
];

export const eventColumns: readonly Column<Event>[] = [
  { heading: "TIME", cell: (e) => formatTime(e.time), least: 24 },
  { heading: "NODE", cell: (e) => orDash(e.node), least: 6 },
  { heading: "TOPIC", cell: (e) => e.topic, least: 19 },
  { heading: "OBJECT", least: 20, cell: (e) => `${e.kind.toLowerCase()}/${e.name}` },
  { heading: "MESSAGE", cell: (e) => orDash(e.message || e.reason) },
  {
    heading: "SEQ",
    cell: (e) =>
      e.journalEpoch === "" ? "-" : `${e.journalSeq}${e.attributes["chain_broken"] === undefined ? "" : " (broken)"}`,
    wide: true,
  },
];

/** `Failing for 3m10s, 412 behind`. */
function webhookStatus({ status }: Webhook, nowMs: number): string {
  const phase = status?.phase || "Active";
  const since = status?.failingSince === undefined ? "" : ` for ${formatAge(status.failingSince, nowMs)}`;
  const behind = status?.behind ?? 0;
  return `${phase}${phase === "Failing" ? since : ""}${behind === 0 ? "" : `, ${behind} behind`}`;
}

export const webhookColumns: Columns<Webhook> = (now) => [
  { heading: "NAME", cell: (w) => w.metadata?.name ?? "" },
  { heading: "URL", cell: (w) => w.spec?.url ?? "", least: 20 },
  { heading: "STATUS", cell: (w) => webhookStatus(w, now()) },
  { heading: "DELIVERED", cell: (w) => String(w.status?.delivered ?? 0) },
  { heading: "GIVEN UP", cell: (w) => String(w.status?.givenUp ?? 0) },
  { heading: "LAST", cell: (w) => formatAge(w.status?.lastSuccessAt, now()) },
  { heading: "AGE", cell: (w) => formatAge(w.metadata?.createdAt, now()) },
  { heading: "TOPICS", cell: (w) => w.spec?.topics.join(",") || "all", wide: true },
  { heading: "NEXT TRY", cell: (w) => formatTime(w.status?.nextAttemptAt), wide: true },
  { heading: "LAST ERROR", cell: (w) => orDash(w.status?.lastError), wide: true },
];

export const deliveryColumns: readonly Column<WebhookDelivery>[] = [
  { heading: "AT", cell: (d) => formatTime(d.at) },
  { heading: "OUTCOME", cell: (d) => d.outcome },
  { heading: "CODE", cell: (d) => (d.code === 0 ? "-" : String(d.code)) },
  { heading: "TRY", cell: (d) => String(d.attempt) },
  { heading: "EVENTS", cell: (d) => String(d.events) },
  { heading: "TOOK", cell: (d) => `${d.took === undefined ? 0 : durationMs(d.took)} ms` },
  { heading: "MESSAGE", cell: (d) => orDash(d.message) },
  { heading: "ID", cell: (d) => d.id, wide: true },
];

export const drillColumns: Columns<Drill> = (now) => [
  { heading: "NAME", cell: (d) => d.name },
  { heading: "KIND", cell: (d) => d.kind },
  { heading: "NODES", cell: (d) => d.nodes.join(","), least: 12 },
  { heading: "FOR", cell: (d) => (d.duration === undefined ? "-" : `${durationMs(d.duration) / 1_000} s`) },
  { heading: "VERDICT", cell: (d) => d.verdict || "under way" },
  { heading: "AGE", cell: (d) => formatAge(d.createdAt, now()) },
  { heading: "SELECTOR", cell: (d) => d.selector, wide: true },
];

export const cronJobColumns: Columns<CronJob> = (now) => [
  { heading: "NAME", cell: (c) => c.metadata?.name ?? "" },
  { heading: "SCHEDULE", cell: (c) => c.spec?.schedule ?? "" },
  { heading: "ZONE", cell: (c) => c.spec?.timeZone || "UTC" },
  { heading: "STATUS", cell: (c) => (c.spec?.suspend === true ? "Suspended" : "Active") },
  { heading: "ACTIVE", cell: (c) => String(c.status?.active ?? 0) },
  { heading: "LAST", cell: (c) => formatAge(c.status?.lastScheduledAt, now()) },
  { heading: "NEXT", cell: (c) => (c.status?.nextAt === undefined ? "-" : formatTime(c.status.nextAt)) },
  { heading: "AGE", cell: (c) => formatAge(c.metadata?.createdAt, now()) },
];

export const cronRunColumns: readonly Column<CronRun>[] = [
  { heading: "SCHEDULED", cell: (r) => formatTime(r.scheduledAt) },
  { heading: "OUTCOME", cell: (r) => r.outcome },
  { heading: "WORKLOAD", cell: (r) => orDash(r.workload) },
  { heading: "MESSAGE", cell: (r) => orDash(r.message) },
];
