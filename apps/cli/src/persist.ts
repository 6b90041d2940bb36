/**
 * Streams and calls that outlive a restart of the controller: when the connection breaks they say so once on stderr, wait
 * until the controller answers again, and go on.
 *
 * Only what was begun is carried on: the first call of a command fails at once when nobody answers, so that a wrong address
 * is told rather than waited for. Where to go on from is the caller's part (`open` is called anew each time).
 */
import { setTimeout as delay } from "node:timers/promises";
import { backoffMs, hasCode, StatusError, throwIfAborted, type Backoff } from "@berth/base";
import { HealthService } from "@berth/proto";
import type { Session } from "./session.ts";

const BACKOFF: Backoff = { initialMs: 200, maxMs: 2_000, factor: 2 };
const ANSWER_MS = 5_000;

/** All that the streams give which `open` opens one after another; ends when one ends by itself. */
export async function* persist<T>(session: Session, open: () => AsyncIterable<T>): AsyncGenerator<T> {
  let attempt = 0;
  let told = "";
  for (;;) {
    try {
      for await (const item of open()) {
        [attempt, told] = [0, ""];
        yield item;
      }
      return;
    } catch (error) {
      if (!isBroken(session, error)) throw error;
      const why = reasonOf(error);
      if (why !== told) session.note(`${why}; trying again`);
      told = why;
    }
    attempt += 1;
    await delayed(session, attempt);
    if (await untilAnswering(session)) session.note("the controller answers again");
  }
}

/** The result of a call, as soon as the controller gives one. */
export async function persistCall<T>(session: Session, call: () => Promise<T>): Promise<T> {
  const results = persist(session, async function* () {
    yield await call();
  });
  for await (const result of results) return result;
  throw new StatusError("INTERNAL", "the call gave no result");
}

/** A watch that the controller never ends on purpose: its end is a broken connection. */
export async function* endless<T>(stream: AsyncIterable<T>): AsyncGenerator<T> {
  yield* stream;
  throw new StatusError("UNAVAILABLE", "the controller ended the stream", { reason: "STREAM_ENDED" });
}

function isBroken(session: Session, error: unknown): boolean {
  return !session.signal.aborted && hasCode(error, "UNAVAILABLE", "CANCELLED");
}

function reasonOf(error: unknown): string {
  const { reason, details, message } = StatusError.from(error);
  if (reason === "ENDPOINT_UNREACHABLE") return `the connection to the controller broke (${details["why"]})`;
  return message === "" ? "the connection to the controller broke" : message;
}

/** True when it did not answer at first. */
async function untilAnswering(session: Session): Promise<boolean> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await session.client(HealthService).getHealth({}, { signal: session.signal, timeoutMs: ANSWER_MS });
      return attempt > 1;
    } catch (error) {
      if (!isBroken(session, error) && !hasCode(error, "DEADLINE_EXCEEDED")) throw error;
      await delayed(session, attempt);
    }
  }
}

async function delayed(session: Session, attempt: number): Promise<void> {
  await delay(backoffMs(BACKOFF, attempt), undefined, { signal: session.signal }).catch(() => {});
  throwIfAborted(session.signal);
}
