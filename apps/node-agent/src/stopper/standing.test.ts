import assert from "node:assert/strict";
import { test } from "node:test";
import { fencedBy } from "@berth/model";
import { standingOf, taskStandingOf, type LeaseFacts } from "./standing.ts";

const WALL_MS = Date.UTC(2026, 0, 1, 12);
const BOOT_MS = 500_000;
const at = (boottimeMs: number): string => new Date(WALL_MS - BOOT_MS + boottimeMs).toISOString().slice(14, 23);

function standing(lease: Partial<LeaseFacts>, deadlineMs = 0) {
  const facts = { held: false, untilBoottimeMs: 0, heardBoottimeMs: 0, ttlMs: 0, fenceSlackMs: undefined, refused: "" };
  return standingOf({
    lease: { ...facts, ...lease },
    startedBoottimeMs: 400_000,
    stopperDeadlineBoottimeMs: deadlineMs,
    now: { boottimeMs: BOOT_MS, wallMs: WALL_MS },
  });
}

const FENCED = { fence: true, graceMs: 10_000, ended: false };

test("standingOf a lease that is held is certain of everything", () => {
  const held = standing({ held: true, untilBoottimeMs: 509_000, heardBoottimeMs: 499_000, ttlMs: 10_000 }, 509_000);
  assert.equal(held.cutOffSince, undefined);
  assert.equal(taskStandingOf(held, FENCED, undefined, new Date(WALL_MS)).certainty, "observed");
  assert.equal(held.fenceEnds(10_000), undefined);
});

test("standingOf a lease that has passed tells since when, and T by the controller's own formula", () => {
  const lease = { untilBoottimeMs: 495_000, heardBoottimeMs: 485_000, ttlMs: 10_000, fenceSlackMs: 2_000 };
  const cut = standing(lease, 495_000);
  assert.equal(cut.cutOffSince!.toISOString().slice(14, 23), at(495_000));
  assert.equal(cut.heardAt!.toISOString().slice(14, 23), at(485_000));
  const expiresAt = new Date(WALL_MS - 5_000);
  const t = fencedBy({ expiresAt, ttlMs: 10_000 }, 10_000, { slackMs: 2_000 });
  const now = new Date(WALL_MS);
  assert.deepEqual(taskStandingOf(cut, FENCED, undefined, now), { certainty: "unreachable", possiblyUntil: t, why: "cut off; the stopper ends it by T" }); // prettier-ignore
  assert.equal(taskStandingOf(cut, FENCED, undefined, t).certainty, "fenced");
  assert.equal(
    taskStandingOf(cut, { fence: false, graceMs: 0, ended: false }, undefined, now).possiblyUntil,
    undefined,
  );
  const broken = taskStandingOf(cut, FENCED, "it has ended or hangs", t);
  assert.deepEqual([broken.certainty, broken.possiblyUntil], ["unreachable", undefined], "never fenced by nobody");
  assert.equal(taskStandingOf(cut, { ...FENCED, ended: true }, "it has ended or hangs", t).certainty, "fenced");
});

test("standingOf an agent that started cut off is cut off since then, and has T from its stopper", () => {
  const cut = standing({}, 420_000);
  assert.equal(cut.cutOffSince!.toISOString().slice(14, 23), at(400_000));
  assert.equal(cut.heardAt, undefined);
  assert.equal(cut.fenceEnds(10_000)!.toISOString().slice(14, 23), at(420_000 + 10_000 + 5_000));
});
