/** What a node says of itself when its journal is full, and when its clock is off: what `berth status` makes findings of. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { timestampMs } from "@bufbuild/protobuf/wkt";
import { ManualClock, StatusError } from "@berth/base";
import { journalMigrations, openJournal, type Journal } from "@berth/journal";
import { temporaryMetadata } from "@berth/metadata/testing";
import { NodeStatus } from "./node-status.ts";

const clock = new ManualClock();
const status = new NodeStatus({
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
});

function said(journal: Pick<Journal, "isFull" | "epoch" | "head">) {
  const news = { storeEpoch: "", appliedRevision: 0, takenRevision: 0, stopperProblem: undefined };
  return status.describe({
    ...news,
    journalEpoch: journal.epoch,
    journalHeadSeq: journal.head(),
    journalFull: journal.isFull(),
  });
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
