/** The table of `fleet`: a column per size, a row per figure, and the targets; last, one line of JSON. */
import { table, type Printed } from "./report.ts";

export type Part = "controller" | "postgres" | "redis" | "nats" | "simulator";

export interface FleetFigures {
  readonly agents: number;
  readonly tasks: number;
  /** Until the last ApplyWorkload was answered. */
  readonly appliedMs: number;
  readonly runningMs: number;
  readonly apiP50Ms: number;
  readonly apiP99Ms: number;
  readonly controllerRssMb: number;
  readonly simulatorRssMb: number;
  readonly cpuMsPerTask: Readonly<Record<Part, number>>;
  readonly idlePercent: Readonly<Record<Part, number>>;
}

const PARTS: readonly Part[] = ["controller", "postgres", "redis", "nats", "simulator"];

export function fleetTable(figures: readonly FleetFigures[]): Printed {
  const row = (name: string, target: string, value: (of: FleetFigures) => string): string[] => [
    name,
    ...figures.map(value),
    target,
  ];
  const rows = [
    row("", "target at 1,000", ({ agents }) => `${agents} agents`),
    row("apply to all running, s", "", ({ runningMs }) => fixed(runningMs / 1_000, 2)),
    row("tasks/s", "1500", (of) => fixed(perSecond(of), 0)),
    row("applies answered, s", "", ({ appliedMs }) => fixed(appliedMs / 1_000, 2)),
    row("API p50, ms", "", ({ apiP50Ms }) => fixed(apiP50Ms, 1)),
    row("API p99, ms", "100", ({ apiP99Ms }) => fixed(apiP99Ms, 1)),
    row("controller Rss, MB", "", ({ controllerRssMb }) => fixed(controllerRssMb, 0)),
    row("simulator Rss, MB", "", ({ simulatorRssMb }) => fixed(simulatorRssMb, 0)),
    ...PARTS.map((part) => row(`cpu ms per task: ${part}`, "", (of) => fixed(of.cpuMsPerTask[part], 3))),
    row("cpu ms per task: all", "1.3", (of) => fixed(total(of.cpuMsPerTask), 3)),
    ...PARTS.map((part) => row(`idle, % of a core: ${part}`, "", (of) => fixed(of.idlePercent[part], 1))),
    row("idle: all but the simulator", "5", (of) => fixed(idleWithoutAgents(of), 1)),
    row("idle per 1,000 agents", "5", (of) => fixed((idleWithoutAgents(of) / of.agents) * 1_000, 1)),
  ];
  return {
    text: table(rows),
    json: {
      bench: "fleet",
      sizes: figures.map((of) => ({
        ...of,
        tasksPerSecond: Math.round(perSecond(of)),
        cpuMsPerTaskTotal: Number(total(of.cpuMsPerTask).toFixed(3)),
        idlePercentWithoutSimulator: Number(idleWithoutAgents(of).toFixed(2)),
      })),
    },
  };
}

function perSecond({ tasks, runningMs }: FleetFigures): number {
  return (tasks / runningMs) * 1_000;
}

function total(parts: Readonly<Record<Part, number>>): number {
  return PARTS.reduce((sum, part) => sum + parts[part], 0);
}

function idleWithoutAgents({ idlePercent }: FleetFigures): number {
  return total(idlePercent) - idlePercent.simulator;
}

function fixed(value: number, digits: number): string {
  return value.toFixed(digits);
}
