/**
 * Begins jobs by the clock. Every controller runs it: each look takes one cron job that is due and that nobody else looks at
 * (`look.ts`), so there is no owner to wait for when one dies. The clock is a dependency; a second's tick costs one indexed query.
 */
import { Lifetime, systemClock, type Clock, type Failpoint, type Logger } from "@berth/base";
import type { Store } from "@berth/store";
import { startLoop } from "../loop/loop.ts";
import { lookAtOne } from "./look.ts";

export interface CronDeps {
  readonly store: Store;
  readonly logger: Logger;
  readonly failpoint: Failpoint;
  readonly clock?: Clock;
}

export function startCron(
  { store, logger, failpoint, clock = systemClock }: CronDeps,
  { tickMs = 1_000 }: { readonly tickMs?: number } = {},
  options: { readonly signal?: AbortSignal } = {},
): AsyncDisposable {
  const lifetime = new Lifetime(options.signal);
  const round = async (): Promise<"again" | number> => {
    const looked = await store.transaction(async (tx) => {
      const found = await lookAtOne(tx, new Date(clock.nowMs()));
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
