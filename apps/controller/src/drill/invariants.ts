/**
 * What must hold through a drill, judged over what was before it, what is now, and what was written meanwhile. Pure. What could not
 * be tried is said to be so: a cut that nobody noticed proves nothing.
 */
import { repeatedStarts, type DrilledTask, type DrillNews, type ExecutionStarts, type RunTimes } from "@berth/store";
import type { DrillKind } from "./kinds.ts";
import { nameOf } from "./steps.ts";

export interface Judged {
  readonly before: readonly DrilledTask[];
  /** All tasks of the same workloads, now. */
  readonly now: readonly DrilledTask[];
  /** Of the workloads that are still wanted, before and now. */
  readonly generationsBefore: ReadonlyMap<string, number>;
  readonly generationsNow: ReadonlyMap<string, number>;
}

export interface Evidence {
  readonly drill: {
    readonly kind: DrillKind;
    readonly nodes: readonly string[];
    readonly durationMs: number;
    readonly healsMs: number;
    readonly before: { readonly leaseMs: number };
  };
  readonly judged: Judged;
  readonly news: readonly DrillNews[];
  /** Of tasks that were seen to be replaced. */
  readonly replaced: ReadonlySet<string>;
  readonly converged: boolean;
  readonly times: ReadonlyMap<string, RunTimes>;
  /** Since the drill was on record. */
  readonly starts: readonly ExecutionStarts[];
  readonly changedEnds: readonly string[];
  readonly journalGaps: readonly string[];
}

export interface Invariant {
  readonly name: string;
  readonly outcome: "Held" | "Broken" | "NotTried";
  readonly message: string;
}

/** Beyond a lease: until silence is noticed by a controller that is quick; one that has just started first hears for a whole lease. */
const NOTICE_MS = 3_000;
/** Beyond T: until what is safe to replace runs elsewhere. */
const REPLACE_MS = 10_000;

/** That it was noticed comes first: without it the others prove nothing. */
export function judge(evidence: Evidence): readonly Invariant[] {
  const { judged, converged, times } = evidence;
  const noTasks = judged.before.length === 0 ? "no task was there" : "";
  return [
    { name: "it was noticed", ...noticed(evidence) },
    invariant("the fleet converged", converged ? [] : ["not within 3 minutes of the trouble's end"]),
    invariant("no task was lost", lostTasks(judged).map(nameOf), noTasks),
    { name: "each stopThenReplace task was replaced after T", ...replacedAfterT(evidence) },
    invariant("no stopThenReplace task ran twice", doubleRuns(judged, times), anyFenceReplaced(evidence)),
    { name: "all other containers went on", ...wentOn(evidence) },
    invariant("no execution began twice", repeatedStarts(evidence.starts)),
    invariant("no end was changed", evidence.changedEnds),
    invariant("journals are whole", evidence.journalGaps),
  ];
}

type Found = Pick<Invariant, "outcome" | "message">;

/** @param untried why it could not be tried; empty: it was */
function found(broken: readonly string[], untried = ""): Found {
  const more = broken.length > 3 ? ` and ${broken.length - 3} more` : "";
  if (broken.length > 0) return { outcome: "Broken", message: `${broken.slice(0, 3).join("; ")}${more}` };
  return untried === "" ? { outcome: "Held", message: "" } : { outcome: "NotTried", message: untried };
}

function invariant(name: string, broken: readonly string[], untried = ""): Invariant {
  return { name, ...found(broken, untried) };
}

export function noticed({ drill, news }: Pick<Evidence, "drill" | "news">): Found {
  const { kind, nodes, durationMs, before } = drill;
  const topic = kind.lasts ? "/nodes/unknown" : "/nodes/agent";
  const missed = nodes.filter((node) => !news.some((each) => each.node === node && each.topic === topic));
  if (missed.length === 0) return found([]);
  const lease = `the lease of ${before.leaseMs / 1_000} s`;
  if (!kind.lasts) return found(missed.map((node) => `no other agent came to ${node}`));
  if (durationMs <= before.leaseMs) return found([], `${kind.trouble} was shorter than ${lease}: nothing was tested`);
  if (durationMs < 2 * before.leaseMs + NOTICE_MS) {
    return found([], `${kind.trouble} was hardly longer than ${lease}, and nobody noticed: nothing was tested`);
  }
  return found(missed.map((node) => `node ${node} was not noticed, though ${kind.trouble} was longer than ${lease}`));
}

/** What was wanted and has nobody in its place now; what somebody changed meanwhile is not judged. */
export function lostTasks(judged: Judged): DrilledTask[] {
  return judged.before.filter((task) => isJudged(task, judged) && successorOf(task, judged.now) === undefined);
}

