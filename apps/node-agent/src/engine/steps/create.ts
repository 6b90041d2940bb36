/** The supervisor and the container in state *created*. Undo kills whatever runs in it and removes what the runtime holds. */
import type { Step, StepDeps } from "./step.ts";

export function createStep({ runtime, logMaxBytes }: Pick<StepDeps, "runtime" | "logMaxBytes">): Step {
  return {
    name: "create",
    failure: "CreateFailed",
    async run({ container, signal }) {
      const { namespace, id, bundle, logPath, cgroupPath, plan } = container;
      const terminal = plan.container.terminal === true;
      const size = logMaxBytes === undefined ? {} : { logMaxBytes };
      const request = { namespace, id, bundle, logPath, terminal, cgroupPath, input: plan.container.input ?? "none" };
      await runtime(plan.handler).create({ ...request, ...size }, signal);
    },
    async undo(container) {
      await runtime(container.plan.handler).delete(container);
    },
  };
}
