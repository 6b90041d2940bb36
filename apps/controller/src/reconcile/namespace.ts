/** A namespace that goes away takes all that it owns with it, from the top: workloads and campaigns first, then itself. */
import {
  campaignsToDelete,
  insertEvents,
  lockNamespace,
  namespaceIsEmpty,
  removeCronJobsOf,
  removeNamespace,
  removeWebhooksOf,
  updateCampaign,
  updateWorkload,
  workloadsToDelete,
  type Tx,
} from "@berth/store";

/** True when the namespace is gone, or stays. */
export async function reconcileNamespace(tx: Tx, name: string): Promise<void> {
  const row = await lockNamespace(tx, name);
  if (row === undefined || row.deletedAt === null) return;
  const deletedAt = new Date();
  await removeCronJobsOf(tx, name);
  await removeWebhooksOf(tx, name);
  for (const workload of await workloadsToDelete(tx, name)) await updateWorkload(tx, workload, { deletedAt });
  for (const campaign of await campaignsToDelete(tx, name)) await updateCampaign(tx, campaign, { deletedAt });
  if (!(await namespaceIsEmpty(tx, name))) return;
  await removeNamespace(tx, row);
  await insertEvents(tx, [{ topic: "/namespaces/delete", kind: "Namespace", name, uid: row.uid, reason: "Deleted" }]);
}
