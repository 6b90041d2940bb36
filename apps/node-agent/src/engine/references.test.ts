import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { openMetadata, type Statement } from "@berth/metadata";
import { engineMigrations } from "./migrations.ts";
import { imageReferences } from "./references.ts";

function execution(uid: string, state: string, cleaned: number, desired: string, image?: string): Statement {
  const plan = image === undefined ? null : JSON.stringify({ image });
  return {
    sql: `INSERT INTO executions (task_uid, generation, attempt, namespace, name, desired, state, cleaned, store_epoch,
      revision, plan, boot_id, changed_at_ms) VALUES (?, 1, 0, 'shop', ?, ?, ?, ?, '', 0, ?, '', 0)`,
    params: [uid, uid, desired, state, cleaned, plan],
  };
}

function assignment(image: string, desired: string): Statement {
  return {
    sql: "INSERT INTO image_assignments VALUES ('', 'shop', ?, 'c1', 1, 0, ?, 'present', 'overlayfs', '', 0)",
    params: [image, desired],
  };
}

test("imageReferences names containers, images of tasks that have something here, and of campaigns", async (t) => {
  const folder = await mkdtemp(join(tmpdir(), "berth-references-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  await using metadata = await openMetadata({ path: join(folder, "metadata.db"), migrations: engineMigrations });
  await metadata.transact([
    {
      sql: `INSERT INTO containers VALUES ('shop', 'web', 'ctr', 'app:1', 'overlayfs', 'runc', 'rootfs', '{}', '{"a":"b"}', 0)`,
    },
    execution("waits", "accepted", 0, "run", "waits:1"),
    execution("ended", "exited", 0, "run", "ended:1"),
    execution("stopped", "exited", 0, "stop", "stopped:1"),
    execution("gone", "removed", 1, "run", "gone:1"),
    execution("tombstone", "removed", 1, "stop"),
    assignment("wanted:1", "present"),
    assignment("unwanted:1", "absent"),
  ]);
  const { containers, images } = await imageReferences(metadata);
  assert.deepEqual(containers, [
    {
      namespace: "shop",
      id: "web",
      image: "app:1",
      snapshotter: "overlayfs",
      snapshotKey: "rootfs",
      labels: { a: "b" },
    },
  ]);
  const reasons = new Map(images?.map(({ name, reason }) => [name, reason]));
  assert.deepEqual([...reasons.keys()].sort(), ["ended:1", "waits:1", "wanted:1"]);
  assert.equal(reasons.get("waits:1"), 'used by task "waits"');
  assert.equal(reasons.get("wanted:1"), "wanted by campaign c1");
});
