/** An upgrade of the nodes' agents that does not go on. Pure. */
import type { Finding } from "@berth/proto";
import type { UpgradeRow } from "@berth/store";
import { finding, sinceOf } from "./finding.ts";

/** Of the newest: what came before it is history. */
export function upgradeFindings({ upgrade }: { readonly upgrade: UpgradeRow | undefined }): Finding[] {
  if (upgrade?.phase !== "Stopped" && upgrade?.phase !== "Paused") return [];
  const subject = `upgrade/${upgrade.id}`;
  const hint = "berth upgrade status";
  if (upgrade.phase === "Stopped") {
    const { message, finishedAt } = upgrade;
    return [finding({ area: "stuck", reason: "UpgradeStopped", subject, message, hint, ...sinceOf(finishedAt) })];
  }
  const message = "is paused: no further node is upgraded until berth upgrade resume";
  return [finding({ area: "held", reason: "UpgradePaused", subject, message, hint })];
}
