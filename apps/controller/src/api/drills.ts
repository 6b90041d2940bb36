/** DrillService: trouble on purpose. What a drill does and how it is judged: `drill/`. */
import { DrillService } from "@berth/proto";
import { implement, type Implementation } from "@berth/rpc";
import { runDrill, type DrillDeps } from "../drill/partition.ts";

export function drillService(deps: DrillDeps): Implementation {
  return implement(DrillService, { runDrill: (request, { signal }) => runDrill(deps, request, signal) });
}
