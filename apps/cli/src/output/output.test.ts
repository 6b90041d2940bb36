import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { timestampFromMs } from "@bufbuild/protobuf/wkt";
import fc from "fast-check";
import { TaskSchema } from "@berth/proto";
import { taskStatus } from "./columns.ts";
import { diffLines, formatHunks } from "./line-diff.ts";
import { createPaint, visibleWidth } from "./paint.ts";
import { createTable, formatTable } from "./table.ts";
import { formatAge, formatBytes, formatSeconds, parseDurationMs } from "./units.ts";

const plain = createPaint({ isTTY: false }, {});

void test("formatTable aligns by what is visible and leaves wide columns out", () => {
  const paint = createPaint({ isTTY: true }, {});
  const columns = [
    { heading: "NAME", cell: (row: string[]) => paint.green(row[0]!) },
    { heading: "N", cell: (row: string[]) => row[1]! },
    { heading: "MORE", cell: (row: string[]) => row[2]!, wide: true },
  ];
  const lines = formatTable(
    columns,
    [
      ["a-long-name", "1", "x"],
      ["b", "22", "y"],
    ],
    { wide: false },
  )
    .trimEnd()
    .split("\n");
  assert.equal(lines[0], "NAME          N");
  assert.equal(visibleWidth(lines[2]!), "b".length + 10 + 3 + 2);
  assert.ok(formatTable(columns, [["a", "1", "x"]], { wide: true }).includes("MORE"));
});

void test("createTable prints its heading once", () => {
  const table = createTable([{ heading: "A", cell: (row: string) => row }], { wide: false });
  assert.equal(table.format(["1"]) + table.format(["2"]), "A\n1\n2\n");
});

void test("createPaint honours NO_COLOR, dumb terminals and pipes", () => {
  assert.equal(createPaint({ isTTY: true }, { NO_COLOR: "1" }).enabled, false);
  assert.equal(createPaint({ isTTY: true }, { TERM: "dumb" }).enabled, false);
  assert.equal(createPaint({}, {}).enabled, false);
  assert.equal(createPaint({ isTTY: true }, { TERM: "xterm" }).enabled, true);
});

void test("taskStatus shows an unreachable task as unknown, with its last phase, and never as failed", () => {
  const task = create(TaskSchema, {
    status: { phase: "Running", certainty: "unreachable", possiblyUntil: timestampFromMs(0) },
  });
  assert.equal(taskStatus(task), "Unknown (was Running, until 00:00:00)");
});

void test("formatAge and formatSeconds round down to two units", () => {
  assert.equal(formatAge(undefined, 0), "-");
  assert.deepEqual([5, 119, 190, 3600, 7500, 200_000, 1_000_000].map(formatSeconds), [
    "5s",
    "119s",
    "3m10s",
    "60m",
    "2h5m",
    "2d7h",
    "11d",
  ]);
});

void test("formatBytes uses binary units", () => {
  assert.deepEqual(
    [0, 1023, 1536, 20 * 1024 * 1024].map((n) => formatBytes(n)),
    ["0 B", "1023 B", "1.5 KiB", "20 MiB"],
  );
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
