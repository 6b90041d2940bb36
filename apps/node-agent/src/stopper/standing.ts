/**
 * How this node stands with its controller, and what that means for each task, by what the node alone knows: cut off from
 * everything it still tells until when what is fenced ends (flow C, D6). Pure.
 *
 * The words and T are the controller's (`libs/model/src/fencing.ts`), counted from the sending of the lease request where the
 * controller counts from its own write: the node's T is never later than the controller's. An agent that has started since has
 * the deadline from its stopper, and takes the usual slack.
 */
import { DEFAULT_FENCE_SLACK_MS, fencedBy, type Certainty } from "@berth/model";

/** Times by CLOCK_BOOTTIME. */
export interface LeaseFacts {
  readonly held: boolean;
  /** Of the last lease; 0: none since the agent started. */
  readonly untilBoottimeMs: number;
  /** When the request was sent that the controller answered last; 0: none since the agent started. */
  readonly heardBoottimeMs: number;
  readonly ttlMs: number;
  /** As the controller reckons; undefined: it has not said. */
  readonly fenceSlackMs: number | undefined;
  /** Why the controller refuses the lease; empty: it does not. */
  readonly refused: string;
}

export interface Clocks {
  readonly boottimeMs: number;
  /** The wall clock at that moment: only for showing. */
  readonly wallMs: number;
}

export interface StandingInput {
  readonly lease: LeaseFacts;
  readonly startedBoottimeMs: number;
  /** Until when what is fenced may run, by the stopper. */
  readonly stopperDeadlineBoottimeMs: number;
  readonly now: Clocks;
}

/** Times by the wall clock. */
export interface Standing {
  readonly held: boolean;
  readonly leaseUntil: Date | undefined;
  readonly heardAt: Date | undefined;
  /** When the lease ran out, or, without one, when the agent started. */
  readonly cutOffSince: Date | undefined;
  readonly refused: string;
  /** T of a fenced execution with this grace; undefined while the lease is held. */
  fenceEnds(graceMs: number): Date | undefined;
}

export function standingOf({ lease, startedBoottimeMs, stopperDeadlineBoottimeMs, now }: StandingInput): Standing {
  const wall = (boottimeMs: number): Date => new Date(now.wallMs - now.boottimeMs + boottimeMs);
  const known = (boottimeMs: number): Date | undefined => (boottimeMs > 0 ? wall(boottimeMs) : undefined);
  const { held, untilBoottimeMs, ttlMs, fenceSlackMs: slackMs = DEFAULT_FENCE_SLACK_MS } = lease;
  const passed = Math.min(now.boottimeMs, untilBoottimeMs > 0 ? untilBoottimeMs : startedBoottimeMs);
  return {
    held,
    leaseUntil: known(untilBoottimeMs),
    heardAt: known(lease.heardBoottimeMs),
    cutOffSince: held ? undefined : wall(passed),
    refused: lease.refused,
    fenceEnds(graceMs) {
      if (held) return undefined;
      return fencedBy({ expiresAt: wall(stopperDeadlineBoottimeMs), ttlMs }, graceMs, { slackMs });
    },
  };
}

export interface TaskStanding {
  /** What the controller can say of it now. */
  readonly certainty: Certainty;
  /** T, where its stopper bounds it. */
  readonly possiblyUntil: Date | undefined;
  readonly why: string;
}

export interface StandingTask {
  readonly fence: boolean;
  readonly graceMs: number;
  /** Nothing of it runs here, which the controller has yet to hear. */
  readonly ended: boolean;
}

export function taskStandingOf(
  standing: Standing,
  { fence, graceMs, ended }: StandingTask,
  stopperProblem: string | undefined,
  now: Date,
): TaskStanding {
  if (standing.held) return { certainty: "observed", possiblyUntil: undefined, why: "" };
  const unbounded = { certainty: "unreachable", possiblyUntil: undefined } as const;
  if (!fence)
    return {
      ...unbounded,
      why: ended ? "cut off; it has ended here" : "cut off; it goes on (onNodeLoss is not stopThenReplace)",
    };
  // The stopper ends by itself when nothing is left for it to stop.
  if (stopperProblem !== undefined && !ended)
    return { ...unbounded, why: `cut off, and the stopper may not end it: ${stopperProblem}` };
  const possiblyUntil = standing.fenceEnds(graceMs)!;
  const here = ended ? "it has ended here" : undefined;
  if (now < possiblyUntil)
    return { certainty: "unreachable", possiblyUntil, why: `cut off; ${here ?? "the stopper ends it by T"}` };
  return { certainty: "fenced", possiblyUntil, why: `cut off; ${here ?? "the stopper should have ended it by now"}` };
}
