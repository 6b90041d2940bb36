/** Waiting for something that tells nobody when it happens: tried again and again up to a deadline. */
import { setTimeout as delay } from "node:timers/promises";
import { StatusError, throwIfAborted } from "@berth/base";

export interface PollOptions {
  /** Default 10 s. */
  readonly timeoutMs?: number;
  /** The longest pause between two tries. Default 100 ms; the first pause is 5 ms, and each is twice the one before. */
  readonly intervalMs?: number;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Calls `attempt` until it returns something other than `undefined` or `false` without throwing.
 * Throws DEADLINE_EXCEEDED with the last error as its cause, naming `what` was awaited.
 */
export async function eventually<T>(
  what: string,
  attempt: () => Promise<T | undefined | false> | T | undefined | false,
  options: PollOptions = {},
): Promise<T> {
  const { timeoutMs = 10_000, intervalMs = 100, signal } = options;
  const deadline = performance.now() + timeoutMs;
  let last: unknown;
  for (let waitMs = 5; ; waitMs = Math.min(waitMs * 2, intervalMs)) {
    throwIfAborted(signal);
    try {
      const result = await attempt();
      if (result !== undefined && result !== false) return result;
      last = undefined;
    } catch (error) {
      last = error;
    }
    if (performance.now() > deadline) {
      const why = last === undefined ? "" : `: ${StatusError.from(last).message}`;
      throw new StatusError("DEADLINE_EXCEEDED", `${what}: not within ${timeoutMs} ms${why}`, { cause: last });
    }
    await delay(waitMs);
  }
}
