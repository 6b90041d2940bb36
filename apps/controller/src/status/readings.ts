/** What a fleet's status is read from: one snapshot of the store. */
import {
  allNodes,
  backlog,
  controllersAtWork,
  failingTasks,
  getStoreMeta,
  journalLags,
  stuckStops,
  taskGroups,
  unplaceableTasks,
  unreachableTasks,
  workloadCounts,
  type Backlog,
  type ControllerRow,
  type JournalLag,
  type NodeRow,
  type StoreMeta,
  type TaskGroup,
  type Trouble,
  type Tx,
} from "@berth/store";

export interface FleetReadings {
  readonly nodes: readonly NodeRow[];
  readonly tasks: readonly TaskGroup[];
  readonly workloads: { readonly total: number; readonly settled: number };
  readonly unplaceable: readonly Trouble[];
  readonly failing: readonly Trouble[];
  readonly unreachable: readonly Trouble[];
  readonly stuckStops: readonly Trouble[];
  readonly lags: readonly JournalLag[];
  readonly backlog: Backlog;
  readonly controllers: readonly ControllerRow[];
  readonly meta: StoreMeta;
}

/** So many failures in a row are a crash loop. */
const CRASH_LOOP_FAILURES = 3;
/** A task that was told to stop and is there after this long is stuck: the longest grace people give, doubled. */
const STUCK_STOP_MS = 120_000;

export async function readFleet(tx: Tx): Promise<FleetReadings> {
  return {
    nodes: await allNodes(tx),
    tasks: await taskGroups(tx),
    workloads: await workloadCounts(tx),
    unplaceable: await unplaceableTasks(tx),
    failing: await failingTasks(tx, CRASH_LOOP_FAILURES),
    unreachable: await unreachableTasks(tx),
    stuckStops: await stuckStops(tx, STUCK_STOP_MS),
    lags: await journalLags(tx),
    backlog: await backlog(tx),
    controllers: await controllersAtWork(tx),
    meta: await getStoreMeta(tx),
  };
}
