/** AgentUpgradeService: passes an order on to the agent that it is for. Nothing is stored: the node keeps what becomes of it. */
import { StatusError } from "@berth/base";
import { agentUpgradeEndpoint, type FrameBus } from "@berth/bus";
import { AgentUpgradeService } from "@berth/proto";
import { implement, type Implementation } from "@berth/rpc";
import { getNode, type Store } from "@berth/store";
import { notFound } from "./refusals.ts";

export interface AgentUpgradeDeps {
  readonly store: Store;
  readonly bus: Pick<FrameBus, "request">;
}

const ANSWER_MS = 3_000;

export function agentUpgradeService({ store, bus }: AgentUpgradeDeps): Implementation {
  return implement(AgentUpgradeService, {
    async upgradeAgent(request, { signal }) {
      const { node } = request;
      if ((await getNode(store.db, node)) === undefined) throw notFound("node", node);
      try {
        return await bus.request(agentUpgradeEndpoint, node, request, { timeoutMs: ANSWER_MS, signal });
      } catch (error) {
        const why = StatusError.from(error);
        throw new StatusError("UNAVAILABLE", `the agent of node ${node} does not answer: ${why.message}`, {
          reason: "AGENT_UNREACHABLE",
          cause: error,
        });
      }
    },
  });
}
