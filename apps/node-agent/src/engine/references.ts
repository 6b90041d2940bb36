/**
 * What this host's containers and campaigns hold on to, for collection: container objects of every door, with their snapshots
 * and images; images of tasks that are still to start; images that campaigns want here.
 */
import type { ImageReferences } from "@berth/images";
import type { Metadata, SqlRow } from "@berth/metadata";

export async function imageReferences(metadata: Pick<Metadata, "all">): Promise<ImageReferences> {
  const containers = metadata.all("SELECT namespace, id, image, snapshotter, snapshot_key, labels FROM containers");
  const tasks = metadata.all(
    `SELECT namespace, name, json_extract(plan, '$.image') AS image FROM executions
      WHERE (state <> 'removed' OR cleaned = 0) AND desired = 'run' AND plan IS NOT NULL`,
  );
  const campaigns = metadata.all(
    "SELECT namespace, image, campaign_uid FROM image_assignments WHERE desired = 'present'",
  );
  return {
    snapshots: [],
    containers: containers.map((row) => ({
      namespace: text(row, "namespace"),
      id: text(row, "id"),
      image: text(row, "image"),
      snapshotter: text(row, "snapshotter"),
      snapshotKey: text(row, "snapshot_key"),
      labels: JSON.parse(text(row, "labels")) as Record<string, string>,
    })),
    images: [
      ...tasks.filter((row) => row["image"] !== null).map((row) => image(row, `used by task "${text(row, "name")}"`)),
      ...campaigns.map((row) => image(row, `wanted by campaign ${text(row, "campaign_uid")}`)),
    ],
  };
}

function image(row: SqlRow, reason: string): { namespace: string; name: string; reason: string } {
  return { namespace: text(row, "namespace"), name: text(row, "image"), reason };
}

function text(row: SqlRow, column: string): string {
  return String(row[column]);
}
