/** What a node says of itself when its journal is full, and when its clock is off: what `berth status` makes findings of. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { fromBinary, isFieldSet, toBinary } from "@bufbuild/protobuf";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { ManualClock, StatusError } from "@berth/base";
import { leaseEndpoint } from "@berth/bus";
import { journalMigrations, openJournal, type Journal } from "@berth/journal";
import { temporaryMetadata } from "@berth/metadata/testing";
import { LeaseRequestSchema, type LeaseRequest } from "@berth/proto";
import { NodeStatus, type NodeFacts } from "./node-status.ts";

const clock = new ManualClock();
const facts: NodeFacts = {
  config: { node: "n1", labels: {}, capacity: {} },
  disk: () => ({ totalBytes: 100, availableBytes: 50 }),
  bootId: "boot",
  machineId: "machine",
  instance: "instance",
  version: "test",
  handlers: [],
  snapshotters: [],
  address: () => "",
  clock,
};
const status = new NodeStatus(facts);

function said(journal: Pick<Journal, "isFull" | "epoch" | "head">): LeaseRequest {
  const news = { storeEpoch: "", appliedRevision: 0, takenRevision: 0, stopperProblem: undefined };
  const { facts, news: told } = status.describe({
    ...news,
    journalEpoch: journal.epoch,
    journalHeadSeq: journal.head(),
    journalFull: journal.isFull(),
  });
  return fromBinary(LeaseRequestSchema, Buffer.concat([facts, toBinary(LeaseRequestSchema, told)]));
}

void test("NodeStatus says JournalFull from when new work is refused until the controller has stored what waits", async () => {
  await using metadata = await temporaryMetadata([...journalMigrations]);
  await using journal = await openJournal({ metadata, clock }, { node: "n1", identity: "m", maxEntries: 20 });
  const condition = () => said(journal).conditions.find(({ type }) => type === "JournalFull")!;
  const append = () => journal.append([{ kind: "test", payload: Buffer.from("x"), newWork: true }]);
  assert.equal(condition().status, "False");
  await assert.rejects(
    async () => {
      for (let entry = 0; entry < 40; entry += 1) await append();
    },
    (error) => error instanceof StatusError && error.reason === "JOURNAL_FULL",
  );
  const { status: full, reason, message } = condition();
  assert.deepEqual([full, reason], ["True", "ControllerAway"]);
  assert.match(message, /too much waits to be stored by the controller: new work is refused/);
  await journal.acknowledge(journal.epoch, journal.head());
  assert.equal(condition().status, "False");
  await append();
});

void test("NodeStatus tells by its own clock when it asked, so that the controller sees one that is off", async () => {
  await using metadata = await temporaryMetadata([...journalMigrations]);
  await using journal = await openJournal({ metadata, clock }, { node: "n1", identity: "m" });
  const before = timestampMs(said(journal).sentAt!);
  clock.advance(600_000);
  assert.equal(timestampMs(said(journal).sentAt!) - before, 600_000);
});

void test("NodeStatus encodes its facts anew only when one of them has changed, and news of it are never among them", () => {
  const disk = { totalBytes: 1_000_000, availableBytes: 500_000 };
  const changing = new NodeStatus({ ...facts, disk: () => disk });
  const news = {
    journalEpoch: "e1",
    journalHeadSeq: 1,
    journalFull: false,
    storeEpoch: "s1",
    appliedRevision: 1,
    takenRevision: 1,
    stopperProblem: undefined,
  };
  const first = changing.describe(news).facts;
  const told = new Set(leaseEndpoint.news.filter((name) => isFieldSet(fromBinary(LeaseRequestSchema, first), fieldOf(name)))); // prettier-ignore
  assert.deepEqual([...told], []);
  clock.advance(60_000);
  disk.availableBytes -= 10;
  const later = { ...news, journalHeadSeq: 9, storeEpoch: "s2", appliedRevision: 7, takenRevision: 8 };
  assert.equal(changing.describe(later).facts, first, "less than a tenth of a percent of the disk is no change");
  disk.availableBytes = 50_000;
  const low = changing.describe(later).facts;
  assert.notEqual(low, first);
  assert.equal(
    fromBinary(LeaseRequestSchema, low).conditions.find(({ type }) => type === "DiskPressure")?.status,
    "True",
  );
  assert.equal(changing.describe(later).facts, low);
  assert.notEqual(changing.describe({ ...later, journalEpoch: "e2" }).facts, low);
});

const fieldOf = (name: (typeof leaseEndpoint.news)[number]) => LeaseRequestSchema.field[name];
