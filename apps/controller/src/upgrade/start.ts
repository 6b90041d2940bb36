/** How an upgrade comes to be, and what its operator may say of it. What then happens: `upgrades.ts`. */
import { create } from "@bufbuild/protobuf";
import { durationMs } from "@bufbuild/protobuf/wkt";
import { hasCode, StatusError } from "@berth/base";
import { UpgradeSpecSchema, type Upgrade, type UpgradeSpec } from "@berth/proto";
import {
  allNodes,
  getUpgrade,
  insertUpgrade,
  listNodes,
  lockUpgrade,
  NOT_KEPT,
  nodesByName,
  storeTime,
  UNDER_WAY,
  updateUpgrade,
  plannedUpgrade,
  upgradeMessage,
  upgradeNodesOf,
  upgradeSpec,
  type NewUpgradeNode,
  type NodeRow,
  type Store,
  type Tx,
  type UpgradeNodeRow,
  type UpgradeRow,
} from "@berth/store";
import { allPages } from "../api/list.ts";
import { notFound } from "../api/refusals.ts";
import { selectorScope } from "../api/scope.ts";
import { groupsOf } from "./groups.ts";
import { tell } from "./upgrades.ts";

const LONGEST_TIMEOUT_MS = 3_600_000;
const LONGEST_BAKE_MS = 7 * 24 * 3_600_000;

/** Nodes that are at the version already have no part in it. */
export async function startUpgrade(store: Store, spec: UpgradeSpec, dryRun: boolean): Promise<Upgrade> {
  checkTimes(spec);
  const rows =
    spec.selector === ""
      ? await allNodes(store.db)
      : await allPages((page) => listNodes(store.db, { ...page, ...selectorScope(spec.selector) }));
  if (rows.length === 0) {
    const description = "matches no node: `berth nodes -o wide` shows their labels";
    throw StatusError.invalid([{ field: "spec.selector", description }]);
  }
  const behind = rows.filter(({ agentVersion }) => agentVersion !== spec.to);
  const nodes = grouped(behind, spec, () => spec.to);
  return await begin(store, spec, nodes, `all ${rows.length} nodes are at ${spec.to} already`, dryRun);
}

/** A new one, in the same groups' sizes, that takes back what this one brought to its version. */
export async function undoUpgrade(store: Store, name: string): Promise<Upgrade> {
  const { row, nodes } = await found(store.db, name);
  const underWay = nodes.filter(({ phase }) => UNDER_WAY.has(phase));
  if (underWay.length > 0) {
    const message = `upgrade ${row.id} has ${underWay.length} nodes under way: berth upgrade pause ${row.id}, and undo it when they have ended`;
    throw new StatusError("FAILED_PRECONDITION", message, { reason: "UPGRADE_UNDER_WAY" });
  }
  const before = new Map(nodes.map(({ node, fromVersion }) => [node, fromVersion]));
  const went = new Map(nodes.map(({ node, toVersion }) => [node, toVersion]));
  const rows = await nodesByName(store.db, nodes.filter(({ phase }) => phase !== "Waiting").map(({ node }) => node)); // prettier-ignore
  const changed = rows.filter(
    ({ name: node, agentVersion }) => agentVersion === went.get(node) && before.get(node) !== went.get(node),
  );
  const { canary, batch, groupBy, maxFailures, timeout } = upgradeSpec(row);
  const spec = create(UpgradeSpecSchema, {
    batch,
    groupBy,
    maxFailures,
    ...(canary === undefined ? {} : { canary }),
    ...(timeout === undefined ? {} : { timeout }),
  });
  if (row.phase !== "Completed" && row.phase !== "Cancelled") await steerUpgrade(store, name, "cancel");
  const planned = grouped(changed, spec, (node) => before.get(node)!);
  return await begin(store, spec, planned, `no node runs what upgrade ${row.id} brought to it`, false);
}

export type Steering = "pause" | "resume" | "cancel";

const FROM: Readonly<Record<Steering, readonly string[]>> = {
  pause: ["Running"],
  resume: ["Paused", "Stopped"],
  cancel: ["Running", "Paused", "Stopped"],
};
const TO = { pause: "Paused", resume: "Running", cancel: "Cancelled" } as const;

