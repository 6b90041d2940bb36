/**
 * `berth-controller --store-restored`: an operator's word that Postgres was put back, given while no controller runs. It is needed
 * where the database cannot show it by itself: after a recovery to a point in time, or a standby's promotion, the server is the one
 * that it was.
 */
import type { Logger } from "@berth/base";
import type { ControllerConfig } from "@berth/config";
import { getStoreMeta, openStore } from "@berth/store";
import { holdTermsOf } from "../loops.ts";
import { beginHold } from "./begin.ts";

/** Returns what to say about it. */
export async function declareRestored(
  { logger }: { readonly logger: Logger },
  config: ControllerConfig,
): Promise<string> {
  await using store = await openStore({ url: config.databaseUrl, maxConnections: 1, logger });
  const storeEpoch = await store.transaction(async (tx) => {
    const before = await getStoreMeta(tx);
    await beginHold(tx, before.storeEpoch, holdTermsOf(config), { why: "an operator says so" });
    return (await getStoreMeta(tx)).storeEpoch;
  });
  return `store epoch ${storeEpoch} has begun: start a controller, look at berth store status, then berth store confirm ${storeEpoch}`;
}
