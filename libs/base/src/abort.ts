/** Waiting that can be called off: every wait in Berth takes an AbortSignal. */
import { StatusError } from "./status-error.ts";

/** Throws CANCELLED (or the signal's own StatusError) if the signal has fired. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw abortReason(signal);
}

/** The reason of a fired signal as a StatusError. */
export function abortReason(signal: AbortSignal): StatusError {
  const reason: unknown = signal.reason;
  if (reason instanceof StatusError) return reason;
  if (reason instanceof Error && reason.name === "TimeoutError") return StatusError.from(reason);
  return new StatusError("CANCELLED", "cancelled", { cause: reason });
}

/** A signal that fires when any of the given ones does; undefined ones are left out. */
export function anySignal(...signals: (AbortSignal | undefined)[]): AbortSignal {
  return AbortSignal.any(signals.filter((s) => s !== undefined));
}

/** Resolves when the signal fires; never rejects. */
export function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener("abort", () => resolve(), { once: true }));
}

/** Waits for a promise, but no longer than the signal lets it; the promise itself goes on unobserved. */
export async function withSignal<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return await promise;
  // Before anything is thrown: a rejection that nobody handles ends the process.
  promise.catch(() => {});
  throwIfAborted(signal);
  const { promise: cut, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(abortReason(signal));
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([promise, cut]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}
