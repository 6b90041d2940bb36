/** The container's network namespace, connected as its plan says. The network library keeps the records for undoing. */
import type { Step, StepDeps } from "./step.ts";

export function networkStep({ network }: Pick<StepDeps, "network">): Step {
  return {
    name: "network",
    failure: "NetworkFailed",
    async run({ container, facts }) {
      const { namespace, id, plan } = container;
      facts.attachment = await network.attach({ namespace, id, mode: plan.network.mode, ports: plan.network.ports });
    },
    async undo({ namespace, id }) {
      await network.detach(namespace, id);
    },
  };
}
