/** Requests in two parts: whatever is read that way is what decoding the whole gives, and nobody gets another's facts. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { create, fromBinary, toBinary, type MessageInitShape } from "@bufbuild/protobuf";
import { ManualClock } from "@berth/base";
import { LeaseRequestSchema, type LeaseRequest } from "@berth/proto";
import * as fc from "fast-check";
import { FactsReader } from "./facts-and-news.ts";
import { leaseEndpoint } from "./subjects.ts";

type Init = Exclude<MessageInitShape<typeof LeaseRequestSchema>, LeaseRequest>;

const encode = (init: Init): Uint8Array => toBinary(LeaseRequestSchema, create(LeaseRequestSchema, init));
const decode = (bytes: Uint8Array): LeaseRequest => fromBinary(LeaseRequestSchema, bytes);
const joined = (facts: Init, news: Init): Uint8Array => Buffer.concat([encode(facts), encode(news)]);

interface Lab {
  readonly reader: FactsReader<typeof LeaseRequestSchema, { readonly of: string }>;
  /** How often facts were looked at: not, when they are as they were. */
  readonly looks: number;
}

function lab(options: ConstructorParameters<typeof FactsReader>[1] = {}): Lab {
  let looks = 0;
  const factsOf = ({ node, instance }: LeaseRequest): { readonly of: string } => {
    looks += 1;
    return { of: `${node} ${instance}` };
  };
  const reader = new FactsReader({ schema: leaseEndpoint.request, news: leaseEndpoint.news, factsOf }, options);
  return {
    reader,
    get looks() {
      return looks;
    },
  };
}

const int64 = fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n });
const factsArbitrary: fc.Arbitrary<Init> = fc.record(
  {
    node: fc.string(),
    bootId: fc.string(),
    instance: fc.string(),
    agentVersion: fc.string(),
    labels: fc.dictionary(fc.string(), fc.string(), { maxKeys: 3 }),
    capacity: fc.record({ cpuMillis: int64, memoryBytes: int64, tasks: fc.nat(), diskBytes: int64 }),
    runtimeHandlers: fc.array(fc.string(), { maxLength: 3 }),
    conditions: fc.array(fc.record({ type: fc.string(), status: fc.string(), message: fc.string() }), { maxLength: 3 }),
    journalEpoch: fc.string(),
    kernelVersion: fc.string(),
    address: fc.string(),
    machineId: fc.string(),
  },
  { requiredKeys: [] },
);
const newsArbitrary: fc.Arbitrary<Init> = fc.record(
  {
    journalHeadSeq: int64,
    storeEpoch: fc.string(),
    appliedRevision: int64,
    takenRevision: int64,
    sentAt: fc.record({ seconds: int64, nanos: fc.nat(999_999_999) }),
  },
  { requiredKeys: [] },
);

void test("FactsReader reads what decoding the whole gives, whoever sends what in which order", () => {
  const request = fc.record({
    sender: fc.constantFrom("a", "b"),
    facts: fc.nat(2),
    news: newsArbitrary,
    how: fc.constantFrom("in two parts", "by field number", "news first"),
  });
  const scenario = fc.tuple(fc.array(factsArbitrary, { minLength: 3, maxLength: 3 }), fc.array(request));
  fc.assert(
    fc.property(scenario, ([variants, requests]) => {
      const { reader } = lab();
      for (const { sender, facts: index, news, how } of requests) {
        const facts = variants[index]!;
        const payload = {
          "in two parts": joined(facts, news),
          "by field number": encode({ ...facts, ...news }),
          "news first": joined(news, facts),
        }[how];
        const read = reader.read(sender, payload);
        assert.deepEqual(read.message, decode(payload));
        assert.equal(read.facts.of, `${facts.node ?? ""} ${facts.instance ?? ""}`);
      }
    }),
    { numRuns: 200 },
  );
});

const facts = { node: "a", instance: "one", labels: { disk: "ssd" }, conditions: [{ type: "Ready", status: "True" }] };

