/** What follows when an execution has ended: another attempt, after which wait, or none. Pure. */
import { hasEnded } from "./task-transitions.ts";

export interface RestartRule {
  readonly policy: "always" | "onFailure" | "never";
  /** After so many attempts it is over. 0: no bound. */
  readonly maxAttempts: number;
}

/**
 * After which ends of an execution another one begins in the same place. `ifFenced`: only when its node ended it for want of a
 * lease, which says nothing of it. `no`: whatever it comes to, nothing follows.
 */
export type BeginsAgain = "always" | "onFailure" | "ifFenced" | "no";

/** The reason in a journal of what the node's stopper ended. */
export const FENCED_REASON = "Fenced";

export interface EndedExecution {
  readonly phase: "Succeeded" | "Failed" | "Stopped";
  readonly attempt: number;
  /** Attempts in a row, before this one, that ended without having run for long. */
  readonly failures: number;
  readonly startedAt: Date | null;
  readonly finishedAt: Date | null;
}

export type RestartDecision =
  | { readonly restart: true; readonly delayMs: number; readonly failures: number }
  | { readonly restart: false };

export const RESTART_BACKOFF = { initialMs: 1_000, maxMs: 60_000, resetAfterMs: 600_000 } as const;

/** What a rule says of one attempt. */
export function beginsAgainBy({ policy, maxAttempts }: RestartRule, attempt: number): BeginsAgain {
  return policy === "never" || (maxAttempts > 0 && attempt >= maxAttempts) ? "ifFenced" : policy;
}

export function decideRestart(rule: RestartRule, ended: EndedExecution): RestartDecision {
  const word = beginsAgainBy(rule, ended.attempt);
  if (word === "ifFenced" || (word === "onFailure" && ended.phase === "Succeeded")) return { restart: false };
  const { initialMs, maxMs, resetAfterMs } = RESTART_BACKOFF;
  const ranMs =
    ended.startedAt === null || ended.finishedAt === null ? 0 : ended.finishedAt.getTime() - ended.startedAt.getTime();
  const failures = ranMs >= resetAfterMs ? 0 : ended.failures;
  // The exponent is bounded, for 2 ** 2000 is no number of milliseconds.
  const delayMs = Math.min(maxMs, initialMs * 2 ** Math.min(failures, 16));
  return { restart: true, delayMs, failures: failures + 1 };
}

/** What says whether a task holds its share (its requests, its ports) of its node. */
export interface RoomHolder {
  readonly desired: string;
  readonly phase: string;
  readonly reason: string;
  readonly beginsAgain: string;
  readonly nextAttemptAt: Date | null;
}

/**
 * A task holds its room until it has ended and nothing will begin it again there: also while the reconciler has not looked at
 * the end yet, so that placement never gives away what is about to be taken again. `HOLDS_ROOM` of libs/store is the same in SQL.
 */
export function holdsRoom({ desired, phase, reason, beginsAgain, nextAttemptAt }: RoomHolder): boolean {
  if (!hasEnded(phase) || nextAttemptAt !== null) return true;
  if (desired !== "Run" || beginsAgain === "no") return false;
  return beginsAgain === "always" || (beginsAgain === "onFailure" && phase !== "Succeeded") || reason === FENCED_REASON;
}
