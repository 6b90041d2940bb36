/** The screen of `berth status`. Pure: what the controller said, for a terminal of so many columns, into lines. */
import { timestampDate, type Timestamp } from "@bufbuild/protobuf/wkt";
import { formatSeconds, visibleWidth, type Paint } from "@berth/base/terminal";
import type { Finding, FleetStatus } from "@berth/proto";

export interface ScreenOptions {
  readonly paint: Paint;
  /** Infinity: lines are never broken. */
  readonly columns: number;
  /** Also names the controllers and what each holds. */
  readonly wide: boolean;
}

const HEAD = 12;
const MOST_FINDINGS = 12;

/** In the order in which they are shown, with what each area is called. */
const AREAS: readonly (readonly [area: string, title: string])[] = [
  ["control", "CONTROL PLANE"],
  ["uncertain", "UNCERTAIN"],
  ["stuck", "STUCK"],
  ["held", "HELD"],
];

export function statusScreen(status: FleetStatus, options: ScreenOptions): string[] {
  const { paint } = options;
  const parts = (label: string, items: readonly string[]): string[] =>
    filled(items, options.columns - HEAD).map((line, index) => `${(index === 0 ? label : "").padEnd(HEAD)}${line}`);
  return [
    ...parts("fleet", [verdictOf(status, paint)]),
    ...parts("nodes", nodeParts(status, paint)),
    ...parts("tasks", taskParts(status, paint)),
    ...parts("workloads", workloadParts(status, paint)),
    ...parts("control", controlParts(status, paint)),
    ...parts("freshness", freshnessParts(status, paint)),
    ...(options.wide ? controllerLines(status) : []),
    ...AREAS.flatMap(([area, title]) => areaLines(status, area, title, options)),
  ];
}

function verdictOf({ verdict, findings }: FleetStatus, paint: Paint): string {
  if (verdict === "healthy") return paint.green("healthy");
  const counts = AREAS.flatMap(([area]) => {
    const count = findings.filter((finding) => finding.area === area).length;
    return count === 0 ? [] : [`${count} ${area === "control" ? "of the control plane" : area}`];
  });
  return paint.yellow(`needs attention: ${counts.join(", ")}`);
}

function nodeParts({ nodes }: FleetStatus, paint: Paint): string[] {
  const { total = 0, ready = 0, notReady = 0, unknown = 0, cordoned = 0, draining = 0 } = nodes ?? {};
  return [
    (ready === total ? paint.green : paint.yellow)(`${ready} of ${total} ready`),
    ...some(notReady, "not ready", paint.yellow),
    ...some(unknown, "silent", paint.yellow),
    ...some(cordoned, "cordoned"),
    ...some(draining, "draining"),
  ];
}

function taskParts({ tasks }: FleetStatus, paint: Paint): string[] {
  const counts = tasks;
  const total = (counts?.total ?? 0) - (counts?.succeeded ?? 0) - (counts?.leaving ?? 0);
  const running = counts?.running ?? 0;
  return [
    (running === total ? paint.green : paint.yellow)(`${running} of ${total} running`),
    ...some(counts?.unreachable, "possibly running", paint.yellow),
    ...some(counts?.fenced, "fenced", paint.yellow),
    ...some(counts?.unplaced, "without a node", paint.yellow),
    ...some(counts?.starting, "starting"),
    ...some(counts?.restarting, "restarting", paint.yellow),
    ...some(counts?.failed, "failed", paint.red),
    ...some(counts?.succeeded, "succeeded"),
    ...some(counts?.leaving, "leaving"),
  ];
}

function workloadParts({ workloads }: FleetStatus, paint: Paint): string[] {
  const { total = 0, settled = 0 } = workloads ?? {};
  return [(settled === total ? paint.green : paint.yellow)(`${settled} of ${total} as desired`)];
}

function controlParts({ controllers, checks, version }: FleetStatus, paint: Paint): string[] {
  const count = `${controllers.length} ${controllers.length === 1 ? "controller" : "controllers"}`;
  return [
    `${count} (${version})`,
    ...checks.map(({ name, ok, latencyMs }) => (ok ? `${name} ${formatMs(latencyMs)}` : paint.red(`${name} away`))),
  ];
}

function freshnessParts({ freshness, at }: FleetStatus, paint: Paint): string[] {
  const { newestStoredAt, journalLag = 0n, nodesBehind = 0, outbox = 0 } = freshness ?? {};
  const age = newestStoredAt === undefined ? "nothing stored yet" : `last news stored ${agoOf(newestStoredAt, at)} ago`;
  const lag = journalLag === 0n ? "no journal behind" : `${journalLag} entries of ${nodesBehind} nodes on their way`;
  return [age, lag, ...some(outbox, "jobs to dispatch", paint.yellow)];
}

function controllerLines({ controllers, at }: FleetStatus): string[] {
  return controllers.map(({ name, since, reconcilePartitions, journalShards, otherLocks }) => {
    const holds = `${reconcilePartitions} partitions, ${journalShards} journal shards, ${otherLocks} single tasks`;
    return `${"".padEnd(HEAD)}${name}   for ${agoOf(since, at)}   holds ${holds}`;
  });
}

function areaLines(status: FleetStatus, area: string, title: string, { paint, columns }: ScreenOptions): string[] {
  const findings = status.findings.filter((finding) => finding.area === area);
  if (findings.length === 0) return [];
  const colour = area === "held" ? paint.bold : area === "control" ? paint.red : paint.yellow;
  const more = findings.length - MOST_FINDINGS;
  return [
    "",
    colour(title),
    ...findings.slice(0, MOST_FINDINGS).flatMap((finding) => findingLines(finding, status.at, paint, columns)),
    ...(more > 0 ? [paint.dim(`  … and ${more} more: berth status -o json`)] : []),
  ];
}

function findingLines(finding: Finding, at: Timestamp | undefined, paint: Paint, columns: number): string[] {
  const { subject, message, hint, since, until } = finding;
  const times = [
    ...(until === undefined ? [] : [`until ${timestampDate(until).toISOString().slice(11, 19)}`]),
    ...(since === undefined ? [] : [`for ${agoOf(since, at)}`]),
  ];
  const text = `${message}${times.length === 0 ? "" : ` (${times.join(", ")})`}`;
  return [
    `  ${paint.bold(subject)}`,
    ...filled(text.split(" "), columns - 4, " ").map((line) => `    ${line}`),
    ...(hint === "" ? [] : [paint.dim(`    → ${hint}`)]),
  ];
}

function some(count: number | undefined, what: string, colour: (text: string) => string = (text) => text): string[] {
  return count === undefined || count === 0 ? [] : [colour(`${count} ${what}`)];
}

/** Items in lines that are as full as they may be. */
function filled(items: readonly string[], width: number, gap = "   "): string[] {
  const lines: string[] = [];
  for (const item of items) {
    const last = lines.at(-1);
    if (last !== undefined && visibleWidth(last) + gap.length + visibleWidth(item) <= width) {
      lines[lines.length - 1] = `${last}${gap}${item}`;
    } else lines.push(item);
  }
  return lines;
}

function agoOf(time: Timestamp | undefined, at: Timestamp | undefined): string {
  if (time === undefined || at === undefined) return "?";
  return formatSeconds(Math.max(0, Math.floor((timestampDate(at).getTime() - timestampDate(time).getTime()) / 1_000)));
}

function formatMs(ms: number): string {
  return ms < 10 ? `${ms.toFixed(1)} ms` : `${Math.round(ms)} ms`;
}
