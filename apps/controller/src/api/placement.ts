/** PlacementService: why tasks are where they are. Reads one snapshot and changes nothing. */
import { StatusError } from "@berth/base";
import { PlacementService } from "@berth/proto";
import { implement, type Implementation } from "@berth/rpc";
import { getNode, getTask, getWorkload, type Store } from "@berth/store";
import { explainTask } from "../placement/explain.ts";
import { explainWorkload } from "../placement/explain-workload.ts";
import type { OvercommitConfig } from "../placement/fleet.ts";
import { notFound } from "./refusals.ts";

export interface ExplainDeps {
  readonly store: Store;
  /** As placement counts. */
  readonly overcommit: OvercommitConfig;
}

export function placementService({ store, overcommit }: ExplainDeps): Implementation {
  return implement(PlacementService, {
    explainTask: ({ namespace, name, node, allNodes }) =>
      store.snapshot(async (tx) => {
        const row = await getTask(tx, namespace, name);
        if (row === undefined) throw notFound("task", name, namespace);
        if (node !== "" && (await getNode(tx, node)) === undefined) throw notFound("node", node);
        if (node !== "" && row.pinnedNode !== null && row.pinnedNode !== node) {
          const message = `task "${name}" is of a workload that runs on every node, and belongs to node ${row.pinnedNode} alone`;
          throw new StatusError("FAILED_PRECONDITION", message, { reason: "PINNED_ELSEWHERE" });
        }
        return await explainTask(tx, row, overcommit, { node, allNodes });
      }),
    explainWorkload: ({ namespace, name }) =>
      store.snapshot(async (tx) => {
        const row = await getWorkload(tx, namespace, name);
        if (row === undefined) throw notFound("workload", name, namespace);
        return await explainWorkload(tx, row, overcommit);
      }),
  });
}
