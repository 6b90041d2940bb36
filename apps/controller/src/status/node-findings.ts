/**
 * Nodes that need somebody: silent ones and the brakes that keep their tasks, names that two agents claim, what the agents say
 * of their hosts, drains that do not go on. Pure.
 */
import type { JsonObject } from "@bufbuild/protobuf";
import type { Finding } from "@berth/proto";
import { drainStatusOf, type NodeRow, type Trouble } from "@berth/store";
import { isConflictOver } from "../lease/decide.ts";
import { evictionVerdicts, type EvictionHold, type EvictionVerdict } from "../reconcile/eviction.ts";
import { counted, finding, sinceOf, untilOf, type FindingInit, type FindingsInput } from "./finding.ts";

export function nodeFindings(input: FindingsInput): Finding[] {
  const { nodes, now } = input;
  return [
    ...nodes.filter(isSilent).map((row) => silentFinding(row, input)),
    ...nodes.flatMap((row) => (row.conflict === null || isConflictOver(row, now) ? [] : [conflictFinding(row)])),
    ...nodes.filter((row) => row.phase === "NotReady").map(notReadyFinding),
    ...nodes.filter((row) => row.phase === "Ready").flatMap(conditionFindings),
  ];
}

const isSilent = (row: NodeRow): boolean => row.phase === "Unknown";

/** One for each brake that holds (of a failure domain's: for each domain), not one for each node. */
export function brakeFindings({ nodes, eviction, now }: FindingsInput): Finding[] {
  const verdicts = evictionVerdicts(nodes, eviction, now);
  const held = (hold: EvictionHold): NodeRow[] =>
    nodes.filter(({ name }) => {
      const verdict = verdicts.get(name);
      return verdict?.evict === false && verdict.hold === hold;
    });
  const domains = Map.groupBy(held("MostOfDomainSilent"), (row) => row.effectiveLabels[eviction.domainLabel] ?? "");
  return [
    ...fleetBrake(held("MostOfFleetSilent"), nodes.length),
    ...[...domains].map(([domain, rows]) => domainBrake(domain, rows, nodes, eviction.domainLabel)),
    ...rateBrake(held("RateLimited"), verdicts),
  ];
}

const WAY_OUT = "hosts that are off for good: berth delete node NAME";

function fleetBrake(rows: readonly NodeRow[], total: number): Finding[] {
  if (rows.length === 0) return [];
  const message = `${rows.length} of ${total} nodes fell silent together: nothing is replaced until they are back; ${WAY_OUT}`;
  return [brake(rows, { reason: "EvictionBraked", subject: "evictions", message, hint: "berth nodes" })];
}

function domainBrake(domain: string, rows: readonly NodeRow[], nodes: readonly NodeRow[], label: string): Finding {
  const total = nodes.filter((row) => row.effectiveLabels[label] === domain).length;
  const subject = `domain/${label}=${domain}`;
  const message = `${rows.length} of its ${total} nodes fell silent together: nothing of them is replaced until they are back; ${WAY_OUT}`;
  return brake(rows, { reason: "DomainBraked", subject, message, hint: `berth nodes -l ${label}=${domain}` });
}

function rateBrake(rows: readonly NodeRow[], verdicts: ReadonlyMap<string, EvictionVerdict>): Finding[] {
  if (rows.length === 0) return [];
  const last = Math.max(...rows.map(({ name }) => verdicts.get(name)?.at?.getTime() ?? 0));
  const message = `${counted(rows.length, "silent node waits", "silent nodes wait")} for a turn to have the tasks replaced: so many nodes a minute may`;
  const hint = "berth nodes";
  return [brake(rows, { reason: "EvictionRate", subject: "evictions", message, hint, ...untilOf(new Date(last)) })];
}

function brake(rows: readonly NodeRow[], init: FindingInit): Finding {
  const times = rows.flatMap(({ silentSince }) => (silentSince === null ? [] : [silentSince.getTime()]));
  const since = times.length === 0 ? undefined : new Date(Math.min(...times));
  return finding({ ...init, area: "held", count: rows.length, ...sinceOf(since) });
}

