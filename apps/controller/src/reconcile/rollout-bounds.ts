/** What a spec allows of a rollout, in numbers. Pure. */
import { durationMs } from "@bufbuild/protobuf/wkt";
import type { Rollout } from "@berth/proto";

export interface RolloutBounds {
  /** How many tasks may be unavailable because of it. */
  readonly maxUnavailable: number;
  /** How many tasks more than wanted there may be. */
  readonly maxSurge: number;
  readonly minReadyMs: number;
  readonly progressDeadlineMs: number;
  /** Does a failed one go back? */
  readonly rollback: boolean;
}

const DEFAULT_PROGRESS_DEADLINE_MS = 600_000;

/** Of so many wanted tasks. At least one of maxUnavailable and maxSurge is above 0, for else nothing could ever move. */
export function rolloutBounds(rollout: Rollout | undefined, wanted: number): RolloutBounds {
  const maxSurge = rollout?.maxSurge ?? Math.ceil((wanted * (rollout?.maxSurgePercent ?? 0)) / 100);
  const unavailable =
    rollout?.maxUnavailable ??
    (rollout?.maxUnavailablePercent === undefined ? 1 : Math.floor((wanted * rollout.maxUnavailablePercent) / 100));
  const { minReady, progressDeadline } = rollout ?? {};
  return {
    maxUnavailable: Math.max(unavailable, maxSurge === 0 ? 1 : 0),
    maxSurge,
    minReadyMs: minReady === undefined ? 0 : durationMs(minReady),
    progressDeadlineMs: progressDeadline === undefined ? DEFAULT_PROGRESS_DEADLINE_MS : durationMs(progressDeadline),
    rollback: rollout?.onFailure !== "wait",
  };
}
