/** HealthService: what this controller reaches, and which history its store is (D5). */
import { create } from "@bufbuild/protobuf";
import { StatusError } from "@berth/base";
import { HealthCheckSchema, HealthSchema, HealthService, type Health } from "@berth/proto";
import { implement, type Implementation } from "@berth/rpc";
import { confirmStore, getStoreMeta, insertEvents, type Store } from "@berth/store";
import type { Checks } from "../http/checks.ts";

export interface HealthDeps {
  readonly store: Store;
  readonly checks: Checks;
  readonly version: string;
}

export function healthService(deps: HealthDeps): Implementation {
  const { store } = deps;
  return implement(HealthService, {
    getHealth: () => health(deps),
    async confirmStore({ storeEpoch }) {
      await store.transaction(async (tx) => {
        const meta = await getStoreMeta(tx);
        // protocol: StoreConfirmed
        if (meta.storeEpoch !== storeEpoch || !(await confirmStore(tx, storeEpoch))) throw anotherEpoch(storeEpoch);
        if (meta.stopsConfirmed) return;
        await insertEvents(tx, [
          { topic: "/store/confirm", kind: "Store", name: storeEpoch, reason: "StoreConfirmed" },
        ]);
      });
      return await health(deps);
    },
  });
}

async function health({ store, checks, version }: HealthDeps): Promise<Health> {
  const results = await checks.run();
  // Without Postgres there is no epoch to tell, but the answer must come all the same.
  const meta = await getStoreMeta(store.db).catch(() => undefined);
  return create(HealthSchema, {
    status: results.every(({ ok }) => ok) ? "ready" : "degraded",
    version,
    checks: results.map((result) => create(HealthCheckSchema, result)),
    storeEpoch: meta?.storeEpoch ?? "",
    stopsConfirmed: meta?.stopsConfirmed ?? false,
  });
}

function anotherEpoch(given: string): StatusError {
  return new StatusError(
    "FAILED_PRECONDITION",
    `store epoch ${given} is not the current one; look at \`GET /v1/health\` and the fleet again, then confirm what you see`,
    { reason: "STORE_EPOCH_CONFLICT" },
  );
}
