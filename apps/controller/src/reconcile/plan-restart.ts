/** Whether a task that has ended is tried again, and when. Pure. */
import { decideRestart, FENCED_REASON, hasEnded, type EndedExecution, type RestartRule } from "@berth/model";
import type { TaskRow, TaskUpdate } from "@berth/store";

export interface RestartOutcome {
  /** The next attempt is due now. */
  readonly begin: boolean;
  /** What is to be remembered until then. */
  readonly patch: TaskUpdate["patch"] | undefined;
  readonly wakeAt: Date | undefined;
}

const NOTHING: RestartOutcome = { begin: false, patch: undefined, wakeAt: undefined };

export function planRestart(rule: RestartRule, row: TaskRow, now: Date): RestartOutcome {
  if (!hasEnded(row.phase) || row.node === null) return NOTHING;
  if (row.nextAttemptAt !== null) {
    if (row.nextAttemptAt <= now) return { begin: true, patch: undefined, wakeAt: undefined };
    return { begin: false, patch: undefined, wakeAt: row.nextAttemptAt };
  }
  // Its node ended it, because the node had no lease: that says nothing of it.
  if (row.reason === FENCED_REASON) return { begin: true, patch: undefined, wakeAt: undefined };
  const decision = decideRestart(rule, {
    phase: row.phase as EndedExecution["phase"],
    attempt: row.attempt,
    failures: row.failures,
    startedAt: row.startedAt,
    finishedAt: row.finishedAt,
  });
  if (!decision.restart) return NOTHING;
  const nextAttemptAt = new Date(now.getTime() + decision.delayMs);
  return { begin: false, patch: { nextAttemptAt, failures: decision.failures }, wakeAt: nextAttemptAt };
}