/** What is so already is left as it is. @throws FAILED_PRECONDITION `UPGRADE_ENDED`, `UPGRADE_ACTIVE` */
export async function steerUpgrade(store: Store, name: string, steering: Steering): Promise<Upgrade> {
  const { row: seen } = await found(store.db, name);
  const steered = store.transaction(async (tx) => {
    const row = (await lockUpgrade(tx, seen.id))!;
    const nodes = await upgradeNodesOf(tx, row.id);
    if (row.phase === TO[steering]) return upgradeMessage(row, nodes);
    if (!FROM[steering].includes(row.phase)) {
      const message = `upgrade ${row.id} is ${row.phase}: it cannot be ${PAST[steering]}`;
      throw new StatusError("FAILED_PRECONDITION", message, { reason: "UPGRADE_ENDED" });
    }
    const updated = await updateUpgrade(tx, row, {
      phase: TO[steering],
      message: "",
      finishedAt: steering === "cancel" ? await storeTime(tx) : null,
      ...(steering === "resume" ? { acceptedFailures: nodes.filter(({ phase }) => NOT_KEPT.has(phase)).length } : {}),
    });
    await tell(tx, updated, steering === "resume" ? "Resumed" : updated.phase);
    return upgradeMessage(updated, nodes);
  });
  return await steered.catch((error: unknown) => {
    throw activeInstead(error);
  });
}

const PAST = { pause: "paused", resume: "resumed", cancel: "cancelled" } as const;

/** @param name a number, or `-` for the newest */
export async function found(
  tx: Tx,
  name: string,
): Promise<{ readonly row: UpgradeRow; readonly nodes: readonly UpgradeNodeRow[] }> {
  if (name !== "-" && !/^[1-9]\d*$/.test(name)) {
    const description = `${JSON.stringify(name)} is no upgrade's number; \`berth upgrade history\` lists them`;
    throw StatusError.invalid([{ field: "name", description }]);
  }
  const row = await getUpgrade(tx, name === "-" ? undefined : Number(name));
  if (row !== undefined) return { row, nodes: await upgradeNodesOf(tx, row.id) };
  if (name !== "-") throw notFound("upgrade", name);
  throw new StatusError("NOT_FOUND", "there was no upgrade yet; berth upgrade agents --to VERSION starts one", {
    reason: "UPGRADE_NOT_FOUND",
  });
}

function checkTimes({ timeout, bake }: UpgradeSpec): void {
  for (const [field, value, shortestMs, longestMs] of [
    ["spec.timeout", timeout, 1_000, LONGEST_TIMEOUT_MS],
    ["spec.bake", bake, 0, LONGEST_BAKE_MS],
  ] as const) {
    const ms = value === undefined ? shortestMs : durationMs(value);
    if (ms >= shortestMs && ms <= longestMs) continue;
    const description = `is ${ms / 1_000} s: choose from ${shortestMs / 1_000} s to ${longestMs / 3_600_000} h`;
    throw StatusError.invalid([{ field, description }]);
  }
}

function grouped(
  rows: readonly NodeRow[],
  spec: Pick<UpgradeSpec, "canary" | "batch" | "groupBy">,
  toVersion: (node: string) => string,
): NewUpgradeNode[] {
  return groupsOf(rows, spec).flatMap((group, index) =>
    group.map(({ name, agentVersion }) => ({
      node: name,
      group: index + 1,
      fromVersion: agentVersion,
      toVersion: toVersion(name),
    })),
  );
}

async function begin(
  store: Store,
  spec: UpgradeSpec,
  nodes: readonly NewUpgradeNode[],
  nothing: string,
  dryRun: boolean,
): Promise<Upgrade> {
  if (nodes.length === 0) throw new StatusError("FAILED_PRECONDITION", nothing, { reason: "UPGRADE_NOTHING_TO_DO" });
  if (dryRun) return plannedUpgrade(spec, nodes);
  const made = store.transaction(async (tx) => {
    const { row, nodes: rows } = await insertUpgrade(tx, spec, nodes);
    await tell(tx, row, "Started");
    return upgradeMessage(row, rows);
  });
  return await made.catch((error: unknown) => {
    throw activeInstead(error);
  });
}

/** Of those that are Running or Paused there is one. */
function activeInstead(error: unknown): unknown {
  if (!hasCode(error, "ALREADY_EXISTS")) return error;
  const message = "another upgrade is under way or paused: see berth upgrade status; berth upgrade cancel ends it";
  return new StatusError("FAILED_PRECONDITION", message, { reason: "UPGRADE_ACTIVE", cause: error });
}
