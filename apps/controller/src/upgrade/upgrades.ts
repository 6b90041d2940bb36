/**
 * Leads nodes to another version of the agent. One controller does it, by an advisory lock; another takes over when it is gone, and
 * gives the same orders: what is under way has its id in the store, and a node that is asked again says how far it is.
 *
 * Invariants: an order is stored before its node hears of it; what a node answers is stored only while it is under way. A node's
 * way back is its own (`bin/berthd-start`): nothing here is needed for it.
 */
import { create } from "@bufbuild/protobuf";
import { hasCode, Lifetime, Semaphore, StatusError, type Logger } from "@berth/base";
import { agentUpgradeEndpoint, type FrameBus } from "@berth/bus";
import { UpgradeAgentRequestSchema, type AgentUpgradeState } from "@berth/proto";
import {
  insertEvents,
  lockUpgrade,
  nodePhases,
  storeTime,
  UNDER_WAY,
  updateUpgrade,
  updateUpgradeNodes,
  UPGRADE_LOCK,
  upgradeNodesOf,
  upgradesAtWork,
  upgradeSpec,
  type Store,
  type Tx,
  type UpgradeNodeRow,
  type UpgradeNodeUpdate,
  type UpgradeRow,
} from "@berth/store";
import { KeptLock } from "../loop/kept-lock.ts";
import { startLoop } from "../loop/loop.ts";
import { planUpgrade } from "./plan.ts";

export interface UpgradeDeps {
  readonly store: Store;
  readonly bus: Pick<FrameBus, "request">;
  readonly logger: Logger;
}

const ANSWER_MS = 3_000;
const ASKED_AT_ONCE = 64;
const ENDS: ReadonlySet<string> = new Set(["Proven", "TakenBack", "Refused"]);

export function startUpgrades(
  deps: UpgradeDeps,
  { lookMs = 1_000 }: { readonly lookMs?: number } = {},
  options: { readonly signal?: AbortSignal } = {},
): AsyncDisposable {
  const { store, logger } = deps;
  const lifetime = new Lifetime(options.signal);
  const lock = lifetime.own(new KeptLock(store, UPGRADE_LOCK));
  lifetime.own(
    startLoop(
      { logger },
      {
        name: "upgrades",
        async round(signal) {
          const ids = await upgradesAtWork(store.db);
          if (ids.length === 0) return lookMs * 2;
          if ((await lock.held()) === undefined) return lookMs * 2;
          for (const id of ids) await lookAt(deps, id, signal);
          return lookMs;
        },
      },
      lifetime.signal,
    ),
  );
  return lifetime;
}

/** Plans, stores what is begun, and asks each node that is under way how far it is. */
async function lookAt(deps: UpgradeDeps, id: number, signal: AbortSignal): Promise<void> {
  const { store } = deps;
  const planned = await store.transaction((tx) => move(tx, id));
  if (planned === undefined || planned.underWay.length === 0) return;
  const { row, underWay } = planned;
  const permits = new Semaphore(ASKED_AT_ONCE);
  const answers = await Promise.all(
    underWay.map((node) => permits.run(async () => await ask(deps, row, node, signal), signal)),
  );
  const said = answers.filter((answer) => answer !== undefined);
  if (said.length === 0) return;
  await store.transaction(async (tx) => {
    if ((await lockUpgrade(tx, id)) === undefined) return;
    const now = await storeTime(tx);
    const updates = said.map(({ node, state }): UpgradeNodeUpdate => {
      const { phase, message } = state;
      return { node, phase, message, ...(ENDS.has(phase) ? { finishedAt: now } : {}) };
    });
    await updateUpgradeNodes(tx, id, updates);
    await move(tx, id);
  });
}

async function move(
  tx: Tx,
  id: number,
): Promise<{ readonly row: UpgradeRow; readonly underWay: readonly UpgradeNodeRow[] } | undefined> {
  const row = await lockUpgrade(tx, id);
  if (row === undefined) return undefined;
  const nodes = await upgradeNodesOf(tx, id);
  const phases = await nodePhases(tx, nodes.map(({ node }) => node)); // prettier-ignore
  const plan = planUpgrade({ row, spec: upgradeSpec(row), nodes, phases, now: await storeTime(tx) });
  await updateUpgradeNodes(tx, id, plan.nodes);
  let moved = row;
  if (Object.keys(plan.upgrade).length > 0) moved = await updateUpgrade(tx, row, plan.upgrade);
  if (moved.phase !== row.phase) await tell(tx, moved);
  const begun = new Map(plan.nodes.map((update) => [update.node, update.phase]));
  return { row: moved, underWay: nodes.filter(({ node, phase }) => UNDER_WAY.has(begun.get(node) ?? phase)) };
}

/** In the events of the cluster, where it stands: `Started`, `Paused`, `Stopped`… */
export async function tell(tx: Tx, row: UpgradeRow, reason: string = row.phase): Promise<void> {
  const { to } = upgradeSpec(row);
  const message = `upgrade ${row.id}${to === "" ? "" : ` to ${to}`}${row.message === "" ? "" : `: ${row.message}`}`;
  const severity = row.phase === "Stopped" ? "Warning" : "Normal";
  await insertEvents(tx, [{ topic: "/fleet/upgrade", kind: "Fleet", name: "upgrades", severity, reason, message }]);
}

/** Undefined: it does not answer now, which it may not while it is started anew. */
async function ask(
  { bus, logger }: UpgradeDeps,
  row: UpgradeRow,
  { node, orderId, toVersion }: UpgradeNodeRow,
  signal: AbortSignal,
): Promise<{ readonly node: string; readonly state: AgentUpgradeState } | undefined> {
  const { image, timeout } = upgradeSpec(row);
  const order = create(UpgradeAgentRequestSchema, {
    node,
    id: orderId,
    to: toVersion,
    image,
    ...(timeout === undefined ? {} : { timeout }),
  });
  try {
    return { node, state: await bus.request(agentUpgradeEndpoint, node, order, { timeoutMs: ANSWER_MS, signal }) };
  } catch (error) {
    const why = StatusError.from(error);
    if (!hasCode(why, "UNAVAILABLE", "DEADLINE_EXCEEDED"))
      logger.warn({ node, err: why }, "an agent could not be asked how far its upgrade is");
    return undefined;
  }
}
