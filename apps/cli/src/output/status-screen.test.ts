import assert from "node:assert/strict";
import { test } from "node:test";
import { stripVTControlCharacters } from "node:util";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import { createPaint, visibleWidth } from "@berth/base/terminal";
import { FleetStatusSchema, type FleetStatus } from "@berth/proto";
import { statusScreen } from "./status-screen.ts";

const NOW_MS = Date.UTC(2026, 0, 1, 12, 0, 0);
const plain = createPaint({ isTTY: false }, {});
const coloured = createPaint({ isTTY: false }, { FORCE_COLOR: "1" });
const ago = (seconds: number) => timestampFromMs(NOW_MS - seconds * 1_000);

type Init = Exclude<MessageInitShape<typeof FleetStatusSchema>, FleetStatus>;

const fleet = (more: Init = {}): FleetStatus =>
  create(FleetStatusSchema, {
    verdict: "healthy",
    at: timestampFromMs(NOW_MS),
    version: "0.1.0",
    nodes: { total: 3, ready: 3 },
    tasks: { total: 41, running: 40, succeeded: 1 },
    workloads: { total: 7, settled: 7 },
    controllers: [{ name: "ctl-1-77", since: ago(7_200), reconcilePartitions: 8, journalShards: 4, otherLocks: 5 }],
    checks: [
      { name: "postgres", ok: true, latencyMs: 1.24 },
      { name: "redis", ok: true, latencyMs: 0.8 },
      { name: "nats", ok: true, latencyMs: 12.4 },
    ],
    freshness: { newestStoredAt: ago(3) },
    ...more,
  });

const troubled = (): FleetStatus =>
  fleet({
    verdict: "attention",
    nodes: { total: 5, ready: 3, unknown: 1, notReady: 1, draining: 1 },
    tasks: { total: 60, running: 40, unreachable: 8, unplaced: 3, restarting: 1, failed: 2, starting: 4, leaving: 2 },
    findings: [
      {
        area: "uncertain",
        reason: "NodeSilent",
        subject: "node/node-3",
        message: "is silent: 8 tasks possibly run",
        since: ago(34),
        until: timestampFromMs(NOW_MS + 5_000),
        hint: "berth describe node node-3",
      },
      {
        area: "stuck",
        reason: "Unplaceable",
        subject: "workload/shop/web",
        message: `3 tasks without a node: 0 of 5 nodes fit: ${Array(12).fill("1 lacks label disk=ssd").join(", ")}`,
      },
    ],
  });

void test("statusScreen of a healthy fleet is seven lines at most", () => {
  assert.deepEqual(statusScreen(fleet(), { paint: plain, columns: 80, wide: false }), [
    "fleet       healthy",
    "nodes       3 of 3 ready",
    "tasks       40 of 40 running   1 succeeded",
    "workloads   7 of 7 as desired",
    "control     1 controller (0.1.0)   postgres 1.2 ms   redis 0.8 ms   nats 12 ms",
    "freshness   last news stored 3s ago   no journal behind",
  ]);
});

void test("statusScreen says what is uncertain until when, what is stuck and why, and what to type next", () => {
  const lines = statusScreen(troubled(), { paint: plain, columns: 80, wide: false });
  assert.equal(lines[0], "fleet       needs attention: 1 uncertain, 1 stuck");
  const text = lines.join("\n");
  assert.match(
    text,
    /\nUNCERTAIN\n {2}node\/node-3\n {4}is silent: 8 tasks possibly run \(until 12:00:05, for 34s\)\n {4}→ berth describe node node-3\n/,
  );
  assert.match(text, /\nSTUCK\n {2}workload\/shop\/web\n {4}3 tasks without a node: /);
});

void test("statusScreen is never wider than the terminal, with colours or without, and breaks no line of a pipe", () => {
  for (const paint of [plain, coloured]) {
    for (const columns of [60, 80, 132]) {
      for (const line of statusScreen(troubled(), { paint, columns, wide: false })) {
        assert.ok(visibleWidth(line) <= columns, `${columns}: ${line}`);
      }
    }
  }
  const options = { columns: 80, wide: false };
  assert.deepEqual(
    statusScreen(troubled(), { ...options, paint: coloured }).map((line) => stripVTControlCharacters(line)),
    statusScreen(troubled(), { ...options, paint: plain }),
  );
  const piped = statusScreen(troubled(), { paint: plain, columns: Number.POSITIVE_INFINITY, wide: false });
  assert.equal(piped.filter((line) => line.includes("disk=ssd")).length, 1);
});

void test("statusScreen names the controllers when asked for more, and servers that are away", () => {
  const away = fleet({ checks: [{ name: "redis", ok: false }] });
  const lines = statusScreen(away, { paint: plain, columns: 100, wide: true });
  assert.ok(lines.includes("control     1 controller (0.1.0)   redis away"));
  assert.ok(
    lines.some((line) => /ctl-1-77 {3}for 2h {3}holds 8 partitions, 4 journal shards, 5 single tasks/.test(line)),
  );
});

/** A thousand nodes in every kind of trouble at once. */
function disaster(): FleetStatus {
  const kinds = [
    ["uncertain", "NodeSilent", 40, "is silent: 8 tasks possibly run"],
    ["stuck", "NodeDiskPressure", 12, "its disk is nearly full: no new tasks are placed on it"],
    [
      "stuck",
      "RolloutFailed",
      2,
      "the rollout of revision 7 has failed (0 of 3 done): no further task became available",
    ],
    ["stuck", "Unplaceable", 1, "3 tasks without a node: 0 of 1000 nodes fit"],
    ["held", "EvictionBraked", 1, "40 of 1000 nodes fell silent together"],
  ] as const;
  const findings = kinds.flatMap(([area, reason, count, message]) =>
    Array.from({ length: count }, (_, n) => ({
      area,
      reason,
      message,
      subject: `${reason.startsWith("Node") ? "node" : "workload/shop"}/x-${String(n).padStart(4, "0")}`,
      since: ago(60 + n),
      hint: "berth describe something",
    })),
  );
  return fleet({ verdict: "attention", findings, nodes: { total: 1_000, ready: 960, unknown: 40 } });
}

void test("statusScreen of a fleet in every trouble is one screen: each kind is there, the rest is counted and named", () => {
  const lines = statusScreen(disaster(), { paint: plain, columns: 80, wide: false });
  assert.ok(lines.length <= 48, `${lines.length} lines:\n${lines.join("\n")}`);
  const text = lines.join("\n");
  for (const word of ["is silent", "nearly full", "rollout of revision 7", "without a node", "fell silent together"]) {
    assert.ok(text.includes(word), word);
  }
  assert.match(lines[0]!, /needs attention: 40 uncertain, 15 stuck, 1 held$/);
  assert.match(text, /\n {2}\+ 37 more NodeSilent: x-0003, x-0004, x-0005, x-0006, …\n/);
  assert.equal(lines.at(-1), "berth status --all tells of every one");
  const all = statusScreen(disaster(), { paint: plain, columns: 80, wide: false, all: true }).join("\n");
  assert.equal(all.match(/is silent/g)?.length, 40);
  assert.ok(!all.includes("more ") && !all.includes("--all"));
});
