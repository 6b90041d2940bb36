/**
 * One look at a drill: which steps it has made since the last one, and, when all has converged or was waited for long enough, the
 * report. What was told is known from the steps themselves, so any controller may take the next look.
 */
import type { MessageInitShape } from "@bufbuild/protobuf";
import type { DrillReportSchema, DrillStep } from "@berth/proto";
import {
  changedEnds,
  drilledNodes,
  drillNews,
  drillSteps,
  executionStarts,
  journalGaps,
  runTimes,
  tasksOfWorkloads,
  workloadGenerations,
  type DrilledNode,
  type DrillNews,
  type DrillRow,
  type Tx,
} from "@berth/store";
import { judge, successorOf, type Judged } from "./invariants.ts";
import { drillKind } from "./kinds.ts";
import { makeStep, nameOf, workloadsOf } from "./steps.ts";

export type BegunDrill = DrillRow & { readonly begunAt: Date };

/** After the trouble's end: how long the fleet may take to be as it was. */
export const CONVERGE_MS = 180_000;

interface Facts {
  readonly nowMs: number;
  readonly nodes: readonly DrilledNode[];
  readonly news: readonly DrillNews[];
  readonly judged: Judged;
}

interface Told {
  readonly step: string;
  readonly message: string;
  readonly nodes?: string[];
  readonly tasks?: string[];
}

/** In a transaction that has locked the row. */
export async function lookAtDrill(
  tx: Tx,
  drill: BegunDrill,
  now: Date,
): Promise<{ readonly steps: readonly DrillStep[]; readonly verdict?: string }> {
  const facts = await factsOf(tx, drill, now);
  const earlier = drillSteps(drill);
  const told = newSteps(drill, earlier, facts);
  const steps = told.map(({ step, message, ...about }) => makeStep(now, drill.name, step, message, about));
  const converged = told.some(({ step }) => step === "Converged");
  if (!converged && facts.nowMs <= healsMs(drill) + CONVERGE_MS) return { steps };
  const report = await reportOf(tx, drill, { facts, steps: [...earlier, ...steps], converged });
  const end = makeStep(now, drill.name, "Ended", report.verdict, { report });
  return { steps: [...steps, end], verdict: report.verdict };
}

async function factsOf(tx: Tx, { nodes, before, createdAt }: BegunDrill, now: Date): Promise<Facts> {
  const uids = workloadsOf(before.tasks);
  const judged: Judged = {
    before: before.tasks,
    now: await tasksOfWorkloads(tx, uids),
    generationsBefore: new Map(Object.entries(before.generations)),
    generationsNow: await workloadGenerations(tx, uids),
  };
  const news = await drillNews(tx, nodes, { at: createdAt, snapshot: before.snapshot });
  return { nowMs: now.getTime(), nodes: await drilledNodes(tx, nodes), news, judged };
}

/** When the nodes are to be well again. */
export function healsMs({ begunAt, durationMs }: BegunDrill): number {
  return begunAt.getTime() + durationMs;
}

/** What has come since. Pure. */
export function newSteps(drill: BegunDrill, earlier: readonly DrillStep[], facts: Facts): Told[] {
  const { nowMs, nodes, news, judged } = facts;
  const { trouble, lasts } = drillKind(drill.kind);
  const seen = new Set(earlier.map(({ step, nodes: [node], tasks: [task] }) => `${step} ${task ?? node ?? ""}`));
  const after = (ms: number): string =>
    `${Math.max(0, (ms - drill.begunAt.getTime()) / 1_000).toFixed(1)} s after ${trouble}`;
  const told: Told[] = [];
  const tell = (step: Told): void => {
    const key = `${step.step} ${step.tasks?.[0] ?? step.nodes?.[0] ?? ""}`;
    if (!seen.has(key)) told.push(step);
    seen.add(key);
  };
  for (const { topic, node, atMs } of news) {
    if (topic === "/nodes/unknown") tell({ step: "Noticed", message: `node ${node} is Unknown, ${after(atMs)}`, nodes: [node] }); // prettier-ignore
    if (topic === "/nodes/agent") tell({ step: "Restarted", message: `node ${node} has another agent, ${after(atMs)}`, nodes: [node] }); // prettier-ignore
  }
  for (const task of judged.before) {
    const next = successorOf(task, judged.now);
    if (next === undefined || next.uid === task.uid || next.phase !== "Running") continue;
    tell({ step: "Replaced", message: `${nameOf(task)} by ${next.name} on ${next.node}, ${after(nowMs)}`, tasks: [nameOf(task)] }); // prettier-ignore
  }
  for (const { name, phase, leaseRenewedAtMs } of nodes) {
    const back = phase === "Ready" && leaseRenewedAtMs >= healsMs(drill) && (lasts || seen.has(`Restarted ${name}`));
    if (back) tell({ step: "Healed", message: `node ${name} is Ready, ${after(nowMs)}`, nodes: [name] });
  }
  const healed = drill.nodes.every((name) => seen.has(`Healed ${name}`));
  if (healed && isConverged(drill, facts)) tell({ step: "Converged", message: `all is as it was, ${after(nowMs)}` });
  return told;
}

/** Each task that was wanted runs, or one in its place does; and all that the nodes wrote meanwhile is stored. */
function isConverged({ nodes: slice }: BegunDrill, { nodes, judged }: Facts): boolean {
  const { before, now, generationsNow } = judged;
  const wanted = before.filter(({ desired, phase, workloadUid }) => desired === "Run" && phase === "Running" && generationsNow.has(workloadUid)); // prettier-ignore
  const runs = wanted.every((task) => {
    const next = successorOf(task, now);
    return (
      next === undefined || (next.certainty === "observed" && next.phase !== "Pending" && next.phase !== "Starting")
    );
  });
  const leftBehind = now.some(({ node, desired, phase }) => slice.includes(node) && desired !== "Run" && phase === "Running"); // prettier-ignore
  return runs && !leftBehind && nodes.every(({ phase, isBehind }) => phase === "Ready" && !isBehind);
}

async function reportOf(
  tx: Tx,
  drill: BegunDrill,
  {
    facts,
    steps,
    converged,
  }: { readonly facts: Facts; readonly steps: readonly DrillStep[]; readonly converged: boolean },
): Promise<MessageInitShape<typeof DrillReportSchema> & { readonly verdict: string }> {
  const { judged, news } = facts;
  const since = { at: drill.createdAt, snapshot: drill.before.snapshot };
  const tasks = [...judged.before, ...judged.now];
  const replaced = new Set(steps.filter(({ step }) => step === "Replaced").flatMap((each) => each.tasks));
  const invariants = judge({
    drill: { ...drill, healsMs: healsMs(drill), kind: drillKind(drill.kind) },
    judged,
    news,
    replaced,
    converged,
    times: await runTimes(tx, tasks.map(({ uid }) => uid), since), // prettier-ignore
    starts: await executionStarts(tx, { tasks, since }),
    changedEnds: await changedEnds(tx, { tasks, since }),
    journalGaps: await journalGaps(tx, { nodes: drill.nodes, since }),
  });
  return { drill: drill.name, verdict: verdictOf(invariants), invariants: [...invariants], replaced: replaced.size };
}

function verdictOf([noticed, ...others]: ReturnType<typeof judge>): string {
  if ([noticed, ...others].some((each) => each?.outcome === "Broken")) return "Failed";
  return noticed?.outcome === "Held" ? "Passed" : "NotTested";
}
