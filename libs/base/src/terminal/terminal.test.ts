import assert from "node:assert/strict";
import { test } from "node:test";
import {
  allCommands,
  commandAt,
  commandPath,
  commandTerm,
  createLiveLines,
  createPaint,
  createTable,
  formatBar,
  formatBytes,
  formatSeconds,
  formatTable,
  usageComplaint,
  visibleWidth,
} from "./index.ts";

test("formatTable aligns by what is visible and leaves wide columns out", () => {
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

test("createTable prints its heading once", () => {
  const table = createTable([{ heading: "A", cell: (row: string) => row }], { wide: false });
  assert.equal(table.format(["1"]) + table.format(["2"]), "A\n1\n2\n");
});

test("createPaint honours NO_COLOR, dumb terminals and pipes", () => {
  assert.equal(createPaint({ isTTY: true }, { NO_COLOR: "1" }).enabled, false);
  assert.equal(createPaint({ isTTY: true }, { TERM: "dumb" }).enabled, false);
  assert.equal(createPaint({}, {}).enabled, false);
  assert.equal(createPaint({ isTTY: true }, { TERM: "xterm" }).enabled, true);
});

test("formatSeconds rounds down to two units", () => {
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

test("formatBytes uses binary units", () => {
  assert.deepEqual(
    [0, 1023, 1536, 20 * 1024 * 1024].map((n) => formatBytes(n)),
    ["0 B", "1023 B", "1.5 KiB", "20 MiB"],
  );
});

test("createLiveLines draws over what it drew, and leaves the last state", () => {
  let text = "";
  using live = createLiveLines({ columns: 40, write: (more) => (text += more) });
  live.update(() => ["one", "two"]);
  live.finish();
  assert.equal(text, "\u001b[2Kone\n\u001b[2Ktwo\n\u001b[J");
  live.finish();
  assert.equal(text.split("one").length, 2, "nothing is drawn twice");
});

test("formatBar is as wide as asked for, whatever the share", () => {
  assert.deepEqual(
    [-1, 0, 0.5, 1, 2].map((share) => formatBar(share, 4)),
    ["░░░░", "░░░░", "██░░", "████", "████"],
  );
});

test("command trees are walked, found by path and shown with their arguments", () => {
  interface Node {
    name(): string;
    parent: Node | null;
    commands: Node[];
  }
  const root: Node = { name: () => "berthd", parent: null, commands: [] };
  const images: Node = { name: () => "images", parent: root, commands: [] };
  const ls: Node = { name: () => "ls", parent: images, commands: [] };
  root.commands.push(images);
  images.commands.push(ls);
  assert.deepEqual(allCommands(root).map(commandPath), ["berthd", "berthd images", "berthd images ls"]);
  assert.equal(commandAt(root, ["images", "ls"]), ls);
  assert.equal(commandAt(root, ["ls"]), undefined);
  const path = { name: () => "path", required: true, variadic: false };
  const image = { name: () => "image", required: false, variadic: true };
  assert.equal(commandTerm({ name: () => "export", registeredArguments: [path, image] }), "export <path> [image...]");
});

test("usageComplaint puts the parser's words into one line of ours", () => {
  const said = [
    ["error: unknown command 'lss'\n(Did you mean ls?)\n", 'there is no command "lss"; did you mean ls?\n'],
    [
      "error: unknown option '--outputt'\n(Did you mean one of --output, --out?)",
      "there is no option --outputt; did you mean --output or --out?",
    ],
    ["error: missing required argument 'image'\n", "<image> is missing\n"],
    ["error: required option '-f, --filename <path...>' not specified\n", "-f, --filename <path...> is missing\n"],
    ["error: too many arguments for 'gc'. Expected 0 arguments but got 1: x.\n", "gc takes no arguments: x.\n"],
    [
      "error: too many arguments for 'tag'. Expected 2 arguments but got 3: a, b, c.",
      "tag takes no more than 2: a, b, c.",
    ],
    ["error: what is new to us", "what is new to us"],
  ];
  for (const [given, expected] of said) assert.equal(usageComplaint(given!), expected);
});
