/** The snapshot mounted at the bundle's `rootfs`. */
import { isMountPoint, unmountAll } from "@berth/linux";
import { mountAll } from "@berth/snapshots";
import type { Step, StepDeps } from "./step.ts";

export function rootfsStep({ snapshotter }: Pick<StepDeps, "snapshotter">): Step {
  return {
    name: "rootfs",
    failure: "MountFailed",
    async run({ container }) {
      if (isMountPoint(container.rootfs)) return;
      const snapshots = snapshotter(container.namespace, container.plan.snapshotter);
      mountAll(await snapshots.mounts(container.snapshotKey), container.rootfs);
    },
    async undo({ rootfs }) {
      // Detached: something that still looks into it (an exec that hangs, a scanner) must not hold up the removal.
      unmountAll(rootfs, { detach: true });
    },
  };
}
