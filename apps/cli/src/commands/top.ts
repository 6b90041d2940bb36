/**
 * `berth top nodes|tasks`: what they use now. On a terminal it goes on, redrawn in place; elsewhere it looks once. The figures
 * come from the agents while somebody looks, and are kept nowhere.
 */
import { toJson } from "@bufbuild/protobuf";
import { durationFromMs } from "@bufbuild/protobuf/wkt";
import { createLiveLines, formatBytes, formatTable, type Column } from "@berth/base/terminal";
import { HealthService, UsageSchema, UsageService, type NodeUsage, type TaskUsage, type Usage } from "@berth/proto";
import { UsageError } from "../exit-code.ts";
import { formatDocuments, parseOutput } from "../output/format.ts";
import { formatCpu, parseDurationMs } from "../output/units.ts";
import { endless, persist } from "../persist.ts";
import type { Session } from "../session.ts";

export interface TopOptions {
  readonly output: string;
  readonly sort: string;
  readonly selector: string;
  readonly interval: string;
  readonly allNamespaces?: boolean;
  readonly once?: boolean;
}

const SORTS = ["cpu", "memory", "name"];

export async function top(session: Session, what: string, options: TopOptions): Promise<void> {
  const output = parseOutput(options.output);
  const kind = ["nodes", "tasks"].find((each) => each === what || each.startsWith(what) || each[0] === what);
  if (kind === undefined) throw new UsageError(`${JSON.stringify(what)} cannot be measured: top nodes, or top tasks`);
  if (!SORTS.includes(options.sort)) throw new UsageError(`--sort ${options.sort}: choose one of ${SORTS.join(", ")}`);
  const namespace = kind === "nodes" ? "" : options.allNamespaces === true ? "-" : session.namespace();
  const interval = durationFromMs(parseDurationMs(options.interval, "--interval"));
  const request = { selector: options.selector, namespace, interval };
  // Nobody there is told, not waited for.
  await session.client(HealthService).getHealth({});
  const open = () => endless(session.client(UsageService).watchUsage(request, { signal: session.signal }));
  const goesOn = session.stdout.isTTY && options.once !== true && (output === "table" || output === "wide");
  using live = goesOn ? createLiveLines(session.stdout) : undefined;
  for await (const usage of persist(session, open)) {
    if (output === "json" || output === "yaml") {
      session.out(await formatDocuments(output, [toJson(UsageSchema, usage, { alwaysEmitImplicit: true })], true));
      return;
    }
    const lines = topLines(usage, kind, options.sort, namespace === "-");
    if (live === undefined) return session.out(lines.join("\n"));
    live.update((columns) => fitted(lines, columns, session.stdout.rows ?? 24));
  }
}

export function topLines(usage: Usage, kind: string, sort: string, everywhere: boolean): string[] {
  const { nodes, tasks, unanswered } = usage;
  const table =
    kind === "nodes"
      ? formatTable(nodeColumns, sorted(nodes, sort), { wide: false })
      : formatTable(everywhere ? [namespaceColumn, ...taskColumns] : taskColumns, sorted(tasks, sort), { wide: false });
  const lines = table.trimEnd().split("\n");
  if (unanswered.length > 0)
    lines.push(
      `no answer from ${unanswered.slice(0, 5).join(", ")}${unanswered.length > 5 ? ` and ${unanswered.length - 5} more` : ""}`,
    );
  return lines;
}

function sorted<T extends NodeUsage | TaskUsage>(rows: readonly T[], sort: string): T[] {
  const by = (row: T): number => Number(sort === "memory" ? row.memoryBytes : row.cpuMillis);
  return rows.toSorted((a, b) => (sort === "name" ? 0 : by(b) - by(a)) || (a.name < b.name ? -1 : 1));
}

const share = (used: bigint, of: bigint): string =>
  of === 0n ? "-" : `${Math.round((Number(used) * 100) / Number(of))}%`;

const nodeColumns: readonly Column<NodeUsage>[] = [
  { heading: "NAME", cell: (n) => n.name },
  { heading: "CPU", cell: (n) => `${formatCpu(n.cpuMillis)}/${formatCpu(n.cpuCapacityMillis)}` },
  { heading: "CPU%", cell: (n) => share(n.cpuMillis, n.cpuCapacityMillis) },
  { heading: "MEMORY", cell: (n) => `${formatBytes(n.memoryBytes)}/${formatBytes(n.memoryCapacityBytes)}` },
  { heading: "MEMORY%", cell: (n) => share(n.memoryBytes, n.memoryCapacityBytes) },
  { heading: "TASKS", cell: (n) => String(n.tasks) },
];

const namespaceColumn: Column<TaskUsage> = { heading: "NAMESPACE", cell: (t) => t.namespace };

const taskColumns: readonly Column<TaskUsage>[] = [
  { heading: "NAME", cell: (t) => t.name },
  { heading: "NODE", cell: (t) => t.node },
  { heading: "CPU", cell: (t) => formatCpu(t.cpuMillis) },
  { heading: "MEMORY", cell: (t) => formatBytes(t.memoryBytes) },
  { heading: "PROCESSES", cell: (t) => String(t.pids) },
];

/** What a terminal shows at once: redrawing goes up by lines, and none of them may have been broken or scrolled away. */
function fitted(lines: readonly string[], columns: number, rows: number): string[] {
  const room = Math.max(3, rows - 1);
  const shown =
    lines.length <= room ? lines : [...lines.slice(0, room - 1), `… and ${lines.length - room + 1} more lines`];
  return shown.map((line) => (line.length <= columns ? line : `${line.slice(0, columns - 1)}…`));
}
