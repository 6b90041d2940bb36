/** A rollout as the store keeps it, evaluated anew: what was known, the revisions and the tasks in; state, plan and events out. */
import { create } from "@bufbuild/protobuf";
import { timestampDate, timestampFromDate, type Timestamp } from "@bufbuild/protobuf/wkt";
import { RolloutStatusSchema, type RolloutStatus, type WorkloadSpec, type WorkloadStatus } from "@berth/proto";
import { revisionSpec, type NewEvent, type RevisionRow, type TaskRow, type WorkloadRow } from "@berth/store";
import { jobBounds } from "./job.ts";
import { restartRule, type FleetNode, type Revision, type RolloutPlan } from "./plan-context.ts";
import { inPlace, wantedOf } from "./plan-slots.ts";
import { rolloutBounds } from "./rollout-bounds.ts";
import { evaluateRollout, type RolloutOutcome, type RolloutPhase, type RolloutState } from "./rollout.ts";

export interface RolloutView {
  readonly workload: WorkloadRow;
  readonly spec: WorkloadSpec;
  readonly status: WorkloadStatus;
  readonly revisions: readonly RevisionRow[];
  /** Those that are wanted. */
  readonly live: readonly TaskRow[];
  readonly nodes: ReadonlyMap<string, FleetNode>;
  readonly now: Date;
}

export function evaluateView(view: RolloutView): RolloutOutcome & { readonly plan: RolloutPlan } {
  const { workload, spec, live, nodes, now } = view;
  const before = stateOf(view.status.rollout, view.status.desired);
  const known = (revision: number): RevisionRow | undefined => view.revisions.find((row) => row.revision === revision);
  // A revision that a controller of the build before did not record is the spec's own.
  const revisionOf = (revision: number): Revision => {
    const row = known(revision);
    return row === undefined
      ? { generation: workload.generation, template: spec, restart: false }
      : { generation: row.generation, template: revisionSpec(row), restart: row.restart };
  };
  if (spec.job !== undefined) return jobView(view, revisionOf(workload.revision));
  const aim = revisionOf(before?.revision === workload.revision ? before.target : workload.revision);
  // While it is held, tasks belong where the last good revision has them.
  const last = workload.paused && !isOver(before, workload) ? known(before?.stable ?? 0) : undefined;
  const { placement } = last === undefined ? aim.template : revisionSpec(last);
  const wanted = wantedOf({ spec, nodes, placement }, live);
  const bounds = rolloutBounds(spec.rollout, wanted);
  const tasks = inPlace({ spec, nodes, placement }, live);
  const outcome = evaluateRollout({
    revision: workload.revision,
    paused: workload.paused,
    before,
    generationOf: (revision) => known(revision)?.generation ?? (revision === workload.revision ? workload.generation : undefined), // prettier-ignore
    tasks,
    surge: live.filter((row) => row.slot >= wanted),
    wanted,
    restart: restartRule(aim.template),
    bounds,
    now,
  });
  const { state } = outcome;
  const target = revisionOf(state.target);
  const held = state.phase === "Paused";
  const fresh = held && known(state.stable) !== undefined ? revisionOf(state.stable) : target;
  const revisionAt = (generation: number): Revision | undefined => {
    const row = view.revisions.find((each) => each.generation === generation);
    return row === undefined ? undefined : revisionOf(row.revision);
  };
  return { ...outcome, plan: { target, fresh, advance: !held, bounds, revisionAt } };
}

/** Holding what has come to its end changes nothing. */
function isOver(before: RolloutState | undefined, { revision }: WorkloadRow): boolean {
  return before?.revision === revision && (before.phase === "Complete" || before.phase === "RolledBack");
}

/** A job is not rolled out: what it is to run, it runs from the beginning (`plan-job.ts`). */
function jobView({ workload, spec, now }: RolloutView, target: Revision): RolloutOutcome & { plan: RolloutPlan } {
  const { revision } = workload;
  const wanted = jobBounds(spec.job!).completions;
  const times = { startedAt: now, progressedAt: now, finishedAt: null };
  const words = { phase: "Complete", reason: "", message: "" } as const;
  return {
    state: { revision, target: revision, stable: revision, done: 0, wanted, ...words, ...times },
    wakeAt: undefined,
    plan: { target, fresh: target, advance: true, bounds: rolloutBounds(undefined, wanted) },
  };
}

export function rolloutMessage(state: RolloutState): RolloutStatus {
  return create(RolloutStatusSchema, {
    revision: BigInt(state.revision),
    targetRevision: BigInt(state.target),
    stableRevision: BigInt(state.stable),
    phase: state.phase,
    reason: state.reason,
    message: state.message,
    done: state.done,
    startedAt: timestampFromDate(state.startedAt),
    progressedAt: timestampFromDate(state.progressedAt),
    ...(state.finishedAt === null ? {} : { finishedAt: timestampFromDate(state.finishedAt) }),
  });
}

function stateOf(status: RolloutStatus | undefined, wanted: number): RolloutState | undefined {
  if (status === undefined) return undefined;
  return {
    revision: Number(status.revision),
    target: Number(status.targetRevision),
    stable: Number(status.stableRevision),
    phase: status.phase as RolloutPhase,
    reason: status.reason,
    message: status.message,
    done: status.done,
    wanted,
    startedAt: dateOf(status.startedAt),
    progressedAt: dateOf(status.progressedAt),
    finishedAt: status.finishedAt === undefined ? null : timestampDate(status.finishedAt),
  };
}

const dateOf = (time: Timestamp | undefined): Date => (time === undefined ? new Date(0) : timestampDate(time));

/** What is to be told of a change of phase. */
export function rolloutEvents(workload: WorkloadRow, before: WorkloadStatus, state: RolloutState): NewEvent[] {
  const was = before.rollout;
  const began = was === undefined || Number(was.revision) !== state.revision;
  if (!began && was.phase === state.phase) return [];
  const { namespace, name, uid } = workload;
  const trouble = state.phase === "Failed" || state.phase === "RollingBack";
  return [
    {
      namespace,
      topic: "/workloads/rollout",
      kind: "Workload",
      name,
      uid,
      severity: trouble ? "Warning" : "Normal",
      reason: state.phase,
      message: wordsOf(state),
    },
  ];
}

export function wordsOf({ phase, revision, target, reason, message }: RolloutState): string {
  const why = reason === "" ? "" : `: ${message}`;
  switch (phase) {
    case "Progressing":
      return `revision ${revision} is being rolled out`;
    case "Paused":
      return `the rollout of revision ${revision} is held`;
    case "Complete":
      return `revision ${revision} is rolled out`;
    case "Failed":
      return `the rollout of revision ${revision} has failed${why}`;
    case "RollingBack":
      return `going back to revision ${target}, for revision ${revision} has failed${why}`;
    case "RolledBack":
      return `back at revision ${target}, for revision ${revision} has failed${why}`;
  }
}
