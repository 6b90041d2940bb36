/** The screens of `berth explain`. */
import { formatTable, type Column, type Paint } from "@berth/base/terminal";
import type {
  DomainTasks,
  NodeVerdict,
  PlacementVerdict,
  RefusedNodes,
  ScoredNode,
  TaskExplanation,
  TaskGroup,
  WorkloadExplanation,
} from "@berth/proto";
import { formatTime } from "./units.ts";

export function taskScreen(task: TaskExplanation, paint: Paint): string[] {
  const { decided, now } = task;
  const lines = [headOf(task, paint)];
  if (task.message !== "") lines.push(`  ${task.message}`);
  if (decided !== undefined) {
    lines.push("", paint.bold(`Decided ${formatTime(decided.at)}: ${fits(decided)}`));
    lines.push(...points(decided.leading, decided.chosen), ...refusals(decided.refused));
  } else if (task.node !== "") lines.push("", "Its decision is no longer recorded.");
  if (now === undefined) return lines;
  lines.push("", paint.bold(`Now: ${fits(now)}`));
  const wouldMove = task.node !== "" && now.leading[0] !== undefined && now.leading[0].node !== task.node;
  if (wouldMove) lines.push(`  a new task would go to ${now.leading[0]!.node}; one that is placed stays where it is`);
  if (now.reason !== "" && now.reason !== task.message) lines.push(`  ${now.reason}`);
  lines.push(...points(now.leading, undefined), ...refusals(now.refused));
  if (now.byNode.length > 0) lines.push("", paint.bold("Node by node"), ...now.byNode.flatMap(verdictLines));
  if (now.suggestions.length > 0) {
    lines.push("", paint.bold("What would place it"), ...now.suggestions.map((line) => `  ${line}`));
  }
  return lines;
}

export function workloadScreen(workload: WorkloadExplanation, paint: Paint): string[] {
  const { placed, waiting, priority, gang } = workload;
  const more = [priority === 0 ? "" : `priority ${priority}`, gang ? "a gang" : ""].filter((word) => word !== "");
  const counts = `${placed} placed, ${waiting === 0 ? "0 waiting" : paint.yellow(`${waiting} waiting`)}`;
  const lines = [`workload/${workload.workload}  ${[counts, ...more].join(", ")}`];
  if (workload.groups.length > 0) lines.push("", ...table(GROUPS, workload.groups));
  for (const [key, domains] of Map.groupBy(workload.domains, ({ topologyKey }) => topologyKey)) {
    if (key !== "") lines.push("", paint.bold(`Over ${key}`), ...table(DOMAINS, domains));
  }
  const { waits } = workload;
  if (waits !== undefined) lines.push("", paint.bold("The first that waits"), ...taskScreen(waits, paint));
  return lines;
}

function headOf({ task, node, nominatedNode, phase, reason, priority }: TaskExplanation, paint: Paint): string {
  const where = node === "" ? paint.yellow("has no node") : `on ${node}`;
  const nominated = nominatedNode === "" ? "" : `, room is made on ${nominatedNode}`;
  const of = priority === 0 ? "" : `, priority ${priority}`;
  return `task/${task}  ${where}${nominated}: ${phase}${reason === "" ? "" : ` (${reason})`}${of}`;
}

function fits({ fit, nodes }: PlacementVerdict): string {
  return `${fit} of ${nodes} ${nodes === 1 ? "node" : "nodes"} would do`;
}

const PARTS = ["spread", "load", "image", "nodeAffinity", "taskAffinity", "taint"] as const;
const HEADINGS: Readonly<Record<string, string>> = { nodeAffinity: "NODE-AFFINITY", taskAffinity: "TASK-AFFINITY" };

/** A column for each thing that made a difference. The chosen one is starred, as it was when it was its turn. */
function points(leading: readonly ScoredNode[], chosen: ScoredNode | undefined): string[] {
  const rows = chosen === undefined ? [...leading] : [chosen, ...leading.filter(({ node }) => node !== chosen.node)];
  if (rows.length === 0) return [];
  const used = PARTS.filter((part) => rows.some(({ parts }) => (parts[part] ?? 0) !== 0));
  const columns: Column<ScoredNode>[] = [
    { heading: "NODE", cell: (row) => `${row === chosen ? "* " : "  "}${row.node}` },
    { heading: "POINTS", cell: (row) => String(row.points) },
    ...used.map((part) => ({
      heading: HEADINGS[part] ?? part.toUpperCase(),
      cell: (row: ScoredNode) => String(row.parts[part] ?? 0),
    })),
  ];
  return table(columns, rows);
}

function refusals(refused: readonly RefusedNodes[]): string[] {
  return refused.map(({ why, count, nodes }) => {
    const more = count > nodes.length ? `, and ${count - nodes.length} more` : "";
    return `  ${count} ${why}: ${nodes.join(", ")}${more}`;
  });
}

function verdictLines({ node, against, score }: NodeVerdict): string[] {
  if (score !== undefined) {
    const parts = PARTS.filter((part) => (score.parts[part] ?? 0) !== 0).map((part) => `${part} ${score.parts[part]}`);
    return [`  ${node}  would do, ${score.points} points${parts.length === 0 ? "" : `: ${parts.join(", ")}`}`];
  }
  return [`  ${node}  will not do`, ...against.map((why) => `    it ${why}`)];
}

const GROUPS: readonly Column<TaskGroup>[] = [
  { heading: "TASKS", cell: (group) => String(group.count) },
  { heading: "NODE", cell: (group) => group.node || "-" },
  { heading: "WHY", cell: (group) => [group.reason, group.message].filter((word) => word !== "").join(": ") || "-" },
  { heading: "SUCH AS", cell: (group) => group.tasks.slice(0, 2).join(", ") },
];

const DOMAINS: readonly Column<DomainTasks>[] = [
  { heading: "DOMAIN", cell: ({ domain }) => domain || "(without the label)" },
  { heading: "TASKS", cell: ({ tasks }) => String(tasks) },
  { heading: "NODES", cell: ({ nodes }) => String(nodes) },
];

function table<T>(columns: readonly Column<T>[], rows: readonly T[]): string[] {
  return formatTable(columns, rows, { wide: false })
    .trimEnd()
    .split("\n")
    .map((line) => `  ${line}`);
}
