/** Waiting for the fleet to become what was asked for: `--wait`, with `--timeout`. A restart of the controller ends no wait. */
import { StatusError } from "@berth/base";
import type { Workload } from "@berth/proto";
import { follow, within } from "./follow.ts";
import type { Change, Kind, ListQuery, Resource } from "./kind.ts";
import { workloadKind } from "./kinds.ts";
import type { Session } from "./session.ts";

/**
 * Follows a kind's watch until `done` is satisfied.
 * @throws DEADLINE_EXCEEDED `WAIT_TIMEOUT` with what `pending` says about the last state seen.
 */
export async function waitFor<T extends Resource>(
  session: Session,
  kind: Kind<T>,
  query: ListQuery,
  options: {
    readonly timeoutMs: number;
    readonly done: (seen: Change<T>) => boolean;
    readonly pending: () => string;
  },
): Promise<void> {
  const pending = (): string => `gave up waiting: ${options.pending()}`;
  await within(session, options.timeoutMs, pending, async (waiting) => {
    for await (const seen of follow(waiting, kind, query)) if (options.done(seen)) return;
  });
}

/** Does the workload run as its newest spec says; or, a job: has it done so? */
export function isSettled(workload: Workload): boolean {
  const status = workload.status;
  if (status === undefined || status.observedGeneration < (workload.metadata?.generation ?? 0n)) return false;
  if (status.job !== undefined) return status.job.phase === "Complete";
  if (status.rollout !== undefined && status.rollout.phase !== "Complete") return false;
  return status.available + status.succeeded >= status.desired && status.updated >= status.desired;
}

/** @throws FAILED_PRECONDITION `ROLLOUT_FAILED` when the newest spec has failed: waiting longer would not help */
function refuseFailed(workload: Workload): void {
  const { observedGeneration = 0n, rollout, job } = workload.status ?? {};
  if (observedGeneration < (workload.metadata?.generation ?? 0n)) return;
  const name = workload.metadata?.name ?? "";
  if (job?.phase === "Failed") {
    const message = `job "${name}" has failed: ${job.message}; see berth describe workload ${name}`;
    throw new StatusError("FAILED_PRECONDITION", message, { reason: "JOB_FAILED" });
  }
  if (rollout === undefined) return;
  const said = `workload "${name}": revision ${rollout.revision} has failed: ${rollout.message}`;
  const next = `see berth rollout status ${name}`;
  if (rollout.phase === "Failed") throw new StatusError("FAILED_PRECONDITION", `${said}; ${next}`, FAILED);
  if (rollout.phase !== "RolledBack") return;
  const back = `its tasks are back at revision ${rollout.targetRevision}`;
  throw new StatusError("FAILED_PRECONDITION", `${said}; ${back}; ${next}`, FAILED);
}

const FAILED = { reason: "ROLLOUT_FAILED" };

export async function waitForWorkload(
  session: Session,
  namespace: string,
  name: string,
  timeoutMs: number,
  onChange: (workload: Workload) => void = () => {},
): Promise<void> {
  let last: Workload | undefined;
  await waitFor(
    session,
    workloadKind,
    { namespace, selector: "" },
    {
      timeoutMs,
      done: ({ event, object }) => {
        if (object.metadata?.name !== name) return false;
        last = object;
        if (event.type === "DELETED") throw new StatusError("NOT_FOUND", `workload "${name}" was deleted meanwhile`);
        onChange(object);
        refuseFailed(object);
        return isSettled(object);
      },
      pending: () => describePending(name, last),
    },
  );
}

function describePending(name: string, workload: Workload | undefined): string {
  const status = workload?.status;
  if (status === undefined) return `workload "${name}" was not seen`;
  const why = status.conditions.find((condition) => condition.status !== "True" && condition.message !== "");
  const unwell = status.available < status.running ? ` (${status.available} of them are well)` : "";
  const tail = why === undefined ? "" : ` (${why.message})`;
  if (status.job !== undefined) {
    const { succeeded, failures, active } = status.job;
    return `job "${name}": ${succeeded} of ${status.desired} have succeeded, ${active} are under way, ${failures} tries failed${tail}`;
  }
  return `workload "${name}" runs ${status.running} of ${status.desired} tasks${unwell}, ${status.failed} failed${tail}; see berth describe workload ${name}`;
}
