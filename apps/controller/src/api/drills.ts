/** DrillService: trouble on purpose. What a drill does and how it is judged: `drill/`. */
import { create } from "@bufbuild/protobuf";
import { DrillService, ListDrillsResponseSchema, type DrillStep, type RunDrillRequest } from "@berth/proto";
import { implement, type Implementation } from "@berth/rpc";
import { drillMessage, listDrills } from "@berth/store";
import { beginDrill, planDrill, type DrillDeps } from "../drill/begin.ts";
import { existingDrill, followDrill } from "../drill/follow.ts";

export function drillService(deps: DrillDeps): Implementation {
  const { store } = deps;
  return implement(DrillService, {
    runDrill: (request, { signal }) => run(deps, request, signal),
    async listDrills(query) {
      const { items, nextPageToken } = await listDrills(store.db, query);
      return create(ListDrillsResponseSchema, { items: items.map((row) => drillMessage(row)), nextPageToken });
    },
    getDrill: async ({ name }) => drillMessage(await existingDrill(store, name), { steps: true }),
    watchDrill: (request, { signal }) => followDrill(store, request, signal),
  });
}

async function* run(deps: DrillDeps, request: RunDrillRequest, signal: AbortSignal): AsyncGenerator<DrillStep> {
  if (request.dryRun) yield await planDrill(deps, request, signal);
  else yield* followDrill(deps.store, { name: await beginDrill(deps, request, signal), after: 0 }, signal);
}
