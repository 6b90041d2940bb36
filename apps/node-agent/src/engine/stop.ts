/** Stopping a container: its signal, a grace, then SIGKILL for everything in it. */
import { anySignal, hasCode, throwIfAborted, type Clock } from "@berth/base";
import type { ContainerExit, Runtime } from "@berth/runtime";
import type { Container } from "./container.ts";

export interface StopRequest {
  readonly runtime: Runtime;
  readonly container: Container;
  readonly stopSignal: string;
  readonly graceMs: number;
  readonly wait: (signal: AbortSignal) => Promise<ContainerExit>;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/** How long after SIGKILL the end may be outstanding: the kernel's, and the supervisor's writing it down. */
const KILL_WAIT_MS = 10_000;

/** @returns how it ended; `unknown` when even SIGKILL brought no word in time. */
export async function stopContainer(request: StopRequest): Promise<ContainerExit> {
  const { runtime, container, stopSignal, graceMs } = request;
  await signalIfThere(runtime, container, stopSignal);
  const gentle = graceMs <= 0 ? undefined : await endedWithin(request, graceMs);
  if (gentle !== undefined) return gentle;
  await signalIfThere(runtime, container, "SIGKILL", true);
  const forced = await endedWithin(request, KILL_WAIT_MS);
  return forced ?? { kind: "unknown", reason: "it did not end after SIGKILL", atMs: request.clock.nowMs() };
}

async function signalIfThere(runtime: Runtime, container: Container, signal: string, all = false): Promise<void> {
  try {
    await runtime.kill(container, signal, { all });
  } catch (error) {
    // Gone altogether: waiting tells so.
    if (!hasCode(error, "NOT_FOUND")) throw error;
  }
}

async function endedWithin(request: StopRequest, ms: number): Promise<ContainerExit | undefined> {
  const late = new AbortController();
  const done = new AbortController();
  const timer = request.clock
    .sleep(ms, anySignal(done.signal, request.signal))
    .then(() => late.abort())
    .catch(() => {});
  try {
    return await request.wait(anySignal(late.signal, request.signal));
  } catch (error) {
    throwIfAborted(request.signal);
    if (late.signal.aborted) return undefined;
    throw error;
  } finally {
    done.abort();
    await timer;
  }
}