/** It was wanted, and its workload is wanted as it was. */
function isJudged({ desired, workloadUid }: DrilledTask, { generationsBefore, generationsNow }: Judged): boolean {
  const now = generationsNow.get(workloadUid);
  return desired === "Run" && now !== undefined && now === generationsBefore.get(workloadUid);
}

/** The task that is wanted in the place of this one: itself, or one that replaced it. */
export function successorOf(task: DrilledTask, now: readonly DrilledTask[]): DrilledTask | undefined {
  const same = now.find(({ uid, desired }) => uid === task.uid && desired === "Run");
  if (same !== undefined || task.slot < 0) return same;
  return now.find((each) => each.workloadUid === task.workloadUid && each.slot === task.slot && each.desired === "Run");
}

/** What is bound to its node (slot below 0) is never replaced elsewhere. */
function replaceable({ judged }: Pick<Evidence, "judged">): DrilledTask[] {
  return judged.before.filter((task) => task.fence && task.slot >= 0 && task.phase === "Running" && isJudged(task, judged)); // prettier-ignore
}

export function replacedAfterT(evidence: Pick<Evidence, "judged" | "news" | "drill" | "replaced">): Found {
  const { news, drill, replaced } = evidence;
  const candidates = replaceable(evidence);
  if (candidates.length === 0) return found([], "no stopThenReplace task was there");
  const left = candidates.filter((task) => !replaced.has(nameOf(task)));
  const broken = left.flatMap((task) => {
    const fenced = news.find(({ uid, topic }) => uid === task.uid && topic === "/tasks/fenced");
    const leftMs = fenced === undefined ? 0 : drill.healsMs - fenced.atMs;
    if (leftMs < REPLACE_MS) return [];
    return [`${nameOf(task)} was not, though T had passed ${Math.round(leftMs / 1_000)} s before ${drill.kind.trouble}'s end`]; // prettier-ignore
  });
  return found(broken, left.length === candidates.length ? `${drill.kind.trouble} ended before T, or just after` : "");
}

function anyFenceReplaced(evidence: Evidence): string {
  const any = replaceable(evidence).some((task) => evidence.replaced.has(nameOf(task)));
  return any ? "" : "none was replaced";
}

/** Of stopThenReplace tasks that were replaced: the one before had ended when its successor began (A5), by the journals. */
export function doubleRuns({ before, now }: Judged, times: ReadonlyMap<string, RunTimes>): string[] {
  return before.flatMap((task) => {
    const next = task.fence && task.phase === "Running" ? successorOf(task, now) : undefined;
    const begun = next === undefined ? undefined : times.get(next.uid)?.startedAtMs;
    if (next === undefined || next.uid === task.uid || begun === undefined) return [];
    const ended = times.get(task.uid)?.endedAtMs;
    if (ended !== undefined && ended <= begun) return [];
    const until = ended === undefined ? "has not been seen to end" : `ended ${Math.round(ended - begun)} ms after`;
    return [`${task.namespace}/${task.name} ${until}: ${next.name} had begun in its place`];
  });
}

/** Ends that have a reason of their own. */
const ENDS: ReadonlySet<DrillNews["topic"]> = new Set(["/tasks/stopped", "/tasks/failed", "/tasks/exit"]);

/**
 * Containers outlive their agent (A1): what has not ended by itself, by its probe or by its node's stopper is the same execution
 * still, begun once.
 */
export function wentOn({ judged, news, starts }: Pick<Evidence, "judged" | "news" | "starts">): Found {
  const ended = new Set(news.filter(({ topic }) => ENDS.has(topic)).map(({ uid }) => uid));
  const bound = judged.before.filter((task) => task.phase === "Running" && isJudged(task, judged) && !ended.has(task.uid)); // prettier-ignore
  const broken = bound.flatMap((task) => {
    const again = starts.some(({ uid, generation, attempt }) => uid === task.uid && generation === task.generation && attempt === task.attempt); // prettier-ignore
    const now = judged.now.find(({ uid, desired }) => uid === task.uid && desired === "Run");
    const other = now !== undefined && (now.attempt !== task.attempt || now.phase !== "Running");
    if (!again && !other) return [];
    return [`${nameOf(task)} ${again ? "began a second time" : `ended: attempt ${task.attempt} ran, and attempt ${now?.attempt} is ${now?.phase}`}`]; // prettier-ignore
  });
  return found(broken, bound.length === 0 ? "no other ran there" : "");
}
