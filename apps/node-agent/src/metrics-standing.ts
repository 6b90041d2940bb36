/** Metrics of how the node stands with its controller: an alert can tell a node that is cut off, and when what is fenced ends. */
import type { Metrics } from "@berth/telemetry";
import { fencedOf, type LocalTask } from "./local-tasks.ts";
import type { Standing } from "./stopper/standing.ts";

export function registerStanding(
  metrics: Metrics,
  tasks: () => readonly LocalTask[],
  standing: () => Standing | undefined,
): void {
  const seconds = (date: Date | undefined): number => (date === undefined ? 0 : date.getTime() / 1_000);
  metrics.gauge({
    name: "berth_cut_off_since_timestamp_seconds",
    help: "Since when the node is cut off from its controller; 0 while it holds its lease",
    collect: (gauge) => gauge.set({}, seconds(standing()?.cutOffSince)),
  });
  metrics.gauge({
    name: "berth_fenced_tasks",
    help: "Running containers that the node's stopper ends when the lease runs out",
    collect: (gauge) => gauge.set({}, fencedOf(tasks()).count),
  });
  metrics.gauge({
    name: "berth_fenced_until_timestamp_seconds",
    help: "When the last of them has ended, while the node is cut off; else 0",
    collect: (gauge) => gauge.set({}, seconds(fencedOf(tasks()).until)),
  });
}
