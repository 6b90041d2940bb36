/**
 * What a new version does to be kept, and what any version tells of an upgrade that has ended. The proof is what the agent is for:
 * it has taken up what runs (the engine is open only after that), has the runtimes that the old one had, writes its journal, and
 * the controller answers it. Until then `bin/berthd-start` may go back to the old version at any moment.
 */
import { StatusError, type Clock, type Logger } from "@berth/base";
import type { Journal } from "@berth/journal";
import { prunePast } from "./prune.ts";
import { agentEntry } from "../engine/journal-entries.ts";
import type { UpgradeOrder, UpgradeResult, VersionsFolder } from "./versions-folder.ts";

export interface ConfirmDeps {
  readonly folder: VersionsFolder;
  readonly version: string;
  readonly handlers: readonly string[];
  readonly journal: Pick<Journal, "append">;
  readonly leaseHeld: () => boolean;
  readonly clock: Clock;
  readonly logger: Logger;
}

const LOOK_MS = 200;

/** Resolves when all is said and done; rejects with the signal's end alone. */
export async function confirmUpgrade(deps: ConfirmDeps, signal: AbortSignal): Promise<void> {
  const { folder, logger } = deps;
  try {
    const order = folder.order();
    if (order?.to === deps.version) await prove(deps, order, signal);
    const result = folder.result();
    if (result !== undefined && !folder.isTold(result.id)) await tell(deps, result);
  } catch (error) {
    if (signal.aborted) throw error;
    // It goes back at its deadline.
    const status = StatusError.from(error);
    logger.error({ err: status, reason: status.reason }, `this version could not prove itself: ${status.message}`);
  }
}

async function prove(deps: ConfirmDeps, order: UpgradeOrder, signal: AbortSignal): Promise<void> {
  const { folder, handlers, journal, clock, logger } = deps;
  const lost = order.handlers.filter((name) => !handlers.includes(name));
  if (lost.length > 0) {
    const message = `runtime handler ${lost.join(", ")} was usable under version ${order.from} and is not now`;
    throw new StatusError("FAILED_PRECONDITION", message, { reason: "HANDLER_LOST" });
  }
  while (!deps.leaseHeld()) await clock.sleep(LOOK_MS, signal);
  await journal.append([
    agentEntry("started", "UpgradeProven", `version ${order.to} is up, the controller answers it`),
  ]);
  folder.confirm(order);
  logger.info({ from: order.from, to: order.to }, "this version has proven itself and stays");
  const removed = await prunePast(folder, order);
  if (removed.length > 0) logger.info({ versions: removed }, "versions that ran here before the last one are removed");
}

async function tell({ folder, journal, logger }: ConfirmDeps, result: UpgradeResult): Promise<void> {
  const { id, to, from, outcome, reason } = result;
  if (outcome === "rolled-back") {
    const message = `version ${to} was taken back to ${from}: ${reason}`;
    logger.warn({ from, to }, message);
    await journal.append([agentEntry("warning", "UpgradeTakenBack", message)]);
    folder.pass(to);
  }
  folder.told(id);
}
