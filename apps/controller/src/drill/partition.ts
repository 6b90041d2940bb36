/**
 * One drill: guards it, gives the order to each agent, and watches until the fleet has converged.
 *
 * Invariants: one drill at a time (an advisory lock, and the recorded end of one whose controller is gone); a drill counts as
 * begun on a node only when its agent has acknowledged. The agents heal by themselves: nothing here is needed for that.
 */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { durationMs, timestampFromDate } from "@bufbuild/protobuf/wkt";
import { StatusError, systemClock, throwIfAborted, uuidv7, type Clock } from "@berth/base";
import { drillEndpoint, type FrameBus } from "@berth/bus";
import { DrillOrderSchema, DrillStepSchema, type DrillStep, type RunDrillRequest } from "@berth/proto";
import {
  allNodes,
  DRILL_LOCK,
  drillUnderWay,
  insertEvents,
  listNodes,
  journalGaps,
  runTimes,
  storeTime,
  tasksOfWorkloads,
  tasksOnNodes,
  workloadGenerations,
  type DrilledTask,
  type Store,
} from "@berth/store";
import { allPages } from "../api/list.ts";
import { selectorScope } from "../api/scope.ts";
import { guardDrill } from "./guard.ts";
import { changedEnds, doubleRuns, lostTasks, successorOf, type Judged } from "./invariants.ts";

export interface DrillDeps {
  readonly store: Store;
  readonly bus: Pick<FrameBus, "request">;
  readonly clock?: Clock;
}

interface Plan {
  readonly drill: string;
  readonly nodes: readonly string[];
  readonly before: readonly DrilledTask[];
  readonly generationsBefore: ReadonlyMap<string, number>;
  readonly durationMs: number;
}

const ORDER_MS = 3_000;
const LOOK_MS = 500;
/** After the cut's end: how long the fleet may take to be as it was. */
const CONVERGE_MS = 180_000;

export async function* runDrill(
  deps: DrillDeps,
  request: RunDrillRequest,
  signal: AbortSignal,
): AsyncGenerator<DrillStep> {
  const { store } = deps;
  await using lock = await store.locks.tryAcquire(DRILL_LOCK);
  if (lock === undefined) throw underWay("another drill is under way: wait for its report");
  const running = await drillUnderWay(store.db);
  if (running !== undefined) {
    throw underWay(
      `drill ${running.drill} still cuts nodes off for ${Math.ceil(running.leftMs / 1_000)} s: wait for its end`,
    );
  }
  const plan = await planOf(store, request);
  const about = { nodes: [...plan.nodes], tasks: plan.before.map(nameOf) };
  const what = `${plan.nodes.join(", ")} for ${plan.durationMs / 1_000} s, with ${plan.before.length} tasks`;
  if (request.dryRun) {
    yield step(await storeTime(store.db), "Planned", `would cut off ${what}`, about);
    return;
  }
  const startedAt = await begin(deps, plan, what, signal);
  yield step(startedAt, "Started", `cut off ${what}`, about);
  yield* watch(deps, plan, startedAt.getTime(), signal);
}

async function planOf(store: Store, { selector, duration, maxNodes }: RunDrillRequest): Promise<Plan> {
  const wantedMs = duration === undefined ? 0 : durationMs(duration);
  const rows =
    selector.trim() === ""
      ? []
      : await allPages((page) => listNodes(store.db, { ...page, ...selectorScope(selector) }));
  const ready = (await allNodes(store.db)).filter(({ phase }) => phase === "Ready").length;
  const chosen = rows.map(({ name, phase, drain }) => ({ name, phase, draining: drain !== null }));
  guardDrill({ selector, durationMs: wantedMs, maxNodes }, chosen, ready);
  const nodes = rows.map(({ name }) => name);
  const before = await tasksOnNodes(store.db, nodes);
  const generationsBefore = await workloadGenerations(store.db, workloadsOf(before));
  return { drill: uuidv7(), nodes, before, generationsBefore, durationMs: wantedMs };
}

/** It is on record before the first order: no other one begins meanwhile, whatever becomes of this controller. */
async function begin({ store, bus }: DrillDeps, plan: Plan, what: string, signal: AbortSignal): Promise<Date> {
  const now = await storeTime(store.db);
  const until = new Date(now.getTime() + plan.durationMs + ORDER_MS).toISOString();
  await record(store, plan, "start", `cuts off ${what}`, { until });
  const order = create(DrillOrderSchema, { drill: plan.drill, durationMs: BigInt(plan.durationMs) });
  const answers = await Promise.all(
    plan.nodes.map(async (node) => {
      const asked = bus.request(drillEndpoint, node, order, { timeoutMs: ORDER_MS, signal });
      return await asked
        .then(({ refused }) => refused && `${node}: ${refused}`)
        .catch((error: unknown) => `${node}: ${StatusError.from(error).message}`);
    }),
  );
  const failed = answers.filter((answer) => answer !== "");
  if (failed.length === 0) return await storeTime(store.db);
  const message = `not every agent took the order; those that did heal by themselves by ${until}: ${failed.join("; ")}`;
  await record(store, plan, "end", message, { verdict: "Failed" });
  throw new StatusError("UNAVAILABLE", message, { reason: "DRILL_NOT_BEGUN" });
}

