import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { disruptionBudget, parseCountOrPercent, shareOf } from "./disruption.ts";

void test("parseCountOrPercent reads numbers and shares, and says how to write them", () => {
  assert.deepEqual(parseCountOrPercent("2"), { count: 2 });
  assert.deepEqual(parseCountOrPercent("25%"), { percent: 25 });
  for (const text of ["", "-1", "1.5", "101%", "two", "%", "1 %"]) {
    assert.throws(() => parseCountOrPercent(text), /neither a number such as "2" nor a share such as "25%"/);
  }
});

void test("shareOf rounds shares up", () => {
  assert.equal(shareOf("25%", 10), 3);
  assert.equal(shareOf("10%", 1), 1);
  assert.equal(shareOf("0%", 10), 0);
  assert.equal(shareOf("7", 3), 7);
});

void test("disruptionBudget never lets more be down than its rule allows", () => {
  const share = fc.oneof(
    fc.nat({ max: 20 }).map(String),
    fc.nat({ max: 100 }).map((percent) => `${percent}%`),
  );
  fc.assert(
    fc.property(
      fc.option(share),
      fc.option(share),
      fc.nat({ max: 20 }),
      fc.nat({ max: 20 }),
      (most, least, wanted, ups) => {
        const up = Math.min(ups, wanted);
        const budget = disruptionBudget({ maxUnavailable: most ?? "", minAvailable: least ?? "" }, wanted, up);
        assert.ok(budget.left >= 0 && budget.left <= up + budget.down);
        if (budget.left === 0) return;
        if (least !== null) assert.ok(up - budget.left >= shareOf(least, wanted));
        else assert.ok(wanted - (up - budget.left) <= shareOf(most ?? "1", wanted));
      },
    ),
  );
});
