/** The order in which a container is started; removal is the reverse. */
import { bundleStep } from "./bundle.ts";
import { createStep } from "./create.ts";
import { fenceStep, startsUnderLease } from "./fence.ts";
import { imageStep } from "./image.ts";
import { networkStep } from "./network.ts";
import { rootfsStep } from "./rootfs.ts";
import { snapshotStep } from "./snapshot.ts";
import { specStep } from "./spec.ts";
import { startStep } from "./start.ts";
import type { Step, StepDeps } from "./step.ts";

export function startSteps(deps: StepDeps): readonly Step[] {
  return [
    imageStep(deps),
    snapshotStep(deps),
    bundleStep(),
    rootfsStep(deps),
    networkStep(deps),
    specStep(deps),
    fenceStep(deps),
    createStep(deps),
    startsUnderLease(startStep(deps), deps),
  ];
}

export type { StartContext, StartFacts, Step, StepDeps, StepName } from "./step.ts";
