/** What berthd shows at :1338/metrics. Names follow containerd's and the kubelet's where they mean the same. */
import type { Logger } from "@berth/base";
import type { OperationName, OperationObserver } from "./engine/operations.ts";
import type { Engine } from "./engine/engine.ts";
import type { FleetDoor } from "./doors/fleet/fleet-door.ts";
import type { Metrics } from "@berth/telemetry";
import type { GarbageCollection } from "@berth/images";
import type { NamespacedSnapshots } from "@berth/snapshots";
import { registerDiskMetrics } from "./metrics-disk.ts";
import { registerContainerGauges } from "./container-gauges.ts";
import { containerdMetrics } from "./metrics-containerd.ts";
import { registerGcMetrics } from "./metrics-gc.ts";
import { registerStanding } from "./metrics-standing.ts";
import type { LocalTask } from "./local-tasks.ts";

export interface AgentMetricsDeps {
  readonly metrics: Metrics;
  readonly engine: () => Engine | undefined;
  readonly door: () => FleetDoor | undefined;
  readonly tasks: () => readonly LocalTask[];
  readonly gc: () => GarbageCollection | undefined;
  readonly snapshots: () => readonly NamespacedSnapshots[];
  readonly version: string;
  readonly logger: Logger;
}

export interface AgentMetrics extends OperationObserver {
  /** Operations so far. */
  readonly count: number;
}

const OPERATION_LABELS = ["operation_type"] as const;
const PULL_BUCKETS = [0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1_800];

/** Registers everything and returns where the engine reports its operations. */
export function registerMetrics(deps: AgentMetricsDeps): AgentMetrics {
  const { metrics } = deps;
  metrics
    .gauge({ name: "berth_build_info", help: "The version that runs; always 1", labels: ["version"] })
    .set({ version: deps.version }, 1);
  registerContainers(deps);
  registerDiskMetrics(deps);
  registerFleet(deps);
  registerGcMetrics(metrics, deps.gc);
  return operations(metrics, containerdMetrics(metrics, deps.version));
}

function operations(metrics: Metrics, containerd: OperationObserver): AgentMetrics {
  const total = metrics.counter({
    name: "container_runtime_operations_total",
    help: "Operations of the container engine",
    labels: OPERATION_LABELS,
  });
  const errors = metrics.counter({
    name: "container_runtime_operations_errors_total",
    help: "Operations of the container engine that failed",
    labels: OPERATION_LABELS,
  });
  const duration = metrics.histogram({
    name: "container_runtime_operations_duration_seconds",
    help: "How long operations of the container engine took",
    labels: OPERATION_LABELS,
  });
  const pulls = metrics.histogram({
    name: "container_image_pull_duration_seconds",
    help: "How long pulls took, unpacking included",
    labels: ["result"],
    buckets: PULL_BUCKETS,
  });
  let count = 0;
  return {
    get count() {
      return count;
    },
    operation(name: OperationName, seconds: number, failed: boolean) {
      count += 1;
      total.add({ operation_type: name });
      if (failed) errors.add({ operation_type: name });
      duration.observe({ operation_type: name }, seconds);
      containerd.operation(name, seconds, failed);
      if (name === "pull_image") pulls.observe({ result: failed ? "error" : "success" }, seconds);
    },
  };
}

function registerContainers(deps: AgentMetricsDeps): void {
  const help = {
    container_memory_usage_bytes: "Memory that a container uses, caches included",
    container_cpu_usage_seconds_total: "CPU time that a container has used",
    container_processes: "Processes of a container",
  };
  registerContainerGauges(deps, help, async ({ container, runtime }) => {
    const { memoryUsageBytes, cpuUsageSeconds, pids } = await runtime.stats(container);
    return {
      container_memory_usage_bytes: memoryUsageBytes,
      container_cpu_usage_seconds_total: cpuUsageSeconds,
      container_processes: pids,
    };
  });
}

function registerFleet({ metrics, engine, door, tasks }: AgentMetricsDeps): void {
  metrics.gauge({
    name: "berth_tasks",
    help: "Executions on this node by state",
    labels: ["state"],
    collect: (gauge) => {
      gauge.clear();
      const byState = Map.groupBy(engine()?.executions() ?? [], ({ state }) => state);
      for (const [state, executions] of byState) gauge.set({ state }, executions.length);
    },
  });
  metrics.gauge({
    name: "berth_journal_entries",
    help: "Journal entries that wait: to be taken by the broker, to be stored by the controller",
    labels: ["waiting_for"],
    collect: (gauge) => {
      const backlog = door()?.status().backlog;
      if (backlog === undefined) return;
      gauge.set({ waiting_for: "broker" }, backlog.unpublished);
      gauge.set({ waiting_for: "controller" }, backlog.unstored);
    },
  });
  metrics.gauge({
    name: "berth_lease_held",
    help: "1 while the node's lease lasts",
    collect: (gauge) => gauge.set({}, door()?.status().leaseHeld === true ? 1 : 0),
  });
  registerStanding(metrics, tasks, () => door()?.status().standing);
}
