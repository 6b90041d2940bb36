/**
 * AgentUpgradeService: upgrades of many nodes, which `upgrade/` leads; and one order to one node, which is passed on and stored
 * nowhere but there.
 */
import { create } from "@bufbuild/protobuf";
import { StatusError } from "@berth/base";
import { agentUpgradeEndpoint, type FrameBus } from "@berth/bus";
import { AgentUpgradeService, ListUpgradesResponseSchema, type Upgrade, type UpgradeAgentRequest } from "@berth/proto";
import { implement, type Implementation } from "@berth/rpc";
import { getNode, listUpgrades, upgradeMessage, type Store } from "@berth/store";
import { found, startUpgrade, steerUpgrade, undoUpgrade } from "../upgrade/start.ts";
import { notFound } from "./refusals.ts";

export interface AgentUpgradeDeps {
  readonly store: Store;
  readonly bus: Pick<FrameBus, "request">;
}

const ANSWER_MS = 3_000;
const DEFAULT_LIST = 20;

export function agentUpgradeService(deps: AgentUpgradeDeps): Implementation {
  const { store } = deps;
  return implement(AgentUpgradeService, {
    upgradeAgent: (request, { signal }) => upgradeAgent(deps, request, signal),
    startUpgrade: ({ spec, dryRun }) => startUpgrade(store, spec!, dryRun),
    getUpgrade: ({ name }) => getUpgradeMessage(store, name),
    async listUpgrades({ limit }) {
      const listed = await listUpgrades(store.db, limit === 0 ? DEFAULT_LIST : limit);
      return create(ListUpgradesResponseSchema, {
        items: listed.map(({ row, nodes }) => upgradeMessage(row, nodes, false)),
      });
    },
    pauseUpgrade: ({ name }) => steerUpgrade(store, name, "pause"),
    resumeUpgrade: ({ name }) => steerUpgrade(store, name, "resume"),
    cancelUpgrade: ({ name }) => steerUpgrade(store, name, "cancel"),
    undoUpgrade: ({ name }) => undoUpgrade(store, name),
  });
}

async function getUpgradeMessage(store: Store, name: string): Promise<Upgrade> {
  const { row, nodes } = await found(store.db, name);
  return upgradeMessage(row, nodes);
}

async function upgradeAgent({ store, bus }: AgentUpgradeDeps, request: UpgradeAgentRequest, signal: AbortSignal) {
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
}
