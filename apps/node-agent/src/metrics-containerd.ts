/**
 * The same operations under containerd's names, so that dashboards and alerts made for it go on working. They speak of the
 * engine, by whichever door the work came; `containerd_cri_sandbox_create_network` is a task's network here.
 */
import type { HistogramInstrument, Metrics } from "@berth/telemetry";
import type { OperationName, OperationObserver } from "./engine/operations.ts";

const TIMERS: Readonly<Partial<Record<OperationName, readonly [name: string, help: string]>>> = {
  create_container: ["containerd_cri_container_create_seconds", "How long creating containers took"],
  start_container: ["containerd_cri_container_start_seconds", "How long starting containers took"],
  stop_container: ["containerd_cri_container_stop_seconds", "How long stopping containers took"],
  remove_container: ["containerd_cri_container_remove_seconds", "How long removing containers took"],
  attach_network: ["containerd_cri_sandbox_create_network_seconds", "How long connecting networks took"],
  collect_garbage: ["containerd_gc_gc_seconds", "How long collections took"],
};

export function containerdMetrics(metrics: Metrics, version: string): OperationObserver {
  metrics
    .gauge({
      name: "containerd_build_info_total",
      help: "The version that runs; always 1",
      labels: ["version", "revision"],
    })
    .set({ version, revision: "berth" }, 1);
  const timers = new Map<string, HistogramInstrument>(
    Object.entries(TIMERS).map(([operation, [name, help]]) => [operation, metrics.histogram({ name, help })]),
  );
  const pulls = metrics.counter({
    name: "containerd_cri_sandboxed_image_pulls_total",
    help: "Pulls by how they ended",
    labels: ["status"],
  });
  const collections = metrics.counter({
    name: "containerd_gc_collections_total",
    help: "Collections by how they ended",
    labels: ["status"],
  });
  return {
    operation(name, seconds, failed) {
      timers.get(name)?.observe({}, seconds);
      if (name === "pull_image") pulls.add({ status: failed ? "failure" : "success" });
      if (name === "collect_garbage") collections.add({ status: failed ? "fail" : "success" });
    },
  };
}
