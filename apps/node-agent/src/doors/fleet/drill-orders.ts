/**
 * Orders of drills: which are taken, and when what was taken begins. Each kind heals without the controller; see who does it
 * (`drill-cut.ts`, `drill/own-process.ts`).
 */
import { create } from "@bufbuild/protobuf";
import { StatusError, type Logger } from "@berth/base";
import { drillEndpoint, type Bus } from "@berth/bus";
import { DrillOrderReplySchema, type DrillOrder, type DrillOrderReply } from "@berth/proto";
import type { OwnProcess } from "../../drill/own-process.ts";
import { MOST_DRILL_MS, type DrillCut } from "./drill-cut.ts";

export interface DrillOrdersDeps {
  readonly cut: DrillCut;
  /** Undefined for agents that share their process with others. */
  readonly ownProcess: OwnProcess | undefined;
  /** The cut is on record. */
  readonly cutOff: () => void;
}

export interface TakenOrder {
  readonly reply: DrillOrderReply;
  /** What the order is for, once its reply has left; absent: it was refused, or only asked. */
  readonly begin?: () => void;
}

export class DrillOrders {
  readonly #deps: DrillOrdersDeps;

  constructor(deps: DrillOrdersDeps) {
    this.#deps = deps;
  }

  async take(order: DrillOrder): Promise<TakenOrder> {
    try {
      const refused = this.#refusal(order);
      if (refused !== "" || order.check) return { reply: create(DrillOrderReplySchema, { refused }) };
      return { reply: create(DrillOrderReplySchema), begin: await this.#prepare(order) };
    } catch (error) {
      return { reply: create(DrillOrderReplySchema, { refused: StatusError.from(error).message }) };
    }
  }

  #refusal({ kind, durationMs, check }: DrillOrder): string {
    const { ownProcess, cut } = this.#deps;
    if (!["", "partition", "pause", "kill"].includes(kind)) return `this agent knows no drill of kind ${kind}`;
    if (cut.remainingMs() > 0) return "another drill is under way on this node";
    const lasts = kind !== "kill" && !check;
    if (lasts && (durationMs <= 0n || durationMs > MOST_DRILL_MS))
      return `a drill lasts at most ${MOST_DRILL_MS / 1_000} s`;
    if (kind === "" || kind === "partition") return "";
    if (ownProcess === undefined) return `its agent is simulated and shares its process with others: it can be partitioned, and not ${kind === "kill" ? "killed" : "paused"}`; // prettier-ignore
    return ownProcess.refusal(kind);
  }

  async #prepare({ kind, drill, durationMs }: DrillOrder): Promise<() => void> {
    const { ownProcess, cut, cutOff } = this.#deps;
    if (kind === "pause") return await ownProcess!.pause(Number(durationMs));
    if (kind === "kill") return ownProcess!.kill();
    cut.take(drill, Number(durationMs));
    return cutOff;
  }
}

/** A drill begins where it was acknowledged: what silences the agent waits until its answer has left. */
export function serveDrills(bus: Bus, node: string, orders: DrillOrders, logger: Logger): Disposable {
  const begin = async (taken: () => void): Promise<void> => {
    await bus.connection().flush();
    taken();
  };
  return bus.serve(drillEndpoint, { node }, async (order) => {
    const { reply, begin: taken } = await orders.take(order);
    if (taken === undefined) return reply;
    logger.warn({ drill: order.drill, kind: order.kind, durationMs: Number(order.durationMs) }, "a drill begins");
    setImmediate(() => {
      // A cut is on record and holds; anything else was not begun if nobody could be told.
      if (order.kind === "" || order.kind === "partition") taken();
      else
        begin(taken).catch((error: unknown) =>
          logger.error({ err: StatusError.from(error) }, "the drill was not begun"),
        );
    });
    return reply;
  });
}