void test("FactsReader looks at the same facts once, in two parts; each time, from an agent that knows nothing of parts", () => {
  const parts = lab();
  const first = parts.reader.read("a", joined(facts, { journalHeadSeq: 1n, storeEpoch: "s" }));
  const next = parts.reader.read("a", joined(facts, { journalHeadSeq: 2n, storeEpoch: "s" }));
  assert.deepEqual([parts.looks, next.facts === first.facts, next.message.journalHeadSeq], [1, true, 2n]);
  const silent = parts.reader.read("a", encode(facts));
  assert.deepEqual([parts.looks, silent.message.journalHeadSeq, silent.message.sentAt], [1, 0n, undefined]);

  const older = lab();
  const whole = { ...facts, kernelVersion: "6.1", journalHeadSeq: 1n };
  for (let time = 0; time < 3; time += 1) assert.deepEqual(older.reader.read("a", encode(whole)).message, decode(encode(whole))); // prettier-ignore
  assert.equal(older.looks, 3);
});

void test("FactsReader takes no other node's facts, and none that changed (D8)", () => {
  const { reader } = lab();
  const of = (node: string, more: Init): string => reader.read(node, joined({ ...facts, ...more }, {})).facts.of;
  assert.deepEqual([of("a", {}), of("b", { node: "b" })], ["a one", "b one"]);
  // What "b" says of itself in the words of "a" is for the handler to refuse: it is read as it was said.
  assert.equal(of("b", {}), "a one");
  assert.equal(of("a", { instance: "two" }), "a two");
  assert.equal(of("a", { instance: "tw" }), "a tw");
});

void test("FactsReader decodes the whole when a fact, or what it does not know, stands behind the facts that it knows", () => {
  const { reader } = lab();
  const known = encode(facts);
  reader.read("a", Buffer.concat([known, encode({ journalHeadSeq: 1n })]));
  const unknownField = Buffer.from([0xf8, 0x7f, 0x01]);
  const behind: Record<string, Uint8Array> = {
    "another name": encode({ node: "b" }),
    "an empty instance": Buffer.from([0x1a, 0x00]),
    "one more condition": encode({ conditions: [{ type: "DiskPressure" }] }),
    "a fact behind news": joined({ journalHeadSeq: 2n }, { instance: "two" }),
    "an unknown field": unknownField,
    "news of another wire type": Buffer.from([0x5d, 1, 0, 0, 0]),
  };
  for (const [what, bytes] of Object.entries(behind)) {
    const payload = Buffer.concat([known, bytes]);
    const outcome = attempt(() => reader.read("a", payload).message);
    assert.deepEqual(outcome, attempt(() => decode(payload)), what); // prettier-ignore
    // Nothing of it sticks to what was known.
    assert.deepEqual(reader.read("a", known).message, decode(known), what);
  }
});

void test("FactsReader fails as decoding does, at any byte where a request is cut or spoilt, and gives nothing of before", () => {
  const payload = joined(facts, { journalHeadSeq: 300n, storeEpoch: "store", sentAt: { seconds: 1_700_000_000n } });
  for (let at = 0; at < payload.length; at += 1) {
    for (const spoilt of [payload.subarray(0, at), flipped(payload, at)]) {
      const { reader } = lab();
      reader.read("a", payload);
      const given = attempt(() => reader.read("a", spoilt).message);
      assert.deepEqual(given, attempt(() => decode(spoilt)), `at ${at}`); // prettier-ignore
      const remembered = attempt(() => reader.read("a", spoilt).message);
      assert.deepEqual(remembered, given, `again, at ${at}`);
      assert.deepEqual(reader.read("a", payload).message, decode(payload), `after it, at ${at}`);
    }
  }
});

void test("FactsReader keeps a copy: the bytes of a request are the socket's again when it is answered", () => {
  const { reader } = lab();
  const [one, two] = ["one", "two"].map((instance) => encode({ ...facts, instance }));
  const received = new Uint8Array(one!);
  reader.read("a", received);
  received.set(two!);
  assert.equal(reader.read("a", two!).facts.of, "a two");
});

void test("FactsReader forgets nodes that are gone, and keeps nothing too large", () => {
  const clock = new ManualClock();
  const here = lab({ clock, keepMs: 1_000 });
  here.reader.read("a", encode(facts));
  clock.advance(3_000);
  here.reader.read("a", encode(facts));
  assert.equal(here.looks, 2);
  const large = lab();
  for (let time = 0; time < 2; time += 1) large.reader.read("a", encode({ ...facts, address: "x".repeat(70_000) }));
  assert.equal(large.looks, 2);
});

/** A message, or that there is none. */
function attempt(read: () => LeaseRequest): unknown {
  try {
    return read();
  } catch (error) {
    return (error as Error).message;
  }
}

function flipped(bytes: Uint8Array, at: number): Uint8Array {
  const copy = new Uint8Array(bytes);
  copy[at]! ^= 0x15;
  return copy;
}
