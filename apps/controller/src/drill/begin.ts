/**
 * Begins a drill: guards it, puts it on record, and gives the order to each agent.
 *
 * Invariants: nothing is ordered that is not on record, so that no other drill begins meanwhile and another controller can judge
 * this one; it has begun when every agent has acknowledged. The agents heal by themselves: nothing here is needed for that.
 */
import { randomInt } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { StatusError } from "@berth/base";
import { drillEndpoint, type FrameBus } from "@berth/bus";
import { DrillOrderSchema, type DrillStep, type RunDrillRequest } from "@berth/proto";
import {
  allNodes,
  insertDrill,
  listNodes,
  lockDrill,
  storeMark,
  storeTime,
  tasksOnNodes,
  workloadGenerations,
  type DrillRow,
  type NewDrill,
  type Store,
} from "@berth/store";
import { allPages } from "../api/list.ts";
import { selectorScope } from "../api/scope.ts";
import { guardDrill } from "./guard.ts";
import { drillKind } from "./kinds.ts";
import { makeStep, nameOf, workloadsOf, writeSteps } from "./steps.ts";

export interface DrillDeps {
  readonly store: Store;
  readonly bus: Pick<FrameBus, "request">;
}

/** How long an agent may take to answer; a controller that has not said by then that the drill has begun is gone. */
export const ORDER_MS = 3_000;
/** No vowels, so no words. */
const LETTERS = "bcdfghjklmnpqrstvwxz2456789";

/** What would be hit; nothing is. @throws as {@link beginDrill} */
export async function planDrill(deps: DrillDeps, request: RunDrillRequest, signal: AbortSignal): Promise<DrillStep> {
  const plan = await planOf(deps.store, request);
  await askWhetherTheyWould(deps, plan, signal);
  const at = await storeTime(deps.store.db);
  return makeStep(at, "", "Planned", `would ${whatOf(plan)}`, aboutOf(plan));
}

/**
 * @returns its name
 * @throws INVALID_ARGUMENT `FIELD_INVALID`; FAILED_PRECONDITION `DRILL_REFUSED`, `DRILL_UNDER_WAY`; UNAVAILABLE `DRILL_NOT_BEGUN`
 */
export async function beginDrill(deps: DrillDeps, request: RunDrillRequest, signal: AbortSignal): Promise<string> {
  const { store } = deps;
  const plan = await planOf(store, request);
  await askWhetherTheyWould(deps, plan, signal);
  const { name } = await store.transaction((tx) => insertDrill(tx, plan));
  const failed = await orderAll(
    deps,
    plan,
    { drill: name, durationMs: BigInt(plan.durationMs), kind: plan.kind },
    signal,
  );
  const message = `not every agent took the order; those that did heal by themselves: ${failed.join("; ")}`;
  await store.transaction(async (tx) => {
    const row = await lockDrill(tx, name);
    // Somebody who took us for dead has begun it in our place.
    if (row === undefined || row.begunAt !== null) return;
    const at = await storeTime(tx);
    if (failed.length === 0) {
      const started = makeStep(at, name, "Started", whatOf(plan), aboutOf(plan));
      await writeSteps(tx, row, { steps: [started], begunAt: at });
    } else {
      const report = { drill: name, verdict: "NotBegun" };
      await writeSteps(tx, row, { steps: [makeStep(at, name, "Ended", message, { report })], verdict: report.verdict });
    }
  });
  if (failed.length > 0) throw new StatusError("UNAVAILABLE", message, { reason: "DRILL_NOT_BEGUN" });
  return name;
}

/** By one snapshot: what comes after it, however soon, is the drill's. */
async function planOf(store: Store, request: RunDrillRequest): Promise<NewDrill> {
  const { kind, selector, duration, maxNodes } = request;
  const { lasts } = drillKind(kind);
  const lastsMs = duration === undefined ? 0 : durationMs(duration);
  return await store.snapshot(async (tx) => {
    const { at: createdAt, snapshot } = await storeMark(tx);
    const rows =
      selector.trim() === "" ? [] : await allPages((page) => listNodes(tx, { ...page, ...selectorScope(selector) }));
    const ready = (await allNodes(tx)).filter(({ phase }) => phase === "Ready").length;
    const chosen = rows.map(({ name, phase, drain }) => ({ name, phase, draining: drain !== null }));
    guardDrill({ selector, durationMs: lastsMs, maxNodes, lasts }, chosen, ready);
    const nodes = rows.map(({ name }) => name);
    const tasks = await tasksOnNodes(tx, nodes);
    const generations = Object.fromEntries(await workloadGenerations(tx, workloadsOf(tasks)));
    const leaseMs = Math.max(...rows.map((row) => row.leaseExpiresAt.getTime() - row.leaseRenewedAt.getTime()));
    const before = { tasks, generations, leaseMs, snapshot };
    return { name: nameFor(kind), kind, selector, nodes, durationMs: lastsMs, before, createdAt };
  });
}

function nameFor(kind: string): string {
  return `${kind}-${Array.from({ length: 5 }, () => LETTERS[randomInt(LETTERS.length)]).join("")}`;
}

/** A partition is taken by every agent; what an agent's own process suffers, some refuse. */
async function askWhetherTheyWould(deps: DrillDeps, plan: NewDrill, signal: AbortSignal): Promise<void> {
  if (plan.kind === "partition") return;
  const refused = await orderAll(deps, plan, { drill: plan.name, kind: plan.kind, check: true }, signal);
  if (refused.length === 0) return;
  throw new StatusError("FAILED_PRECONDITION", refused.join("; "), { reason: "DRILL_REFUSED" });
}

/** What the agents say that do not take it, or that they say nothing. */
async function orderAll(
  { bus }: DrillDeps,
  { nodes }: Pick<DrillRow, "nodes">,
  order: { readonly drill: string; readonly kind: string; readonly durationMs?: bigint; readonly check?: boolean },
  signal: AbortSignal,
): Promise<string[]> {
  const message = create(DrillOrderSchema, order);
  const answers = nodes.map(async (node) => {
    try {
      const { refused } = await bus.request(drillEndpoint, node, message, { timeoutMs: ORDER_MS, signal });
      return refused === "" ? [] : [`node ${node}: ${refused}`];
    } catch (error) {
      return [`node ${node}: ${StatusError.from(error).message}`];
    }
  });
  return (await Promise.all(answers)).flat();
}

export function whatOf({ kind: kindName, nodes, durationMs: lastsMs, before }: Omit<NewDrill, "name">): string {
  const kind = drillKind(kindName);
  const lasting = kind.lasts ? ` for ${lastsMs / 1_000} s` : "";
  const short =
    kind.lasts && lastsMs <= before.leaseMs
      ? `; the lease lasts ${before.leaseMs / 1_000} s: nobody will notice, and nothing is tested`
      : "";
  return `${kind.does} ${nodes.join(", ")}${lasting}, with ${before.tasks.length} tasks${short}`;
}

export function aboutOf({ nodes, before }: Pick<NewDrill, "nodes" | "before">) {
  return { nodes: [...nodes], tasks: before.tasks.map(nameOf) };
}
