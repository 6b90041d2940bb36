/** What follows when an execution has ended: another attempt, after which wait, or none. Pure. */

export interface RestartRule {
  readonly policy: "always" | "onFailure" | "never";
  /** After so many attempts it is over. 0: no bound. */
  readonly maxAttempts: number;
}

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

export function decideRestart(rule: RestartRule, ended: EndedExecution): RestartDecision {
  const wanted = rule.policy === "always" || (rule.policy === "onFailure" && ended.phase !== "Succeeded");
  if (!wanted || (rule.maxAttempts > 0 && ended.attempt >= rule.maxAttempts)) return { restart: false };
  const { initialMs, maxMs, resetAfterMs } = RESTART_BACKOFF;
  const ranMs =
    ended.startedAt === null || ended.finishedAt === null ? 0 : ended.finishedAt.getTime() - ended.startedAt.getTime();
  const failures = ranMs >= resetAfterMs ? 0 : ended.failures;
  // The exponent is bounded, for 2 ** 2000 is no number of milliseconds.
  const delayMs = Math.min(maxMs, initialMs * 2 ** Math.min(failures, 16));
  return { restart: true, delayMs, failures: failures + 1 };
}
