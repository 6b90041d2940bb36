import assert from "node:assert/strict";
import { test } from "node:test";
import { hasCode } from "@berth/base";
import { parseCommand } from "./args.ts";

test("parseCommand knows its options", () => {
  assert.deepEqual(parseCommand([]), { kind: "run", configFile: undefined });
  assert.deepEqual(parseCommand(["--config", "a.yaml"]), { kind: "run", configFile: "a.yaml" });
  assert.deepEqual(parseCommand(["--config=a.yaml"]), { kind: "run", configFile: "a.yaml" });
  assert.deepEqual(parseCommand(["-h"]), { kind: "help" });
  assert.deepEqual(parseCommand(["--version"]), { kind: "version" });
});

test("parseCommand says what is wrong and what may be meant", () => {
  const says = (argv: string[], pattern: RegExp): void =>
    assert.throws(
      () => parseCommand(argv),
      (error) => hasCode(error, "INVALID_ARGUMENT") && pattern.test(error.message),
    );
  says(["--confg", "x"], /unknown option --confg; did you mean "--config"\?/);
  says(["start"], /unexpected argument "start"/);
  says(["--config"], /--config/);
});
