/**
 * What an operator should look at: every place where the fleet is uncertain, stuck or held, with its subject, the reason, since
 * when, and the command that tells more or ends it. Pure; a few lines of `berth status` each.
 *
 * Invariants:
 *  1. What is unreachable is called uncertain, never failed (D6).
 *  2. One trouble is told once: what a rollout, a job or a brake tells of is not told again of each task or node.
 *
 * To add one: a function in `control-findings.ts`, `node-findings.ts` or `work-findings.ts`, a reading in `readings.ts` where the
 * store has to be asked, a test that gets a fleet into that trouble.
 */
import type { Finding } from "@berth/proto";
import { controlFindings } from "./control-findings.ts";
import type { FindingsInput } from "./finding.ts";
import { brakeFindings, drainFindings, nodeFindings, stuckStopFinding } from "./node-findings.ts";
import { upgradeFindings } from "./upgrade-findings.ts";
import { workFindings } from "./work-findings.ts";
import { webhookFindings } from "./webhook-findings.ts";

/** Worst first: the control plane itself, then what nobody knows, then what does not go on, then what is held on purpose. */
export const AREAS = ["control", "uncertain", "stuck", "held"] as const;

export function findingsOf(input: FindingsInput): Finding[] {
  const found = [
    ...controlFindings(input),
    ...brakeFindings(input),
    ...nodeFindings(input),
    ...workFindings(input),
    ...input.stuckStops.map(stuckStopFinding),
    ...webhookFindings(input),
    ...upgradeFindings(input),
    ...input.nodes.flatMap(drainFindings),
  ];
  return AREAS.flatMap((area) => found.filter((each) => each.area === area));
}
