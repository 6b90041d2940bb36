/**
 * Judges the drill that is under way. Every controller looks; a look locks the drill's row, and what it finds is written with it, so
 * that it is told once, and whoever is there finishes what a controller that has died began.
 */
import { Lifetime, type Logger } from "@berth/base";
import { DRILLS_CHANNEL, lockDrillUnderWay, storeTime, type Store, type Tx } from "@berth/store";
import { startLoop } from "../loop/loop.ts";
import { aboutOf, ORDER_MS, whatOf } from "./begin.ts";
import { lookAtDrill } from "./look.ts";
import { makeStep, writeSteps } from "./steps.ts";

export interface DrillsConfig {
  /** Between looks at a drill. */
  readonly lookMs?: number;
  /** While there is none; a bell tells of one sooner. */
  readonly idleMs?: number;
}

/** Past what question and order take: whoever gave them is gone. */
const BEGIN_MS = 3 * ORDER_MS;

export async function startDrills(
  { store, logger }: { readonly store: Store; readonly logger: Logger },
  { lookMs = 500, idleMs = 5_000 }: DrillsConfig = {},
): Promise<AsyncDisposable> {
  const lifetime = new Lifetime();
  const round = async (): Promise<number> => ((await store.transaction(look)) ? lookMs : idleMs);
  const loop = lifetime.own(startLoop({ logger }, { name: "drills", round }));
  lifetime.own(await store.listen(DRILLS_CHANNEL, () => loop.ring()));
  return lifetime;
}

/** Is there one, for us? */
async function look(tx: Tx): Promise<boolean> {
  const row = await lockDrillUnderWay(tx);
  if (row === undefined) return false;
  const now = await storeTime(tx);
  if (row.begunAt !== null) {
    await writeSteps(tx, row, await lookAtDrill(tx, { ...row, begunAt: row.begunAt }, now));
  } else if (now.getTime() > row.createdAt.getTime() + BEGIN_MS) {
    const message = `${whatOf(row)}; the controller that gave the orders is gone: whether every agent took it is to be seen`;
    const steps = [makeStep(now, row.name, "Started", message, aboutOf(row))];
    await writeSteps(tx, row, { steps, begunAt: row.createdAt });
  }
  return true;
}
