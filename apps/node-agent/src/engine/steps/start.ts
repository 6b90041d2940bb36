/** The container's first process runs. Undo: deleting it (the create step) ends it. */
import type { Step, StepDeps } from "./step.ts";

export function startStep({ runtime }: Pick<StepDeps, "runtime">): Step {
  return {
    name: "start",
    failure: "StartFailed",
    async run({ container }) {
      await runtime(container.plan.handler).start(container);
    },
    async undo() {},
  };
}
