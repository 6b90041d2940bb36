/**
 * Begins jobs by the clock. Every controller runs it: each look takes one cron job that is due and that nobody else looks at
 * (`look.ts`), so there is no owner to wait for when one dies. A second's tick costs the time and one indexed query.
 */
import { Lifetime, type Clock, type Failpoint, type Logger } from "@berth/base";
import { storeTime, type Store } from "@berth/store";
import { startLoop } from "../loop/loop.ts";
import { lookAtOne } from "./look.ts";

export interface CronDeps {
  readonly store: Store;
  readonly logger: Logger;
  readonly failpoint: Failpoint;
  /** Postgres' when left out: a controller whose own clock is off begins nothing too early. */
  readonly clock?: Clock;
}

export function startCron(
  { store, logger, failpoint, clock }: CronDeps,
  { tickMs = 1_000 }: { readonly tickMs?: number } = {},
  options: { readonly signal?: AbortSignal } = {},
): AsyncDisposable {
  const lifetime = new Lifetime(options.signal);
  const round = async (): Promise<"again" | number> => {
    const looked = await store.transaction(async (tx) => {
      const found = await lookAtOne(tx, clock === undefined ? await storeTime(tx) : new Date(clock.nowMs()));
      if (found) failpoint("cron.before-commit");
      return found;
    });
    if (!looked) return tickMs;
    failpoint("cron.after-commit");
    return "again";
  };
  lifetime.own(startLoop({ logger }, { name: "cron", round }, lifetime.signal));
  return lifetime;
}
