import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { digestOf } from "@berth/base";
import { chainIds } from "./chain-id.ts";

test("chainIds of no layers is empty, and of one layer is its diff id", () => {
  assert.deepEqual(chainIds([]), []);
  assert.deepEqual(chainIds([digestOf("a")]), [digestOf("a")]);
});

test("chainIds hashes the chain below and the diff id, joined by a space", () => {
  const [a, b, c] = [digestOf("a"), digestOf("b"), digestOf("c")];
  const sha = (text: string): string => `sha256:${createHash("sha256").update(text).digest("hex")}`;
  const second = sha(`${a} ${b}`);
  assert.deepEqual(chainIds([a, b, c]), [a, second, sha(`${second} ${c}`)]);
});

test("chainIds tells the same layer at another place apart", () => {
  const [a, b] = [digestOf("a"), digestOf("b")];
  assert.notEqual(chainIds([a, b])[1], chainIds([b, a])[1]);
});
