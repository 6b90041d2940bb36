/** Instruments that measure nothing. */
import type { ControllerMetrics } from "../metrics.ts";

export const noMetrics: Omit<ControllerMetrics, "api"> = {
  reconcile: { reconciled() {}, reactionTime() {} },
  placement: { placed() {}, unplaceable() {} },
  dispatch: { dispatched() {}, dispatchFailed() {} },
  ingest: { ingested() {}, ingestBatch() {} },
  webhooks: { webhookSent() {}, webhookGaveUp() {} },
  lease: { leaseAnswered() {} },
};
