/** The container's own writable snapshot on top of the image. */
import { hasCode, StatusError } from "@berth/base";
import type { Step, StepDeps } from "./step.ts";

/** On every snapshot that belongs to a container: what the start-up sweep may remove. */
export const CONTAINER_LABEL = "berth.io/container";

export function snapshotStep({ snapshotter }: Pick<StepDeps, "snapshotter">): Step {
  return {
    name: "snapshot",
    failure: "SnapshotFailed",
    async run({ container, facts }) {
      if (facts.image === undefined) throw new StatusError("INTERNAL", "snapshot step ran before the image step");
      const snapshots = snapshotter(container.namespace, container.plan.snapshotter);
      try {
        const labels = { [CONTAINER_LABEL]: container.id };
        await snapshots.prepare(container.snapshotKey, facts.image.chainId, { labels });
      } catch (error) {
        if (!hasCode(error, "ALREADY_EXISTS")) throw error;
      }
    },
    async undo(container) {
      try {
        await snapshotter(container.namespace, container.plan.snapshotter).remove(container.snapshotKey);
      } catch (error) {
        if (!hasCode(error, "NOT_FOUND")) throw error;
      }
    },
  };
}
