/** HealthService: what this controller reaches, and which history its store is (D5). */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { StatusError } from "@berth/base";
import { HealthCheckSchema, HealthSchema, HealthService, type Health } from "@berth/proto";
import { implement, type Implementation } from "@berth/rpc";
import { confirmStore, getStoreMeta, insertEvents, lockNodes, type Store, type Tx } from "@berth/store";
import type { Checks } from "../http/checks.ts";
import { beginHold, type HoldTerms } from "../restore/begin.ts";
import { holdWaits, releaseNodes, waitText } from "../restore/release.ts";
import { notFound } from "./refusals.ts";

export interface HealthDeps {
  readonly store: Store;
  readonly checks: Checks;
  readonly version: string;
  readonly holdTerms: HoldTerms;
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
    async declareStoreRestored({ storeEpoch }) {
      await store.transaction(async (tx) => {
        const begun = await isCurrent(tx, storeEpoch) && await beginHold(tx, storeEpoch, deps.holdTerms, { why: "an operator says so" }); // prettier-ignore
        if (!begun) throw anotherEpoch(storeEpoch);
      });
      return await health(deps);
    },
    async releaseStore({ storeEpoch, nodes: names }) {
      await store.transaction(async (tx) => {
        if (!(await isCurrent(tx, storeEpoch))) throw anotherEpoch(storeEpoch);
        const { held } = await getStoreMeta(tx);
        if (!held) throw notHeld();
        const rows = await lockNodes(tx, names);
        const missing = names.find((name) => !rows.some((row) => row.name === name));
        if (missing !== undefined) throw notFound("node", missing);
        const heard = rows.find((row) => row.phase !== "Unknown");
        if (heard !== undefined) throw isHeard(heard.name);
        await releaseNodes(tx, rows);
      });
      return await health(deps);
    },
  });
}

async function isCurrent(tx: Tx, storeEpoch: string): Promise<boolean> {
  return (await getStoreMeta(tx)).storeEpoch === storeEpoch;
}

async function health({ store, checks, version, holdTerms }: HealthDeps): Promise<Health> {
  const results = await checks.run();
  // Without Postgres there is no epoch to tell, but the answer must come all the same.
  const meta = await getStoreMeta(store.db).catch(() => undefined);
  return create(HealthSchema, {
    status: results.every(({ ok }) => ok) ? "ready" : "degraded",
    version,
    checks: results.map((result) => create(HealthCheckSchema, result)),
    storeEpoch: meta?.storeEpoch ?? "",
    stopsConfirmed: meta?.stopsConfirmed ?? false,
    held: meta?.held ?? false,
    ...(meta?.restoredAt ? { restoredAt: timestampFromDate(meta.restoredAt) } : {}),
    waitsFor: meta?.held ? (await holdWaits(store.db, holdTerms)).map(waitText) : [],
  });
}

function notHeld(): StatusError {
  const message = "the store waits for nobody: it was not put back from a copy, or is released already";
  return new StatusError("FAILED_PRECONDITION", message, { reason: "STORE_NOT_HELD" });
}

function isHeard(node: string): StatusError {
  const message = `node ${node} is heard, so it is not gone: it shows by itself what it runs; berth status tells how far that is`;
  return new StatusError("FAILED_PRECONDITION", message, { reason: "NODE_HEARD" });
}

function anotherEpoch(given: string): StatusError {
  return new StatusError(
    "FAILED_PRECONDITION",
    `store epoch ${given} is not the current one; \`berth store status\` shows which it is; look at the fleet again, then confirm what you see`,
    { reason: "STORE_EPOCH_CONFLICT" },
  );
}
