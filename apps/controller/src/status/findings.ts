/**
 * What an operator should look at: every place where the fleet is uncertain, stuck or held, with its subject, the reason, and
 * the command that tells more. Pure; one line of `berth status` each.
 *
 * Invariant: what is unreachable is called uncertain, never failed (D6).
 */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { FindingSchema, type Finding } from "@berth/proto";
import { drainStatusOf, type NodeRow, type Trouble } from "@berth/store";
import type { CheckResult } from "../http/checks.ts";
import type { FleetReadings } from "./readings.ts";

export interface FindingsInput extends FleetReadings {
  readonly checks: readonly CheckResult[];
  /** Nothing of silent nodes is replaced: most of the fleet fell silent together. */
  readonly braked: boolean;
  readonly now: Date;
}

/** Entries that are on their way are no news; these have been for too long. */
const JOURNAL_BEHIND_MS = 10_000;
const OUTBOX_BEHIND_MS = 10_000;

/** Worst first: the control plane itself, then what nobody knows, then what does not go on, then what is held on purpose. */
export function findingsOf(input: FindingsInput): Finding[] {
  return [
    ...controlFindings(input),
    ...brakeFindings(input),
    ...input.nodes.filter(isSilent).map((row) => silentFinding(row, input)),
    ...input.nodes.filter((row) => row.phase === "NotReady").map(notReadyFinding),
    ...input.unplaceable.map(unplaceableFinding),
    ...input.failing.map(failingFinding),
    ...input.stuckStops.map(stuckStopFinding),
    ...input.nodes.flatMap(drainFindings),
  ];
}

const isSilent = (row: NodeRow): boolean => row.phase === "Unknown";

function controlFindings(input: FindingsInput): Finding[] {
  const { checks, meta, controllers, lags, backlog, now } = input;
  const out = checks.filter(({ ok }) => !ok).map(({ name, message }) => {
    return finding({ area: "control", reason: "ServerAway", subject: name, message: `cannot be reached: ${message}` });
  }); // prettier-ignore
  if (!meta.stopsConfirmed) {
    const message = "was put back from a copy: nothing is stopped for being absent until an operator confirms it";
    const hint = `berth store confirm ${meta.storeEpoch}`;
    out.push(finding({ area: "control", reason: "StoreRestored", subject: "store", message, hint }));
  }
  if (controllers.length === 0) {
    const message = "no controller takes part in the work: nothing is reconciled, placed or stored";
    out.push(finding({ area: "control", reason: "NobodyWorks", subject: "controllers", message }));
  }
  const { outbox, oldestOutboxAt } = backlog;
  if (oldestOutboxAt !== undefined && now.getTime() - oldestOutboxAt.getTime() > OUTBOX_BEHIND_MS) {
    const message = `${counted(outbox, "job")} wait to be put into the nodes' queues: is Redis well?`;
    const since = timestampFromDate(oldestOutboxAt);
    out.push(
      finding({ area: "control", reason: "DispatchBehind", subject: "dispatch", message, count: outbox, since }),
    );
  }
  const behind = lags.filter(({ storedAt }) => {
    return storedAt === undefined || now.getTime() - storedAt.getTime() > JOURNAL_BEHIND_MS;
  });
  for (const { node, lag, storedAt } of behind.slice(0, MOST_JOURNALS)) {
    const since = storedAt === undefined ? {} : { since: timestampFromDate(storedAt) };
    const message = `its journal is ${counted(lag, "entry", "entries")} ahead of what is stored: what is shown of it is old`;
    out.push(
      finding({ area: "uncertain", reason: "JournalBehind", subject: `node/${node}`, message, count: lag, ...since }),
    );
  }
  return out;
}

const MOST_JOURNALS = 10;

function brakeFindings({ braked, nodes }: FindingsInput): Finding[] {
  if (!braked) return [];
  const silent = nodes.filter(isSilent).length;
  const message = `${silent} of ${nodes.length} nodes fell silent together: nothing is replaced until they are back`;
  return [finding({ area: "held", reason: "EvictionBraked", subject: "evictions", message, count: silent })];
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
        ? "is silent; it had no tasks"
        : `is silent: ${counted(count, "task")} possibly run${count === 1 ? "s" : ""}${known}`,
    count,
    ...(row.silentSince === null ? {} : { since: timestampFromDate(row.silentSince) }),
    ...(until === undefined ? {} : { until: timestampFromDate(until) }),
    hint: `berth describe node ${row.name}`,
  });
}

/** Those that are well when they are True. */
const GOOD_CONDITIONS = new Set(["Ready", "Stopper"]);

function notReadyFinding(row: NodeRow): Finding {
  const conditions = row.conditions as { type?: string; status?: string; message?: string }[];
  const [bad] = conditions.filter(({ type, status }) =>
    GOOD_CONDITIONS.has(type ?? "") ? status !== "True" : status === "True",
  );
  const message = bad === undefined ? "its agent says it is not ready" : `${bad.type}: ${bad.message ?? ""}`;
  const hint = `berth describe node ${row.name}`;
  return finding({ area: "stuck", reason: "NodeNotReady", subject: `node/${row.name}`, message, hint });
}

function unplaceableFinding(trouble: Trouble): Finding {
  const { namespace, name, count, message } = trouble;
  return finding({
    ...about(trouble),
    area: "stuck",
    reason: "Unplaceable",
    message: `${counted(count, "task")} without a node: ${message}`,
    hint: `berth -n ${namespace} describe task ${name}`,
  });
}

function failingFinding(trouble: Trouble): Finding {
  const { namespace, name, count, reason, message, failures, forGood } = trouble;
  const pulls = reason === "ImagePullFailed";
  const loops = count === 1 ? "fails again and again" : "fail again and again";
  const what = pulls ? "cannot get the image" : forGood ? "failed for good" : loops;
  const times = failures > 0 ? ` (${failures} in a row)` : "";
  const why = [reason, message].filter((part) => part !== "").join(": ");
  return finding({
    ...about(trouble),
    area: "stuck",
    reason: pulls ? "PullFailing" : forGood ? "Failed" : "CrashLoop",
    message: `${counted(count, "task")} ${what}${times}: ${why}`,
    hint: pulls ? `berth -n ${namespace} describe task ${name}` : `berth -n ${namespace} logs --previous ${name}`,
  });
}

function stuckStopFinding({ node, count, since, namespace, name }: Trouble): Finding {
  return finding({
    area: "stuck",
    reason: "StopStuck",
    subject: `node/${node}`,
    message: `${counted(count, "task")} told to stop ${count === 1 ? "is" : "are"} still there`,
    count,
    ...(since === undefined ? {} : { since: timestampFromDate(since) }),
    hint: `berth -n ${namespace} describe task ${name}`,
  });
}

function drainFindings(row: NodeRow): Finding[] {
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

function about({ namespace, workload, count, since }: Trouble): FindingInit {
  const subject = `workload/${namespace}/${workload}`;
  return { subject, count, ...(since === undefined ? {} : { since: timestampFromDate(since) }) };
}

type FindingInit = Exclude<MessageInitShape<typeof FindingSchema>, Finding>;

function finding(init: FindingInit): Finding {
  return create(FindingSchema, init);
}

function counted(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`;
}
