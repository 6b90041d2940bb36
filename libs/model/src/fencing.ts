/**
 * Until when a task of a silent node possibly runs, and when it is safe to start another in its place (flow C, D6). Pure.
 *
 * The node's stopper ends a fenced task at D, its lease request's sending + TTL, by the node's CLOCK_BOOTTIME; then come the
 * task's grace and SIGKILL. The controller wrote the lease later than the request was sent, so its end of the lease is never
 * before D; T adds the grace, a bound on the stopper's own slowness, and what two clocks may differ in running:
 *
 *   T = (time of the write + TTL) + grace + slack + TTL × drift
 *
 * This rests on the node's kernel: a host (or virtual machine) that is frozen and thawed runs on for up to a second before its
 * stopper sees the time, and a process in an uninterruptible wait ends when that is over. `docs/operations/node-loss.md` says so.
 */
import { hasEnded, type Certainty, type TaskPhase } from "./task-transitions.ts";

export interface FencingTerms {
  /** Bound on how late the stopper is, SIGKILL included. */
  readonly slackMs: number;
}

/** Clocks run apart by less than this share (1 %; crystals by 0.02 %, a slewing clock by 0.05 %). */
export const CLOCK_DRIFT = 0.01;

/** What a task without a grace of its own is given before SIGKILL. */
export const DEFAULT_STOP_GRACE_MS = 10_000;

/** How long a fenced task may be given at most: a replacement may have to wait for it. */
export const MOST_FENCED_GRACE_MS = 10 * 60_000;

/** {@link FencingTerms.slackMs} where nothing else is configured (`lease.fenceSlackMs` of the controller). */
export const DEFAULT_FENCE_SLACK_MS = 5_000;

export function fencedBy(
  lease: { readonly expiresAt: Date; readonly ttlMs: number },
  graceMs: number,
  { slackMs }: FencingTerms,
): Date {
  return new Date(lease.expiresAt.getTime() + graceMs + slackMs + Math.ceil(lease.ttlMs * CLOCK_DRIFT));
}

export interface ReplacedTask {
  readonly phase: string;
  readonly certainty: string;
  readonly node: string | null;
  readonly fence: boolean;
  readonly possiblyUntil: Date | null;
  /** The next attempt is to be made, on the same node. */
  readonly nextAttemptAt: Date | null;
  readonly removed: boolean;
}

export type ReplacementVerdict = "safe" | "later" | "unsafe";

export interface ReplacementAnswer {
  readonly verdict: ReplacementVerdict;
  readonly at?: Date;
  readonly why: string;
}

/** When is it safe to start another in its place, never two at once? */
export function replacementSafety(task: ReplacedTask): ReplacementAnswer {
  if (task.node === null) return { verdict: "safe", why: "it was never placed" };
  if (task.removed) return { verdict: "safe", why: "its node holds nothing of it any more" };
  if (hasEnded(task.phase)) return { verdict: "safe", why: `it has ended (${task.phase})` };
  const certainty = task.certainty as Certainty;
  switch (certainty) {
    case "fenced":
      return {
        verdict: "safe",
        ...(task.possiblyUntil === null ? {} : { at: task.possiblyUntil }),
        why: "its node is silent, and its stopper has ended it by now",
      };
    case "unreachable":
      if (task.possiblyUntil === null) return { verdict: "unsafe", why: whyUnbounded(task) };
      return { verdict: "later", at: task.possiblyUntil, why: "its node is silent, and its stopper ends it by then" };
    case "observed":
    case "unknown":
      return { verdict: "unsafe", why: `its node says that it is ${(task.phase as TaskPhase).toLowerCase()}` };
  }
}

function whyUnbounded({ node, fence }: ReplacedTask): string {
  const cause = fence
    ? "its node's stopper was not working"
    : "nothing ends it there (onNodeLoss is not stopThenReplace)";
  return `its node is silent and ${cause}: make sure that the host is off, then berth delete node ${node}`;
}
