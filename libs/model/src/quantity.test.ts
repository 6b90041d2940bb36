import assert from "node:assert/strict";
import { test } from "node:test";
import * as fc from "fast-check";
import { formatCpu, formatMemory, parseCpu, parseDisk, parseMemory } from "./quantity.ts";

test("parseCpu reads cores and millis", () => {
  const cases = { "500m": 500, "2": 2000, "0.5": 500, "1.25": 1250, "0": 0, "1500m": 1500 };
  for (const [text, millis] of Object.entries(cases)) assert.equal(parseCpu(text), millis, text);
});

test("parseCpu refuses what is not a number of cores and says how to write it", () => {
  for (const text of ["", "half", "-1", "1.2345", "1.5m", "5M", "1e3", " 1", "99999999999"]) {
    assert.throws(() => parseCpu(text), { code: "INVALID_ARGUMENT", reason: "QUANTITY_INVALID" }, text);
  }
  assert.throws(() => parseCpu("half"), /quantity "half" is not a number of cores; write 500m/);
});

test("parseMemory reads binary, decimal and plain bytes", () => {
  const cases = {
    "64Mi": 2 ** 26,
    "1Gi": 2 ** 30,
    "500M": 5e8,
    "1024": 1024,
    "1.5Gi": 1.5 * 2 ** 30,
    "2k": 2000,
    "0": 0,
  };
  for (const [text, bytes] of Object.entries(cases)) assert.equal(parseMemory(text), bytes, text);
});

test("parseMemory refuses and hints", () => {
  for (const text of ["", "64MB", "64 Mi", "-1", "0.3", "99999P", "1e9"]) {
    assert.throws(() => parseMemory(text), { reason: "QUANTITY_INVALID" }, text);
  }
  assert.throws(() => parseMemory("64m"), /m means thousandths/);
  assert.throws(() => parseMemory("64MB"), /without the B: M/);
});

test("parseDisk reads as parseMemory does, and refuses what no container fits in", () => {
  assert.equal(parseDisk("1Mi"), 2 ** 20);
  for (const text of ["0", "1000k", "1048575"]) assert.throws(() => parseDisk(text), /is less than 1Mi/, text);
  assert.throws(() => parseDisk("64MB"), /without the B: M/);
});

test("formatCpu and formatMemory give back what parses to the same amount", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 1_000_000_000 }), fc.maxSafeNat(), (millis, bytes) => {
      assert.equal(parseCpu(formatCpu(millis)), millis);
      assert.equal(parseMemory(formatMemory(bytes)), bytes);
    }),
  );
  assert.equal(formatMemory(64 * 2 ** 20), "64Mi");
  assert.equal(formatCpu(2000), "2");
});
