/** What is written straight from rows is what protobuf makes of the rows' messages; and what is read straight is what it reads. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { create, toJson, toJsonString, type JsonObject } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { ConditionSchema, EventSchema, TaskSchema } from "@berth/proto";
import fc from "fast-check";
import { eventJson, eventMessage, type EventRow } from "./events.ts";
import { conditionOf } from "./node-message.ts";
import { taskJson, taskMessage } from "./task-message.ts";
import type { TaskRow } from "./task-rows.ts";

/** With the default of each kind often among them: it is what is left out. */
const text = fc.oneof(fc.constant(""), fc.string({ unit: "binary", maxLength: 12 }));
const flag = fc.boolean();
const count = fc.oneof(fc.constant(0), fc.nat(), fc.maxSafeNat());
const int32 = fc.oneof(fc.constant(0), fc.integer());
const time = fc.oneof(
  fc.date({ min: new Date("0001-01-01T00:00:00Z"), max: new Date("9999-12-31T23:59:59Z"), noInvalidDate: true }),
  fc.nat(2_000_000_000).map((seconds) => new Date(seconds * 1_000)),
);
const maybe = <Value>(of: fc.Arbitrary<Value>): fc.Arbitrary<Value | null> => fc.option(of, { nil: null });
const labels = fc.dictionary(fc.string({ maxLength: 8 }), text, { maxKeys: 3, noNullPrototype: true });
const strings = fc.array(text, { maxLength: 3 });
const container = fc.constantFrom<JsonObject>(
  {},
  { image: "busybox" },
  { image: "busybox", command: ["sleep", "1d"], env: [{ name: "A", value: "b" }], resources: { cpu: "250m" }, stop: { grace: "2.500s" } },
); // prettier-ignore

const taskRow = fc.record<TaskRow>({
  uid: text,
  labels,
  generation: count,
  resourceVersion: count,
  createdAt: time,
  deletedAt: maybe(time),
  namespace: text,
  name: text,
  workload: text,
  workloadUid: text,
  workloadGeneration: count,
  slot: int32,
  pinnedNode: maybe(text),
  node: maybe(text),
  nominatedNode: maybe(text),
  decisionId: maybe(count),
  container,
  desired: text,
  fence: flag,
  cpuMillis: count,
  memoryBytes: count,
  hostPorts: strings,
  observedGeneration: count,
  attempt: int32,
  phase: fc.constantFrom("Pending", "Running", "Stopped", "Failed"),
  reason: text,
  message: text,
  certainty: fc.constantFrom("observed", "unreachable", "fenced", "unknown"),
  possiblyUntil: maybe(time),
  exitCode: maybe(int32),
  oomKilled: flag,
  startedAt: maybe(time),
  finishedAt: maybe(time),
  addresses: strings,
  restarts: int32,
  imageDigest: text,
  nextAttemptAt: maybe(time),
  beginsAgain: text,
  holdsSlot: flag,
  removed: flag,
  health: text,
  availableSince: maybe(time),
  failures: int32,
});

void test("taskJson is the JSON form of taskMessage, whatever the row", () => {
  fc.assert(
    fc.property(taskRow, (row) => {
      assert.deepEqual(written(taskJson(row)), toJson(TaskSchema, taskMessage(row)));
    }),
    { numRuns: 300 },
  );
});

const eventRow = fc.record<EventRow>({
  id: count,
  xid: text,
  namespace: text,
  time,
  topic: text,
  kind: text,
  name: text,
  uid: text,
  node: text,
  severity: text,
  reason: text,
  message: text,
  attributes: labels,
  journalEpoch: maybe(text),
  journalSeq: maybe(count),
  storedAt: time,
});

void test("eventJson is written as the text that protobuf makes of eventMessage, whatever the row", () => {
  fc.assert(
    fc.property(eventRow, (row) => {
      assert.equal(JSON.stringify(eventJson(row)), toJsonString(EventSchema, eventMessage(row)));
    }),
    { numRuns: 300 },
  );
});

const condition = fc.record({
  type: text,
  status: text,
  reason: text,
  message: text,
  changedAt: fc.option(time.map(timestampFromDate), { nil: undefined }),
});

void test("conditionOf reads a condition as protobuf does", () => {
  fc.assert(
    fc.property(condition, ({ changedAt, ...texts }) => {
      const message = create(ConditionSchema, { ...texts, ...(changedAt && { changedAt }) });
      assert.deepEqual(conditionOf(toJson(ConditionSchema, message) as JsonObject), message);
    }),
    { numRuns: 300 },
  );
});

const written = (json: object): unknown => JSON.parse(JSON.stringify(json));
