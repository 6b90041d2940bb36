import assert from "node:assert/strict";
import { test } from "node:test";
import { UsageError } from "../exit-code.ts";
import { createDetachFilter, parseDetachKeys } from "./detach-keys.ts";

test("parseDetachKeys takes control and plain keys, and names what it does not", () => {
  assert.deepEqual(parseDetachKeys("ctrl-p,ctrl-q"), [16, 17]);
  assert.deepEqual(parseDetachKeys("ctrl-],x"), [29, 120]);
  assert.throws(() => parseDetachKeys("ctrl-p,escape"), UsageError);
  assert.throws(() => parseDetachKeys(""), UsageError);
});

test("createDetachFilter finds the sequence however it is cut, and passes everything else on", () => {
  let detached = 0;
  const filter = createDetachFilter([16, 17], () => (detached += 1));
  const typed = (...keys: number[]): number[] | undefined => {
    const passed = filter(Buffer.from(keys));
    return passed === undefined ? undefined : [...passed];
  };
  assert.deepEqual(typed(97, 98), [97, 98]);
  assert.deepEqual(typed(16), []);
  assert.deepEqual(typed(97), [16, 97], "ctrl-p alone is the program's");
  assert.deepEqual(typed(16, 16), [16]);
  assert.equal(detached, 0);
  assert.equal(typed(17), undefined);
  assert.equal(detached, 1);
});
