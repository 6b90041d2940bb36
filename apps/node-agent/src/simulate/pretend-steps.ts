/** The steps of a start that only pretends. Their names, and so the entries of the journal, are those of a real one. */
import { StatusError, type Clock } from "@berth/base";
import type { SimulationProfile } from "@berth/config";
import type { CgroupLayout } from "@berth/linux";
import type { Container } from "../engine/container.ts";
import { fenceStep, startsUnderLease } from "../engine/steps/fence.ts";
import type { Step } from "../engine/steps/index.ts";
import type { LeaseGate } from "../stopper/lease-gate.ts";
import type { Stopper } from "../stopper/stopper.ts";
import type { Chance } from "./chance.ts";
import type { PretendImages } from "./pretend-images.ts";
import type { PretendRuntime } from "./pretend-runtime.ts";

export interface PretendStepDeps {
  readonly profile: Pick<SimulationProfile, "start">;
  readonly chance: Chance;
  readonly images: PretendImages;
  readonly runtime: PretendRuntime;
  readonly clock: Clock;
  readonly stopper: Stopper;
  readonly gate: LeaseGate;
}

const NO_CGROUPS: CgroupLayout = { mode: "none", unified: undefined, controllers: new Map(), roots: [] };

export function pretendSteps(deps: PretendStepDeps): readonly Step[] {
  // No cgroups: the stopper of a simulated node ends containers by their names.
  const fence = fenceStep({ ...deps, cgroups: NO_CGROUPS });
  return [imageStep(deps), snapshotStep(), fence, createStep(deps), startsUnderLease(startStep(deps), deps)];
}

function imageStep({ images }: PretendStepDeps): Step {
  return {
    name: "image",
    failure: "ImagePullFailed",
    async run({ container, facts, signal, onPulling }) {
      const { namespace, plan } = container;
      const present = images.find(namespace, plan.image);
      if (present === undefined) onPulling();
      const request = { namespace, image: plan.image, snapshotter: plan.snapshotter, signal };
      facts.image = present ?? (await images.pull(request));
    },
    async undo() {},
  };
}

/** Its beginning is what the journal calls `creating`. */
function snapshotStep(): Step {
  return { name: "snapshot", failure: "SnapshotFailed", async run() {}, async undo() {} };
}

/** Takes as long as all between the image and the running process. */
function createStep({ profile: { start }, chance, runtime, clock }: PretendStepDeps): Step {
  const about = ({ id, generation, attempt }: Container) => [id, generation, attempt] as const;
  return {
    name: "create",
    failure: "CreateFailed",
    async run({ container, signal }) {
      await clock.sleep(chance.within(start.ms, "start", ...about(container)), signal);
      if (!chance.happens(start.failures, "start fails", ...about(container))) return;
      throw new StatusError("INTERNAL", "the profile has it fail", { reason: "SIMULATED" });
    },
    undo: (container) => runtime.delete(container),
  };
}

function startStep({ runtime }: PretendStepDeps): Step {
  return {
    name: "start",
    failure: "StartFailed",
    run: ({ container }) => runtime.start(container),
    async undo() {},
  };
}
