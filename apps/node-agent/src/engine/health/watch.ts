/**
 * Asks one container's probes for as long as it runs, and tells of changes.
 *
 * Invariants:
 *  1. What is told differs from what was told before: nothing is told twice, so nothing is journaled twice (D4).
 *  2. Until the startup probe has succeeded no other is asked. One that was past that when the agent ended is past it still.
 *  3. After `failed` nothing more is told: the container is about to be ended.
 *
 * It knows no rows, no runtime and no network: who asks, and what becomes of a report, is its owner's (`keeper.ts`).
 */
import type { Clock } from "@berth/base";
import type { Health, HealthPlan, ProbeCheck, ProbePlan } from "./probe-plan.ts";
import { count, EMPTY, verdict, type Tally } from "./tally.ts";

/** `why` says what was seen, for people. */
export type Answer = { readonly success: true } | { readonly success: false; readonly why: string };

export interface HealthReport {
  readonly health: Exclude<Health, "" | "starting">;
  /** A stable word: StartupFailed, Unready, LivenessFailed; empty when all is well. */
  readonly reason: string;
  readonly message: string;
}

export interface WatchDeps {
  readonly clock: Clock;
  /** Never rejects but by the signal. */
  ask(check: ProbeCheck, timeoutMs: number, signal: AbortSignal): Promise<Answer>;
  /** Resolves when it is durable. */
  report(report: HealthReport): Promise<void>;
}

/** Resolves after `failed` was told, or when there is nothing to ask; rejects by the signal. */
export async function watchHealth(deps: WatchDeps, plan: HealthPlan, from: Health, signal: AbortSignal): Promise<void> {
  let known = from;
  const tell = async (report: HealthReport): Promise<void> => {
    if (known === "failed" || report.health === known) return;
    known = report.health;
    await deps.report(report);
  };
  if (plan.startup !== undefined && known === "starting") {
    const outcome = await firstVerdict(deps, plan.startup, signal);
    if (!outcome.success) {
      const message = `its startup probe failed: ${outcome.why}`;
      return await tell({ health: "failed", reason: "StartupFailed", message });
    }
  }
  if (plan.readiness === undefined) await tell({ health: "healthy", reason: "", message: "" });
  const failed = new AbortController();
  const ending = AbortSignal.any([signal, failed.signal]);
  const readiness = plan.readiness === undefined ? undefined : watchReadiness(deps, plan.readiness, tell, ending);
  const liveness = plan.liveness === undefined ? undefined : watchLiveness(deps, plan.liveness, tell, ending);
  try {
    // Readiness never ends by itself: liveness' end is the end.
    await (liveness ?? readiness);
  } finally {
    failed.abort();
    await Promise.allSettled([readiness, liveness]);
  }
}

type Tell = (report: HealthReport) => Promise<void>;

async function watchReadiness(deps: WatchDeps, probe: ProbePlan, tell: Tell, signal: AbortSignal): Promise<void> {
  await asked(deps, probe, signal, async (outcome, answer) => {
    if (outcome === "succeeded") await tell({ health: "healthy", reason: "", message: "" });
    else {
      const message = `its readiness probe failed: ${whyOf(answer)}`;
      await tell({ health: "unhealthy", reason: "Unready", message });
    }
    return false;
  });
}

async function watchLiveness(deps: WatchDeps, probe: ProbePlan, tell: Tell, signal: AbortSignal): Promise<void> {
  await asked(deps, probe, signal, async (outcome, answer) => {
    if (outcome === "succeeded") return false;
    const message = `its liveness probe failed: ${whyOf(answer)}`;
    await tell({ health: "failed", reason: "LivenessFailed", message });
    return true;
  });
}

async function firstVerdict(deps: WatchDeps, probe: ProbePlan, signal: AbortSignal): Promise<Answer> {
  let last: Answer = { success: true };
  await asked(deps, probe, signal, (_, answer) => {
    last = answer;
    return Promise.resolve(true);
  });
  return last;
}

/** Asks until `onVerdict` says that it is enough. */
async function asked(
  deps: WatchDeps,
  probe: ProbePlan,
  signal: AbortSignal,
  onVerdict: (verdict: "succeeded" | "failed", answer: Answer) => Promise<boolean>,
): Promise<void> {
  let tally: Tally = EMPTY;
  if (probe.initialDelayMs > 0) await deps.clock.sleep(probe.initialDelayMs, signal);
  for (;;) {
    signal.throwIfAborted();
    const answer = await deps.ask(probe.check, probe.timeoutMs, signal);
    tally = count(tally, answer.success);
    const outcome = verdict(tally, probe);
    if (outcome !== undefined && (await onVerdict(outcome, answer))) return;
    await deps.clock.sleep(probe.intervalMs, signal);
  }
}

const whyOf = (answer: Answer): string => (answer.success ? "" : answer.why);
