import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  backoffMs,
  defaultBackoff,
  digestOf,
  Emitter,
  KeyedLock,
  Lifetime,
  ManualClock,
  parseDigest,
  retry,
  seededRandom,
  Semaphore,
  StatusError,
  uuidTimeMs,
  uuidv7,
  withSignal,
} from "./index.ts";

void test("StatusError.from keeps a StatusError and maps errno, aborts and unknown values", () => {
  const original = new StatusError("NOT_FOUND", "x");
  assert.equal(StatusError.from(original), original);
  const full = Object.assign(new Error("no space"), { code: "ENOSPC" });
  assert.equal(StatusError.from(full).code, "RESOURCE_EXHAUSTED");
  assert.equal(StatusError.from(full, "blob").message, "blob: no space");
  assert.equal(StatusError.from(new DOMException("x", "AbortError")).code, "CANCELLED");
  assert.equal(StatusError.from("text").code, "UNKNOWN");
});

void test("StatusError.invalid names every field in its message", () => {
  const error = StatusError.invalid([{ field: "a.b", description: "is missing" }]);
  assert.match(error.message, /a\.b: is missing/);
  assert.equal(error.violations.length, 1);
});

void test("parseDigest accepts what digestOf makes and refuses other lengths, cases and algorithms", () => {
  fc.assert(fc.property(fc.string(), (text) => parseDigest(digestOf(text)) === digestOf(text)));
  for (const wrong of [
    "",
    "sha256:",
    "sha256:abc",
    `SHA256:${"a".repeat(64)}`,
    `sha256:${"A".repeat(64)}`,
    `md5:${"a".repeat(32)}`,
  ]) {
    assert.throws(() => parseDigest(wrong), { reason: "DIGEST_INVALID" });
  }
});

void test("KeyedLock lets one in per key, in order, and forgets idle keys", async () => {
  const lock = new KeyedLock();
  const order: number[] = [];
  let inside = 0;
  const work = [0, 1, 2, 3].map((n) =>
    lock.run("k", async () => {
      inside += 1;
      assert.equal(inside, 1);
      await Promise.resolve();
      order.push(n);
      inside -= 1;
    }),
  );
  await Promise.all(work);
  assert.deepEqual(order, [0, 1, 2, 3]);
  await new Promise(setImmediate);
  assert.equal(lock.size, 0);
});

void test("KeyedLock goes on after a failure and after a waiter gave up", async () => {
  const lock = new KeyedLock();
  const gate = Promise.withResolvers<void>();
  const first = lock.run("k", () => gate.promise);
  const abort = new AbortController();
  const second = lock.run("k", () => Promise.resolve(2), abort.signal);
  const third = lock.run("k", () => Promise.resolve(3));
  abort.abort();
  await assert.rejects(second, { code: "CANCELLED" });
  gate.reject(new Error("first failed"));
  await assert.rejects(first, /first failed/);
  assert.equal(await third, 3);
});

void test("Semaphore never lets more in than it has permits, whoever gives up", async () => {
  const semaphore = new Semaphore(2);
  let inside = 0;
  let most = 0;
  const abort = new AbortController();
  const jobs = Array.from({ length: 20 }, (_, n) =>
    semaphore
      .run(
        async () => {
          inside += 1;
          most = Math.max(most, inside);
          await new Promise(setImmediate);
          inside -= 1;
        },
        n % 5 === 4 ? abort.signal : undefined,
      )
      .catch(() => "cancelled"),
  );
  abort.abort();
  const results = await Promise.all(jobs);
  assert.equal(most, 2);
  assert.equal(results.filter((r) => r === "cancelled").length, 4);
});

void test("retry waits what the error asks for and stops at the first success", async () => {
  const clock = new ManualClock();
  let calls = 0;
  const result = retry(
    () => {
      calls += 1;
      if (calls < 3) return Promise.reject(new StatusError("UNAVAILABLE", "busy", { retryAfterMs: 60_000 }));
      return Promise.resolve("done");
    },
    { clock },
  );
  while (calls < 3) {
    await new Promise(setImmediate);
    if (clock.sleeping > 0) clock.advance(60_000);
  }
  assert.equal(await result, "done");
});

void test("retry does not repeat what cannot get better", async () => {
  let calls = 0;
  const failing = retry(() => {
    calls += 1;
    return Promise.reject(new StatusError("INVALID_ARGUMENT", "wrong"));
  });
  await assert.rejects(failing, { code: "INVALID_ARGUMENT" });
  assert.equal(calls, 1);
});

void test("backoffMs stays within half and all of its bound", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 30 }), fc.integer(), (attempt, seed) => {
      const wait = backoffMs(defaultBackoff, attempt, seededRandom(seed));
      const bound = Math.min(defaultBackoff.maxMs, defaultBackoff.initialMs * 2 ** (attempt - 1));
      return wait >= bound / 2 && wait <= bound;
    }),
  );
});

void test("Lifetime closes in reverse order, once, and reports every failure", async () => {
  const closed: string[] = [];
  const lifetime = new Lifetime();
  lifetime.defer(() => void closed.push("first"));
  lifetime.defer(() => {
    closed.push("second");
    throw new Error("second failed");
  });
  lifetime.loop(
    async (signal) => {
      await new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
      closed.push("loop");
    },
    () => assert.fail("no error expected"),
  );
  const done = lifetime[Symbol.asyncDispose]();
  assert.equal(lifetime[Symbol.asyncDispose](), done);
  await assert.rejects(done, /second failed/);
  assert.deepEqual(closed, ["loop", "second", "first"]);
});

void test("Emitter goes on when a listener throws", () => {
  const errors: unknown[] = [];
  const emitter = new Emitter<number>((error) => errors.push(error));
  const heard: number[] = [];
  emitter.on(() => {
    throw new Error("broken listener");
  });
  using second = emitter.on((n) => heard.push(n));
  emitter.emit(1);
  assert.deepEqual(heard, [1]);
  assert.equal(errors.length, 1);
  assert.ok(second);
});

void test("withSignal gives up at once and leaves no unhandled rejection", async () => {
  const abort = new AbortController();
  const never = Promise.withResolvers<void>();
  const waiting = withSignal(never.promise, abort.signal);
  abort.abort();
  await assert.rejects(waiting, { code: "CANCELLED" });
  never.reject(new Error("late"));
  // What fails after a signal that had fired before it was asked, too.
  const early = Promise.withResolvers<void>();
  await assert.rejects(withSignal(early.promise, abort.signal), { code: "CANCELLED" });
  early.reject(new Error("later"));
  await new Promise(setImmediate);
});

void test("uuidv7 sorts by time and carries it", () => {
  const early = uuidv7(1_700_000_000_000);
  const late = uuidv7(1_700_000_000_001);
  assert.ok(early < late);
  assert.equal(uuidTimeMs(late), 1_700_000_000_001);
  assert.match(early, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
});
