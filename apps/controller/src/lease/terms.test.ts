import assert from "node:assert/strict";
import { test } from "node:test";
import { leaseTerms } from "./terms.ts";

void test("leaseTerms keeps renewals below the rate, and the share of them that may be lost", () => {
  const least = { ttlMs: 15_000, renewMs: 3_000 };
  assert.deepEqual(leaseTerms(least, 100, 200), least);
  assert.deepEqual(leaseTerms(least, 1_000, 200), { renewMs: 5_000, ttlMs: 25_000 });
  for (const nodes of [1, 599, 601, 5_000, 10_000, 100_000]) {
    const { renewMs, ttlMs } = leaseTerms(least, nodes, 200);
    assert.ok((nodes * 1_000) / renewMs <= 200.5, `${nodes}`);
    assert.ok(ttlMs / renewMs >= 5, `${nodes}`);
  }
});
