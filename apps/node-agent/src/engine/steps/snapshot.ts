/** The container's own writable snapshot on top of the image, as large as the plan (or else the node) lets it become. */
import { hasCode, StatusError } from "@berth/base";
import { formatMemory } from "@berth/model";
import type { PrepareOptions } from "@berth/snapshots";
import type { ContainerPlan } from "../plan.ts";
import type { Step, StepDeps } from "./step.ts";

/** On every snapshot that belongs to a container: what the start-up sweep may remove. */
export const CONTAINER_LABEL = "berth.io/container";

export function snapshotStep({
  snapshotter,
  defaultDiskBytes,
}: Pick<StepDeps, "snapshotter" | "defaultDiskBytes">): Step {
  return {
    name: "snapshot",
    failure: "SnapshotFailed",
    async run({ container, facts, onWarning }) {
      if (facts.image === undefined) throw new StatusError("INTERNAL", "snapshot step ran before the image step");
      const { plan, snapshotKey } = container;
      const snapshots = snapshotter(container.namespace, plan.snapshotter);
      const options: PrepareOptions = {
        labels: { [CONTAINER_LABEL]: container.id },
        ...boundOf(plan, defaultDiskBytes),
        ...(plan.volatileRootfs === true ? { volatile: true } : {}),
      };
      try {
        await snapshots.prepare(snapshotKey, facts.image.chainId, options);
      } catch (error) {
        // From before a crash of the agent; with the bound that it got then.
        if (hasCode(error, "ALREADY_EXISTS")) return;
        throw explained(error, plan);
      }
      // A node's own default that it cannot keep is in its log alone: it would be news of every start.
      if (plan.diskBytes === undefined || snapshots.capabilities.quota) return;
      const message = `resources.disk ${formatMemory(plan.diskBytes)} is not enforced: ${snapshots.name} has no quotas here`;
      onWarning("DiskUnbounded", message);
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

function boundOf({ diskBytes }: ContainerPlan, defaultDiskBytes: number | undefined): { maxBytes?: number } {
  const maxBytes = diskBytes ?? defaultDiskBytes;
  return maxBytes === undefined ? {} : { maxBytes };
}

/** A bound that cannot be kept: which field asked for it, and the ways out. */
function explained(error: unknown, { diskBytes }: ContainerPlan): unknown {
  if (!(error instanceof StatusError) || error.reason !== "SNAPSHOT_QUOTA_UNSUPPORTED") return error;
  const { code, reason, message } = error;
  const [field, without] =
    diskBytes === undefined
      ? ["defaultDiskBytes of this node's configuration", "remove that setting"]
      : [`resources.disk ${formatMemory(diskBytes)}`, "leave the field out"];
  const text = `${field}: ${message}; give the node quotas, choose another snapshotter, ${without}, or let the node run it unbounded (missingSnapshotQuota: warn)`;
  return new StatusError(code, text, { reason, cause: error });
}
