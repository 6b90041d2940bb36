import assert from "node:assert/strict";
import { test } from "node:test";
import { evictionVerdicts, type EvictionConfig, type SilentNode } from "./eviction.ts";

const NOW = new Date(1_700_000_000_000);
const CONFIG: EvictionConfig = { evictAfterMs: 5_000, evictWindowMs: 60_000, evictPerMinute: 3, domainLabel: "zone" };

const node = (name: string, silentMs: number | null, zone = ""): SilentNode => ({
  name,
  phase: silentMs === null ? "Ready" : "Unknown",
  silentSince: silentMs === null ? null : new Date(NOW.getTime() - silentMs),
  effectiveLabels: zone === "" ? {} : { zone },
});
const heard = (count: number, zone = ""): SilentNode[] =>
  Array.from({ length: count }, (_, n) => node(`h${zone}${n}`, null, zone));
const verdictOf = (name: string, rows: readonly SilentNode[], now = NOW) =>
  evictionVerdicts(rows, CONFIG, now).get(name)!;

void test("evictionVerdicts holds a domain that fell silent for the most part, and evicts elsewhere", () => {
  const rows = [
    ...heard(10, "a"),
    ...heard(1, "b"),
    node("b1", 10_000, "b"),
    node("b2", 11_000, "b"),
    node("a9", 10_000, "a"),
  ];
  assert.deepEqual(verdictOf("b1", rows), { evict: false, at: undefined, hold: "MostOfDomainSilent" });
  assert.equal(verdictOf("a9", rows).evict, true);
  assert.equal(verdictOf("b1", [...heard(10, "a"), ...heard(2, "b"), node("b1", 10_000, "b"), node("b2", 11_000, "b")]).evict, true, "half is not most"); // prettier-ignore
  assert.equal(verdictOf("c1", [...heard(10), node("c1", 10_000, "c"), node("c2", 10_000, "c")]).evict, true, "two are no domain"); // prettier-ignore
});

void test("evictionVerdicts holds everything while most of the fleet fell silent together", () => {
  const rows = [...heard(2), node("x", 10_000), node("y", 10_000), node("z", 12_000)];
  const held = { evict: false, at: undefined, hold: "MostOfFleetSilent" };
  assert.deepEqual(verdictOf("x", rows), held);
  assert.deepEqual(verdictOf("x", [node("x", 60_000)]), held, "the only one");
  assert.deepEqual(verdictOf("x", [node("x", 10_000), node("y", 11_000)]), held, "both of two");
  assert.equal(verdictOf("x", [...heard(1), node("x", 10_000)]).evict, true, "one of two is not most");
});

void test("evictionVerdicts lets so many nodes a minute be evicted, in the order of their silence", () => {
  const silent = Array.from({ length: 7 }, (_, n) => node(`s${n}`, 20_000 - n * 100));
  const rows = [...heard(20), ...silent];
  const allowed = (at: Date): string[] =>
    [...evictionVerdicts(rows, CONFIG, at)].filter(([, verdict]) => verdict.evict).map(([name]) => name);
  assert.deepEqual(allowed(NOW), ["s0", "s1", "s2"]);
  assert.deepEqual(verdictOf("s3", rows), { evict: false, at: new Date(NOW.getTime() + 45_000), hold: "RateLimited" });
  assert.equal(allowed(new Date(NOW.getTime() + 46_000)).length, 6);
  assert.equal(allowed(new Date(NOW.getTime() + 106_000)).length, 7);
  assert.deepEqual(verdictOf("new", [...heard(20), node("new", 1_000)]), { evict: false, at: new Date(NOW.getTime() + 4_000), hold: undefined }); // prettier-ignore
});

void test("evictionVerdicts gives a large fleet one in a hundred of its nodes a minute", () => {
  const silent = Array.from({ length: 30 }, (_, n) => node(`s${n}`, 20_000));
  const verdicts = evictionVerdicts([...heard(970), ...silent], CONFIG, NOW);
  assert.equal([...verdicts.values()].filter(({ evict }) => evict).length, 10);
});
