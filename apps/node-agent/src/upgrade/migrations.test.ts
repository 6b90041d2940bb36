/** An upgrade of the agent can be taken back only if the version before can go on with the metadata that the new one has migrated. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { AGENT_MIGRATIONS } from "../host.ts";

/** Of versions before upgrades could be taken back. */
const FIRST = [
  "content-0001-blobs",
  "content-0002-ingest-leases",
  "engine-0001-containers",
  "engine-0002-registry-mirrors",
  "engine-0003-shared-file",
  "engine-0004-health",
  "images-0001-images",
  "images-0002-collection",
  "images-0010-verification",
  "journal-0001-journal",
  "journal-0002-by-node",
  "journal-0003-chain",
  "network-0001-attachments",
  "snapshots-0001-snapshots",
  "snapshots-0002-refs",
];

void test("every step of the agent's metadata since then only adds", () => {
  const names = AGENT_MIGRATIONS.map(({ name }) => name);
  assert.deepEqual(FIRST.filter((name) => !names.includes(name)), []); // prettier-ignore
  const taking = AGENT_MIGRATIONS.filter(({ name, additive }) => !FIRST.includes(name) && additive !== true);
  assert.deepEqual(taking.map(({ name }) => name), []); // prettier-ignore
});
