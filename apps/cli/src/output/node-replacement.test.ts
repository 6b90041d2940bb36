import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { NodeSchema, TaskSchema } from "@berth/proto";
import { replacementLines } from "./node-replacement.ts";

const node = (phase: string) =>
  create(NodeSchema, {
    metadata: { name: "n1" },
    status: {
      phase,
      leaseRenewedAt: timestampFromMs(1_000),
      conditions: [
        { type: "LeaseHeld", status: phase === "Unknown" ? "False" : "True", changedAt: timestampFromMs(16_000) },
        { type: "EvictionHeld", status: "True", reason: "RateLimited", message: "one after the other" },
      ],
    },
  });
const task = (name: string, certainty: string, verdict: string, why: string, atMs?: number) =>
  create(TaskSchema, {
    metadata: { namespace: "shop", name },
    status: {
      certainty,
      replacement: { verdict, why, ...(atMs === undefined ? {} : { at: timestampFromMs(atMs) }) },
    },
  });

void test("replacementLines tell of a silent node when its tasks may be replaced, by which rule, and what brake holds", () => {
  const tasks = [
    task("a", "unreachable", "unsafe", "nothing ends it there"),
    task("b", "unreachable", "later", "its stopper ends it by then", 30_000),
    task("c", "unreachable", "later", "its stopper ends it by then", 40_000),
    task("d", "fenced", "safe", "its stopper has ended it by now", 20_000),
    task("e", "observed", "safe", "it has ended (Succeeded)"),
  ];
  assert.deepEqual(replacementLines(node("Unknown"), tasks), [
    "n1 is silent since 1970-01-01T00:00:16.000Z; last heard 1970-01-01T00:00:01.000Z",
    "held (RateLimited): one after the other",
    "1 task may be replaced now (T = 1970-01-01T00:00:20.000Z): its stopper has ended it by now: shop/d",
    "2 tasks may be replaced after T = 1970-01-01T00:00:40.000Z: its stopper ends it by then: shop/b, shop/c",
    "1 task may not be replaced: nothing ends it there: shop/a",
  ]);
});

void test("replacementLines of a node that is heard say that nothing is lost", () => {
  assert.deepEqual(replacementLines(node("Ready"), []), ["n1 is heard: its tasks are what it says, and none is lost"]);
});
