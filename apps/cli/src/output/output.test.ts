import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { NodeSchema, TaskSchema } from "@berth/proto";
import { createPaint } from "@berth/base/terminal";
import { nodeColumns, replaceable, taskStatus } from "./columns.ts";
import { diffLines, formatHunks } from "./line-diff.ts";
import { formatAge, parseDurationMs } from "./units.ts";

const plain = createPaint({ isTTY: false }, {});

void test("taskStatus and replaceable tell a fenced task from one that possibly runs", () => {
  const at = (certainty: string, verdict: string) =>
    create(TaskSchema, {
      status: { phase: "Running", certainty, replacement: { verdict, at: timestampFromMs(5_000), why: "" } },
    });
  assert.deepEqual(
    [taskStatus(at("fenced", "safe")), replaceable(at("fenced", "safe"))],
    ["Fenced (was Running)", "yes"],
  );
  assert.equal(replaceable(at("unreachable", "later")), "at 00:00:05");
  assert.equal(replaceable(at("observed", "unsafe")), "no");
});

void test("taskStatus shows an unreachable task as unknown, with its last phase, and never as failed", () => {
  const task = create(TaskSchema, {
    status: { phase: "Running", certainty: "unreachable", possiblyUntil: timestampFromMs(0) },
  });
  assert.equal(taskStatus(task), "Unknown (was Running, until 00:00:00)");
});

void test("nodeColumns tell when what a silent node ran may be replaced", () => {
  const replaceableAt = (phase: string, untilMs: number | undefined, unboundedTasks: number): string => {
    const fencedUntil = untilMs === undefined ? {} : { fencedUntil: timestampFromMs(untilMs) };
    const node = create(NodeSchema, { status: { phase, unboundedTasks, ...fencedUntil } });
    return nodeColumns(() => 10_000)
      .find(({ heading }) => heading === "REPLACEABLE")!
      .cell(node);
  };
  assert.equal(replaceableAt("Ready", undefined, 0), "-");
  assert.equal(replaceableAt("Unknown", undefined, 0), "yes");
  assert.equal(replaceableAt("Unknown", 15_000, 0), "at 00:00:15");
  assert.equal(replaceableAt("Unknown", 15_000, 2), "at 00:00:15, 2 no");
  assert.equal(replaceableAt("Unknown", 5_000, 1), "yes, 1 no");
});

void test("taskStatus shows a running task's health unless it is well", () => {
  const shown = ["", "healthy", "starting", "unhealthy"].map((health) =>
    taskStatus(create(TaskSchema, { status: { phase: "Running", certainty: "observed", health } })),
  );
  assert.deepEqual(shown, ["Running", "Running", "Running, starting", "Running, unhealthy"]);
});

void test("formatAge knows no time", () => {
  assert.equal(formatAge(undefined, 0), "-");
  assert.equal(formatAge(timestampFromMs(0), 90_000), "90s");
});

void test("parseDurationMs reads sums of units and names the option when it cannot", () => {
  assert.equal(parseDurationMs("1h30m", "--timeout"), 5_400_000);
  for (const wrong of ["", "5", "5x", "m5", "1h 5m"])
    assert.throws(() => parseDurationMs(wrong, "--timeout"), /--timeout/);
});

void test("diffLines turns one text into the other and keeps what is common", () => {
  const lines = fc.array(fc.constantFrom("a", "b", "c", "d"), { maxLength: 12 });
  fc.assert(
    fc.property(lines, lines, (before, after) => {
      const diff = diffLines(before, after);
      assert.deepEqual(
        diff.filter((line) => line.mark !== "+").map((line) => line.text),
        before,
      );
      assert.deepEqual(
        diff.filter((line) => line.mark !== "-").map((line) => line.text),
        after,
      );
    }),
  );
});

void test("formatHunks is empty without changes", () => {
  assert.equal(formatHunks(diffLines(["a"], ["a"]), plain), "");
  assert.equal(formatHunks(diffLines(["a"], ["b"]), plain), "- a\n+ b\n");
});

void test("nodeColumns name conditions that are not as they should be, whichever way they are well", () => {
  const column = nodeColumns(() => 0).find(({ heading }) => heading === "CONDITIONS")!;
  const cell = (...conditions: readonly (readonly [type: string, status: string])[]): string =>
    column.cell(create(NodeSchema, { status: { conditions: conditions.map(([type, status]) => ({ type, status })) } }));
  assert.equal(cell(["Ready", "True"], ["Stopper", "True"], ["LeaseHeld", "True"], ["DiskPressure", "False"]), "-");
  assert.equal(cell(["Ready", "False"], ["Stopper", "False"], ["LeaseHeld", "False"], ["DiskPressure", "True"]), "NotReady,NoStopper,Silent,DiskPressure"); // prettier-ignore
});
