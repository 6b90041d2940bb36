/** Schedules over changes of the clocks, and what a cron job's clock decides. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { planCron, type Concurrency, type CronInput } from "./plan-cron.ts";
import { parseSchedule } from "./schedule.ts";

const times = (expression: string, zone: string, from: string, count: number): string[] => {
  const schedule = parseSchedule(expression, zone);
  let at = new Date(from);
  return Array.from({ length: count }, () => (at = schedule.next(at)).toISOString().slice(0, 16));
};

void test("parseSchedule runs a time that the clocks skip or repeat once", () => {
  assert.deepEqual(times("30 2 * * *", "Europe/Berlin", "2026-03-28T00:00:00Z", 3), [
    "2026-03-28T01:30",
    "2026-03-29T01:30",
    "2026-03-30T00:30",
  ]);
  assert.deepEqual(times("30 2 * * *", "Europe/Berlin", "2026-10-24T00:00:00Z", 3), [
    "2026-10-24T00:30",
    "2026-10-25T00:30",
    "2026-10-26T01:30",
  ]);
  assert.deepEqual(times("0 * * * *", "Europe/Berlin", "2026-10-24T23:30:00Z", 3), [
    "2026-10-25T00:00",
    "2026-10-25T01:00",
    "2026-10-25T02:00",
  ]);
});

void test("parseSchedule refuses what it would have to guess", () => {
  for (const [expression, zone] of [
    ["", ""],
    ["* * * *", ""],
    ["* * * * * *", ""],
    ["61 * * * *", ""],
    ["0 0 31 2 *", ""],
    ["@sometimes", ""],
    ["* * * * *", "Mars/Olympus"],
  ] as const) {
    assert.throws(() => parseSchedule(expression, zone), { reason: "SCHEDULE_INVALID" }, expression);
  }
});

void test("timesBetween and next tell the same times", () => {
  const zones = fc.constantFrom("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata");
  const expressions = fc.constantFrom("*/20 * * * *", "0 */6 * * *", "30 2 * * *", "15 1 * * 0");
  const starts = fc.date({ min: new Date("2026-01-01"), max: new Date("2026-12-01"), noInvalidDate: true });
  fc.assert(
    fc.property(zones, expressions, starts, (zone, expression, start) => {
      const schedule = parseSchedule(expression, zone);
      const walked: Date[] = [start];
      for (let n = 0; n < 12; n += 1) walked.push(schedule.next(walked.at(-1)!));
      const [, ...expected] = walked;
      assert.deepEqual(schedule.timesBetween(start, expected.at(-1)!, 1_000), expected);
      assert.deepEqual(schedule.timesBetween(start, expected.at(-1)!, 3), expected.slice(-3));
    }),
    { numRuns: 40 },
  );
});

void test("planCron decides each scheduled time once, whatever looks there are, and keeps the concurrency", () => {
  const looks = fc.array(fc.record({ passS: fc.integer({ min: 1, max: 400 }), ends: fc.boolean() }), {
    minLength: 1,
    maxLength: 40,
  });
  const schedule = parseSchedule("* * * * *", "UTC");
  fc.assert(
    fc.property(
      fc.constantFrom<Concurrency>("Allow", "Forbid", "Replace"),
      fc.option(fc.integer({ min: 1, max: 90 }), { nil: undefined }),
      looks,
      (concurrency, deadlineS, all) => {
        let nowMs = Date.parse("2026-06-01T00:00:30Z");
        let decidedUntil = new Date(nowMs);
        let active = 0;
        const decided: number[] = [];
        for (const { passS, ends } of all) {
          nowMs += passS * 1_000;
          if (ends) active = 0;
          const now = new Date(nowMs);
          const startingDeadlineMs = deadlineS === undefined ? undefined : deadlineS * 1_000;
          const input: CronInput = { ...schedule, concurrency, startingDeadlineMs, suspended: false, decidedUntil, active, now }; // prettier-ignore
          const plan = planCron(input);
          assert.ok(plan.decisions.filter(({ outcome }) => outcome === "Started").length <= 1);
          for (const decision of plan.decisions) {
            decided.push(decision.at.getTime());
            if (decision.outcome !== "Started") continue;
            assert.ok(startingDeadlineMs === undefined || nowMs - decision.at.getTime() <= startingDeadlineMs);
            active = decision.replaces ? 1 : active + 1;
          }
          if (concurrency !== "Allow") assert.ok(active <= 1);
          decidedUntil = plan.decidedUntil;
          assert.ok(plan.wakeAt > now);
          assert.deepEqual(planCron({ ...input, decidedUntil, active }).decisions, [], "a second look decides nothing");
        }
        const expected = schedule.timesBetween(new Date("2026-06-01T00:00:30Z"), decidedUntil, 10_000);
        assert.deepEqual(
          decided,
          expected.map((at) => at.getTime()),
        );
      },
    ),
    { numRuns: 100 },
  );
});
