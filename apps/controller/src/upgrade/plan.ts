/**
 * What is next of an upgrade, from what is stored of it and of the fleet. Pure.
 *
 * Nodes are ordered group after group: a group is begun when nothing of the one before is under way, no more nodes than allowed
 * failed to keep the version, and the bake time is over. Whatever stops it stops what is begun, never what is under way.
 */
import { durationMs } from "@bufbuild/protobuf/wkt";
import type { UpgradeSpec } from "@berth/proto";
import { NOT_KEPT, UNDER_WAY, type UpgradeNodeRow, type UpgradeNodeUpdate, type UpgradeRow } from "@berth/store";

const DEFAULT_TIMEOUT_MS = 60_000;
/** Beyond the node's own deadline: fetching, and the old version's start. */
const SLACK_MS = 300_000;

export interface UpgradeScene {
  readonly row: UpgradeRow;
  readonly spec: UpgradeSpec;
  /** By group, then by name. */
  readonly nodes: readonly UpgradeNodeRow[];
  /** By name, those that there are. */
  readonly phases: ReadonlyMap<string, string>;
  readonly now: Date;
}

export interface UpgradePlan {
  readonly upgrade: Partial<Pick<UpgradeRow, "phase" | "message" | "bakedGroup" | "bakingUntil" | "finishedAt">>;
  readonly nodes: readonly UpgradeNodeUpdate[];
}

export function planUpgrade(scene: UpgradeScene): UpgradePlan {
  const { row, nodes } = scene;
  const late = nodes.filter(({ phase }) => UNDER_WAY.has(phase)).flatMap((node) => lateNode(scene, node));
  const settled = withUpdates(nodes, late);
  if (row.phase !== "Running" || settled.some(({ phase }) => UNDER_WAY.has(phase))) return { upgrade: {}, nodes: late };
  const { upgrade, nodes: begun } = afterGroup(scene, settled);
  return { upgrade, nodes: [...late, ...begun] };
}

/** Nothing is under way. */
function afterGroup(scene: UpgradeScene, nodes: readonly UpgradeNodeRow[]): UpgradePlan {
  const { row, spec, now } = scene;
  const waiting = nodes.filter(({ phase }) => phase === "Waiting");
  const failed = nodes.filter(({ phase }) => NOT_KEPT.has(phase));
  const over = failed.length - row.acceptedFailures > spec.maxFailures;
  const next = waiting[0];
  if (next === undefined) {
    const upgrade = { phase: over ? "Stopped" : "Completed", message: outcome(nodes), finishedAt: now };
    return { upgrade, nodes: [] };
  }
  if (over) {
    const message = `${keptNot(failed)}: ${waiting.length} nodes are not begun`;
    return { upgrade: { phase: "Stopped", message, finishedAt: now }, nodes: [] };
  }
  const bakeMs = spec.bake === undefined ? 0 : durationMs(spec.bake);
  const before = next.group - 1;
  if (bakeMs > 0 && before > row.bakedGroup)
    return { upgrade: { bakedGroup: before, bakingUntil: new Date(now.getTime() + bakeMs) }, nodes: [] };
  if (row.bakingUntil !== null && now < row.bakingUntil) return { upgrade: {}, nodes: [] };
  const group = waiting.filter(({ group: each }) => each === next.group);
  return { upgrade: { bakingUntil: null }, nodes: group.map((node) => begin(scene, node)) };
}

function begin({ phases, now }: UpgradeScene, { node }: UpgradeNodeRow): UpgradeNodeUpdate {
  const phase = phases.get(node);
  if (phase === undefined || phase === "Unknown") {
    const message = phase === undefined ? "it is no longer there" : "it was silent when it was its turn";
    return { node, phase: "Skipped", message, finishedAt: now };
  }
  return { node, phase: "Ordered", message: "", orderedAt: now };
}

function lateNode({ spec, now }: UpgradeScene, { node, orderedAt }: UpgradeNodeRow): UpgradeNodeUpdate[] {
  const timeoutMs = spec.timeout === undefined ? DEFAULT_TIMEOUT_MS : durationMs(spec.timeout);
  if (orderedAt === null || now.getTime() - orderedAt.getTime() < timeoutMs + SLACK_MS) return [];
  const message = `it did not say in time what came of it; see berth describe node ${node}`;
  return [{ node, phase: "Silent", message, finishedAt: now }];
}

function withUpdates(
  nodes: readonly UpgradeNodeRow[],
  updates: readonly UpgradeNodeUpdate[],
): readonly UpgradeNodeRow[] {
  const byNode = new Map(updates.map((update) => [update.node, update]));
  return nodes.map((row) => ({ ...row, phase: byNode.get(row.node)?.phase ?? row.phase }));
}

function outcome(nodes: readonly UpgradeNodeRow[]): string {
  const failed = nodes.filter(({ phase }) => NOT_KEPT.has(phase));
  const skipped = nodes.filter(({ phase }) => phase === "Skipped");
  const proven = nodes.length - failed.length - skipped.length;
  return [
    `${proven} of ${nodes.length} nodes upgraded`,
    ...(failed.length === 0 ? [] : [keptNot(failed)]),
    ...(skipped.length === 0 ? [] : [`${skipped.length} skipped (${named(skipped)})`]),
  ].join("; ");
}

const keptNot = (nodes: readonly UpgradeNodeRow[]): string =>
  `${nodes.length} nodes did not keep the version (${named(nodes)})`;

const MOST_NAMED = 5;

function named(nodes: readonly UpgradeNodeRow[]): string {
  const names = nodes.slice(0, MOST_NAMED).map(({ node }) => node);
  return [...names, ...(nodes.length > MOST_NAMED ? ["…"] : [])].join(", ");
}