async function* watch(
  { store, clock = systemClock }: DrillDeps,
  plan: Plan,
  startedMs: number,
  signal: AbortSignal,
): AsyncGenerator<DrillStep> {
  const seen = new Set<string>();
  let replaced = 0;
  const healsMs = startedMs + plan.durationMs;
  const tell = async (name: string, message: string): Promise<DrillStep> => {
    await record(store, plan, name.toLowerCase(), message, {});
    return step(await storeTime(store.db), name, message);
  };
  for (;;) {
    const nowMs = (await storeTime(store.db)).getTime();
    const after = `${((nowMs - startedMs) / 1_000).toFixed(1)} s after the cut`;
    const fleet = (await allNodes(store.db)).filter(({ name }) => plan.nodes.includes(name));
    const judged = await judgedOf(store, plan);
    for (const { name, phase } of fleet) {
      if (phase === "Unknown" && once(seen, `noticed ${name}`)) yield await tell("Noticed", `node ${name} is Unknown, ${after}`); // prettier-ignore
      const back = phase === "Ready" && nowMs >= healsMs;
      if (back && once(seen, `healed ${name}`)) yield await tell("Healed", `node ${name} is Ready, ${after}`);
    }
    for (const task of plan.before) {
      const next = successorOf(task, judged.now);
      if (next === undefined || next.uid === task.uid || next.phase !== "Running") continue;
      if (!once(seen, `replaced ${task.uid}`)) continue;
      replaced += 1;
      yield await tell("Replaced", `${nameOf(task)} by ${next.name} on ${next.node}, ${after}`);
    }
    const healed = plan.nodes.every((name) => seen.has(`healed ${name}`));
    const converged = healed && isConverged(judged, plan);
    if (converged) yield await tell("Converged", `all is as it was, ${after}`);
    if (converged || nowMs > healsMs + CONVERGE_MS) {
      yield await report(store, plan, { judged, replaced, converged });
      return;
    }
    await clock.sleep(LOOK_MS, signal);
    throwIfAborted(signal);
  }
}

function isConverged({ now, generationsNow }: Judged, { before, nodes }: Plan): boolean {
  const wanted = before.filter(({ desired, phase, workloadUid }) => desired === "Run" && phase === "Running" && generationsNow.has(workloadUid)); // prettier-ignore
  const runs = wanted.every((task) => {
    const next = successorOf(task, now);
    return (
      next === undefined || (next.certainty === "observed" && next.phase !== "Pending" && next.phase !== "Starting")
    );
  });
  return runs && !now.some(({ node, desired, phase }) => nodes.includes(node) && desired !== "Run" && phase === "Running"); // prettier-ignore
}

async function judgedOf(store: Store, { before, generationsBefore }: Plan): Promise<Judged> {
  const uids = workloadsOf(before);
  const now = await tasksOfWorkloads(store.db, uids);
  return { before, now, generationsBefore, generationsNow: await workloadGenerations(store.db, uids) };
}

async function report(
  store: Store,
  plan: Plan,
  { judged, replaced, converged }: { readonly judged: Judged; readonly replaced: number; readonly converged: boolean },
): Promise<DrillStep> {
  const times = await runTimes(store.db, [...judged.before, ...judged.now].map(({ uid }) => uid)); // prettier-ignore
  const invariants = [
    invariant("the fleet converged", converged ? [] : ["not within 3 minutes of the cut's end"]),
    invariant("no task was lost", lostTasks(judged).map(nameOf)),
    invariant("no stopThenReplace task ran twice", doubleRuns(judged, times)),
    invariant("no end was changed", changedEnds(judged)),
    invariant("journals are whole", await journalGaps(store.db, plan.nodes)),
  ];
  const verdict = invariants.every(({ held }) => held) ? "Passed" : "Failed";
  await record(store, plan, "end", `${verdict}; ${replaced} tasks were replaced`, { verdict, over: "true" });
  const made = { drill: plan.drill, verdict, invariants, replaced };
  return step(await storeTime(store.db), "Ended", verdict, { report: made });
}

function invariant(name: string, broken: readonly string[]) {
  const more = broken.length > 3 ? ` and ${broken.length - 3} more` : "";
  return { name, held: broken.length === 0, message: `${broken.slice(0, 3).join("; ")}${more}` };
}

async function record(
  store: Store,
  { drill }: Plan,
  what: string,
  message: string,
  attributes: Readonly<Record<string, string>>,
): Promise<void> {
  const severity = attributes["verdict"] === "Failed" ? "Warning" : "Normal";
  const reason = `Drill${what[0]!.toUpperCase()}${what.slice(1)}`;
  const event = {
    topic: `/drills/${what}`,
    kind: "Fleet",
    name: drill,
    severity,
    reason,
    message,
    attributes,
  } as const;
  await store.transaction((tx) => insertEvents(tx, [event]));
}

function step(at: Date, name: string, message: string, more: MessageInitShape<typeof DrillStepSchema> = {}): DrillStep {
  return create(DrillStepSchema, { ...more, at: timestampFromDate(at), step: name, message });
}

function once(seen: Set<string>, key: string): boolean {
  if (seen.has(key)) return false;
  seen.add(key);
  return true;
}

const nameOf = ({ namespace, name }: DrilledTask): string => `${namespace}/${name}`;
const workloadsOf = (tasks: readonly DrilledTask[]): string[] => [...new Set(tasks.map((task) => task.workloadUid))];

function underWay(message: string): StatusError {
  return new StatusError("FAILED_PRECONDITION", message, { reason: "DRILL_UNDER_WAY" });
}
