/**
 * What this node has of the fleet's tasks, for a store that was put back and asks for it (`holdings_wanted` of a lease's answer).
 *
 * Invariant: the executions are read before the journal's head, and after the newest set was applied: what happens to them later is
 * in the journal behind that head, and none of another store is begun any more.
 */
import { create } from "@bufbuild/protobuf";
import { StatusError, type Logger } from "@berth/base";
import { holdingsEndpoint, type Bus } from "@berth/bus";
import type { Journal } from "@berth/journal";
import { HoldingsRequestSchema, type HoldingsRequest, type LeaseReply } from "@berth/proto";
import type { Engine } from "../../engine/engine.ts";
import type { Execution } from "../../engine/execution.ts";
import type { AssignmentState } from "./assignment-state.ts";

export interface HoldingsDeps {
  readonly bus: Bus;
  readonly node: string;
  readonly engine: Pick<Engine, "executions">;
  readonly journal: Pick<Journal, "epoch" | "head">;
  readonly state: Pick<AssignmentState, "applied">;
  readonly logger: Logger;
}

/** Says it, where it is asked for and the newest set is applied; otherwise the next answer asks again. */
export async function tellHoldings(deps: HoldingsDeps, reply: LeaseReply): Promise<void> {
  if (!reply.holdingsWanted) return;
  const applied = deps.state.applied();
  if (applied.storeEpoch !== reply.storeEpoch || applied.revision < Number(reply.revision)) return;
  const { bus, node, logger } = deps;
  try {
    const { refused } = await bus.request(holdingsEndpoint, node, holdingsOf(deps), { timeoutMs: 5_000 });
    if (refused !== "") logger.info({ why: refused }, "what runs here was not taken yet");
  } catch (error) {
    logger.warn({ err: StatusError.from(error) }, "what runs here could not be told; the next lease asks again");
  }
}

function holdingsOf({ node, engine, journal, state }: HoldingsDeps): HoldingsRequest {
  const { storeEpoch, revision } = state.applied();
  const holdings = engine.executions().map(holdingOf);
  const journalHeadSeq = BigInt(journal.head());
  return create(HoldingsRequestSchema, {
    node,
    storeEpoch,
    revision: BigInt(revision),
    holdings,
    journalEpoch: journal.epoch,
    journalHeadSeq,
  });
}

function holdingOf(execution: Execution) {
  const { taskUid, generation, attempt, state, plan, health, namespace, name } = execution;
  return {
    taskUid,
    generation: BigInt(generation),
    attempt,
    state,
    fence: plan?.fence === true,
    health,
    namespace,
    name,
  };
}