function silentFinding(row: NodeRow, { unreachable, now }: FindingsInput): Finding {
  const groups = unreachable.filter(({ node }) => node === row.name);
  const count = groups.reduce((sum, group) => sum + group.count, 0);
  const untils = groups.flatMap(({ until }) => (until === undefined ? [] : [until.getTime()]));
  const until = untils.length === groups.length && untils.length > 0 ? new Date(Math.max(...untils)) : undefined;
  const known = until === undefined ? " until it is heard" : until > now ? "" : " no more: they are fenced";
  return finding({
    area: "uncertain",
    reason: "NodeSilent",
    subject: `node/${row.name}`,
    message:
      count === 0
        ? "is silent; nothing possibly runs there"
        : `is silent: ${counted(count, "task")} possibly run${count === 1 ? "s" : ""}${known}`,
    count,
    ...sinceOf(row.silentSince),
    ...untilOf(until),
    hint: `berth describe node ${row.name}`,
  });
}

function conflictFinding({ name, conflict }: NodeRow): Finding {
  const { address, message, since, at } = conflict!;
  return finding({
    area: "stuck",
    reason: "NodeIdentity",
    subject: `node/${name}`,
    message: `an agent at ${address || "an unknown address"} is refused: ${message}`,
    count: 1,
    ...sinceOf(new Date(since ?? at)),
    hint: `berth describe node ${name}`,
  });
}

/** Those that are well when they are True. */
const GOOD_CONDITIONS = new Set(["Ready", "Stopper"]);

interface Said {
  readonly type: string;
  readonly message: string;
  readonly since: Date | undefined;
}

/** What the agent says is wrong. */
function troublesOf({ conditions }: NodeRow): Said[] {
  return conditions.flatMap((condition: JsonObject): Said[] => {
    const word = (key: string): string => (typeof condition[key] === "string" ? condition[key] : "");
    const well = GOOD_CONDITIONS.has(word("type")) ? word("status") === "True" : word("status") !== "True";
    if (well) return [];
    const changedAt = word("changedAt");
    const since = changedAt === "" ? undefined : new Date(changedAt);
    return [{ type: word("type"), message: word("message"), since }];
  });
}

function notReadyFinding(row: NodeRow): Finding {
  const [bad] = troublesOf(row);
  const message = bad === undefined ? "its agent says it is not ready" : `${bad.type}: ${bad.message}`;
  const about = { area: "stuck", reason: "NodeNotReady", subject: `node/${row.name}` } as const;
  return finding({ ...about, message, count: 1, ...sinceOf(bad?.since), hint: `berth describe node ${row.name}` });
}

/** What follows for those who use the node, by condition; the agent's own words tell why. */
const CONSEQUENCES: Readonly<Record<string, string>> = {
  DiskPressure: "its disk is nearly full: no new tasks are placed on it",
  JournalFull: "its journal is full: it refuses new work until the controller has stored what waits",
  Stopper: "its stopper does not work: stopThenReplace tasks on it could not be replaced if it fell silent",
  ClockSkew: "its clock is wrong",
};

function conditionFindings(row: NodeRow): Finding[] {
  return troublesOf(row).map(({ type, message, since }) => {
    const what = CONSEQUENCES[type] ?? type;
    return finding({
      area: "stuck",
      reason: `Node${type}`,
      subject: `node/${row.name}`,
      message: message === "" ? what : `${what} (${message})`,
      count: 1,
      ...sinceOf(since),
      hint: `berth describe node ${row.name}`,
    });
  });
}

export function stuckStopFinding({ node, count, since, namespace, name }: Trouble): Finding {
  return finding({
    area: "stuck",
    reason: "StopStuck",
    subject: `node/${node}`,
    message: `${counted(count, "task")} told to stop ${count === 1 ? "is" : "are"} still there`,
    count,
    ...sinceOf(since),
    hint: `berth -n ${namespace} describe task ${name}`,
  });
}

export function drainFindings(row: NodeRow): Finding[] {
  const status = drainStatusOf(row);
  if (status === undefined) return [];
  const { phase, remaining, total, tasks } = status;
  const held = tasks.find(({ state }) => state === "Blocked") ?? (phase === "GaveUp" ? tasks[0] : undefined);
  if (held === undefined) return [];
  const gaveUp = phase === "GaveUp" ? "the drain gave up: " : "the drain is held: ";
  return [
    finding({
      area: "held",
      reason: phase === "GaveUp" ? "DrainGaveUp" : "DrainBlocked",
      subject: `node/${row.name}`,
      message: `${gaveUp}${remaining} of ${total} tasks left; ${held.name}: ${held.message}`,
      count: remaining,
      hint: phase === "GaveUp" ? `berth drain ${row.name}` : `berth drain ${row.name} (follows it)`,
      ...(status.startedAt === undefined ? {} : { since: status.startedAt }),
    }),
  ];
}
