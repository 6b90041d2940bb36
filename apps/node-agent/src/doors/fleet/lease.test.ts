import assert from "node:assert/strict";
import { test } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { ManualClock, silentLogger, StatusError } from "@berth/base";
import type { Bus, RequestOptions } from "@berth/bus";
import { LeaseReplySchema, LeaseRequestSchema, type LeaseReply, type LeaseRequest } from "@berth/proto";
import { Lease } from "./lease.ts";

type Answer = () => Promise<LeaseReply>;

/** A lease whose answers the test gives; `boottime` is CLOCK_BOOTTIME. */
function lab(answers: Answer[], random = () => 0.5) {
  const clock = new ManualClock();
  const boottime = { ms: 1_000_000 };
  const replies: LeaseReply[] = [];
  const requests: LeaseRequest[] = [];
  const waitsMs: (number | undefined)[] = [];
  const bus = {
    connected: async () => {},
    request: async (_endpoint: unknown, _node: string, request: LeaseRequest, { timeoutMs }: RequestOptions) => {
      requests.push(request);
      waitsMs.push(timeoutMs);
      return await (answers.shift() ?? answer({ ttlMs: 10_000n, renewAfterMs: 3_000n }))();
    },
  } as unknown as Bus;
  const abort = new AbortController();
  const lease = new Lease({
    bus,
    node: "a",
    describe: () => ({ facts: new Uint8Array(), news: create(LeaseRequestSchema) }),
    onReply: (reply) => replies.push(reply),
    boottimeMs: () => boottime.ms,
    clock,
    logger: silentLogger,
    random,
  });
  const running = lease.run(abort.signal);
  return { lease, clock, boottime, replies, requests, waitsMs, stop: async () => (abort.abort(), await running) };
}

const answer =
  (init: MessageInitShape<typeof LeaseReplySchema>): Answer =>
  async () =>
    create(LeaseReplySchema, init);

async function settle(): Promise<void> {
  for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

test("Lease counts from the moment the request was sent, and renews when told to", async () => {
  const slow = Promise.withResolvers<LeaseReply>();
  const { lease, clock, boottime, requests, stop } = lab([() => slow.promise]);
  await settle();
  assert.equal(lease.isHeld(), false);
  boottime.ms += 4_000;
  slow.resolve(create(LeaseReplySchema, { ttlMs: 5_000n, renewAfterMs: 2_000n }));
  await settle();
  assert.equal(lease.isHeld(), true);
  boottime.ms += 1_000;
  assert.equal(lease.isHeld(), false, "five seconds after it was asked for");
  clock.advance(2_000);
  await settle();
  assert.equal(requests.length, 2);
  assert.equal(lease.isHeld(), true);
  await stop();
});

test("Lease outlives failed renewals until it runs out, and says why it was refused", async () => {
  const { lease, clock, boottime, replies, stop } = lab([
    answer({ ttlMs: 10_000n, renewAfterMs: 3_000n }),
    () => Promise.reject(new StatusError("UNAVAILABLE", "nobody answers")),
    answer({ refused: "another agent has this name" }),
  ]);
  await settle();
  boottime.ms += 3_000;
  clock.advance(3_000);
  await settle();
  assert.equal(lease.isHeld(), true);
  clock.advance(3_000);
  await settle();
  assert.deepEqual([lease.isHeld(), lease.state.refused, replies.length], [false, "another agent has this name", 1]);
  clock.advance(3_000);
  await settle();
  assert.deepEqual([lease.isHeld(), lease.state.refused, replies.length], [true, "", 2]);
  await stop();
});

test("Lease waits no longer for an answer than leaves time for another request", async () => {
  const lost = () => Promise.reject(new StatusError("DEADLINE_EXCEEDED", "the controller that had it is gone"));
  for (const [ttlMs, waitMs] of [
    [2_000n, 1_000],
    [15_000n, 3_750],
    [250_000n, 5_000],
  ] as const) {
    const { clock, waitsMs, stop } = lab([answer({ ttlMs, renewAfterMs: 400n }), lost, lost]);
    for (let round = 0; round < 3; round += 1) {
      await settle();
      clock.advance(400);
    }
    assert.deepEqual(waitsMs.slice(0, 3), [5_000, waitMs, waitMs]);
    await stop();
  }
});

test("Lease renews a little sooner or later than told, so that a fleet that began together does not go on so", async () => {
  for (const [chance, afterMs] of [
    [0, 2_700],
    [1, 3_300],
  ] as const) {
    // prettier-ignore
    const { clock, requests, stop } = lab([], () => chance);
    await settle();
    clock.advance(afterMs - 1);
    await settle();
    assert.equal(requests.length, 1, `not before ${afterMs} ms`);
    clock.advance(1);
    await settle();
    assert.equal(requests.length, 2);
    await stop();
  }
});
