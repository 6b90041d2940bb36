/** Trying again: exponential backoff with full jitter, honouring what the error says (`retryAfterMs`). */
import { systemClock, type Clock, type Random } from "./clock.ts";
import { isTransient, StatusError } from "./status-error.ts";

export interface Backoff {
  readonly initialMs: number;
  readonly maxMs: number;
  /** How much longer each wait may be than the one before. */
  readonly factor: number;
}

export const defaultBackoff: Backoff = { initialMs: 100, maxMs: 10_000, factor: 2 };

/** The wait before try number `attempt + 1` (attempt counts from 1), between half and all of the exponential bound. */
export function backoffMs(backoff: Backoff, attempt: number, random: Random = Math.random): number {
  const bound = Math.min(backoff.maxMs, backoff.initialMs * backoff.factor ** (attempt - 1));
  return bound / 2 + (bound / 2) * random();
}

export interface RetryOptions {
  readonly maxAttempts?: number;
  readonly backoff?: Backoff;
  readonly clock?: Clock;
  readonly random?: Random;
  readonly signal?: AbortSignal | undefined;
  /** Defaults to {@link isTransient}. */
  readonly retryable?: (error: unknown) => boolean;
  readonly onRetry?: (error: StatusError, attempt: number, waitMs: number) => void;
}

/** Calls `body` until it succeeds, fails for good, or the attempts (default 5) run out; then the last error is thrown. */
export async function retry<T>(body: (attempt: number) => Promise<T>, options: RetryOptions = {}): Promise<T> {
  const { maxAttempts = 5, backoff = defaultBackoff, clock = systemClock, retryable = isTransient } = options;
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await body(attempt);
    } catch (error) {
      if (attempt >= maxAttempts || options.signal?.aborted || !retryable(error)) throw error;
      const status = StatusError.from(error);
      const waitMs = Math.max(status.retryAfterMs ?? 0, backoffMs(backoff, attempt, options.random));
      options.onRetry?.(status, attempt, waitMs);
      await clock.sleep(waitMs, options.signal);
    }
  }
}
