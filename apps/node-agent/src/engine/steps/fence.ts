/**
 * The stopper is told of a fenced container before it can have a process (step List of the protocol in `stopper/stopper.ts`).
 * Undo comes after the create step's, when nothing of the container runs any more.
 */
import { join } from "node:path";
import { StatusError } from "@berth/base";
import { signalNumber, type CgroupLayout } from "@berth/linux";
import { initPidFile } from "@berth/runtime";
import type { LeaseGate } from "../../stopper/lease-gate.ts";
import type { Stopper } from "../../stopper/stopper.ts";
import type { Container } from "../container.ts";
import { describeKey } from "../execution.ts";
import type { StartFacts, Step } from "./step.ts";

export interface FenceDeps {
  readonly stopper: Stopper;
  readonly gate: LeaseGate;
  readonly cgroups: CgroupLayout;
}

/** The lease ran out while the container was being prepared: it is begun again when the lease is back. */
export const LEASE_NOT_HELD = "LEASE_NOT_HELD";

export function fenceStep({ stopper, cgroups }: Omit<FenceDeps, "gate">): Step {
  return {
    name: "fence",
    failure: "StopperUnavailable",
    async run({ container, facts }) {
      if (container.plan.fence !== true) return;
      await stopper.list({
        key: describeKey(container),
        ...cgroupFiles(cgroups, container.cgroupPath),
        initPidFile: initPidFile(container.bundle),
        signal: signalNumber(stopSignalOf(container, facts)),
        graceMs: container.plan.stopGraceMs,
      });
    },
    async undo(container) {
      if (container.plan.fence === true) stopper.unlist(describeKey(container));
    },
  };
}

/**
 * The start step of a fenced container (step Start). Its process exists by now, waiting to be started, so what is started after
 * the deadline has been seen by the stopper at the deadline: it does not matter how long a start takes after this look.
 */
export function startsUnderLease(step: Step, { gate }: Pick<FenceDeps, "gate">): Step {
  return {
    ...step,
    async run(context) {
      const { plan, origin } = context.container;
      // protocol: LeaseChecked
      if (plan.fence !== true || gate.isOpen(origin)) return await step.run(context);
      throw new StatusError("UNAVAILABLE", "the node's lease is not held", { reason: LEASE_NOT_HELD });
    },
  };
}

/** Of a container that is being started. */
export function stopSignalOf(container: Container, facts: StartFacts): string {
  return container.plan.stopSignal ?? facts.image?.config.config?.StopSignal ?? "SIGTERM";
}

/** v2 and one hierarchy of v1 are enough: runtimes put a container's processes into all of v1. */
function cgroupFiles(
  { unified, controllers, roots }: CgroupLayout,
  path: string,
): { readonly cgroups: readonly string[]; readonly freezer: string | undefined } {
  const freezer = controllers.get("freezer");
  const v1 = freezer ?? controllers.get("pids") ?? roots.find((root) => root !== unified);
  const looked = new Set([unified, v1].filter((root) => root !== undefined));
  return {
    cgroups: [...looked].map((root) => join(root, path)),
    freezer: freezer === undefined || freezer === unified ? undefined : join(freezer, path, "freezer.state"),
  };
}
