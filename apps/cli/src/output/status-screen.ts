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
  /** Every finding, not only the first of each kind. */
  readonly all?: boolean;
}

const HEAD = 12;
/** On a screen, whatever happens: so many findings, of one kind so many at the most, and of each kind one. */
const MOST_FINDINGS = 10;
const MOST_OF_A_KIND = 3;
const MOST_NAMED = 4;

/** In the order in which they are shown, with what each area is called. */
const AREAS: readonly (readonly [area: string, title: string])[] = [
  ["control", "CONTROL PLANE"],
  ["uncertain", "UNCERTAIN"],
  ["stuck", "STUCK"],
  ["held", "HELD"],
];

export function statusScreen(status: FleetStatus, options: ScreenOptions): string[] {
  const { paint } = options;
  const shown = options.all === true ? new Set(status.findings) : shownOf(status.findings);
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
    ...AREAS.flatMap(([area, title]) => areaLines(status, area, title, options, shown)),
    ...(shown.size < status.findings.length ? ["", paint.dim("berth status --all tells of every one")] : []),
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

function areaLines(
  status: FleetStatus,
  area: string,
  title: string,
  { paint, columns }: ScreenOptions,
  shown: ReadonlySet<Finding>,
): string[] {
  const findings = status.findings.filter((finding) => finding.area === area);
  if (findings.length === 0) return [];
  const colour = area === "held" ? paint.bold : area === "control" ? paint.red : paint.yellow;
  const kinds = Map.groupBy(findings, ({ reason }) => reason);
  return [
    "",
    colour(title),
    ...[...kinds.values()].flatMap((kind) => [
      ...kind.filter((each) => shown.has(each)).flatMap((each) => findingLines(each, status.at, paint, columns)),
      ...moreLines(kind.filter((each) => !shown.has(each)), paint, columns), // prettier-ignore
    ]),
  ];
}

/** Those that one screen has room for: of every kind the first, then more of each in turn. */
function shownOf(findings: readonly Finding[]): ReadonlySet<Finding> {
  const kinds = [...Map.groupBy(findings, ({ area, reason }) => `${area} ${reason}`).values()];
  const shown = new Set(kinds.map(([first]) => first!));
  for (let rank = 1; rank < MOST_OF_A_KIND; rank += 1) {
    for (const kind of kinds) {
      const next = kind[rank];
      if (next !== undefined && shown.size < MOST_FINDINGS) shown.add(next);
    }
  }
  return shown;
}

/** What is left out of a kind: how many, and the first by name. */
function moreLines(rest: readonly Finding[], paint: Paint, columns: number): string[] {
  if (rest.length === 0) return [];
  const names = rest.slice(0, MOST_NAMED).map(({ subject }) => subject.slice(subject.indexOf("/") + 1));
  const named = `${names.join(", ")}${rest.length > names.length ? ", …" : ""}`;
  const words = `+ ${rest.length} more ${rest[0]!.reason}: ${named}`.split(" ");
  return filled(words, columns - 4, " ").map((line, index) => paint.dim(`${index === 0 ? "  " : "    "}${line}`));
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
