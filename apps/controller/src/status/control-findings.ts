/** The control plane itself: servers away, nobody at work, jobs and journals that fall behind, a store that was put back. Pure. */
import type { Finding } from "@berth/proto";
import { waitText } from "../restore/release.ts";
import { counted, finding, sinceOf, type FindingsInput } from "./finding.ts";

/** Entries that are on their way are no news; these have been for too long. */
const JOURNAL_BEHIND_MS = 10_000;
const OUTBOX_BEHIND_MS = 10_000;

export function controlFindings(input: FindingsInput): Finding[] {
  const { checks, meta, controllers, lags, backlog, now } = input;
  const out = checks.filter(({ ok }) => !ok).map(({ name, message }) => {
    return finding({ area: "control", reason: "ServerAway", subject: name, message: `cannot be reached: ${message}` });
  }); // prettier-ignore
  if (!meta.stopsConfirmed) {
    const message = "was put back from a copy: nothing is stopped for being absent until an operator confirms it";
    const hint = `berth store confirm ${meta.storeEpoch}`;
    out.push(finding({ area: "control", reason: "StoreRestored", subject: "store", message, hint }));
  }
  out.push(...holdFindings(input));
  if (controllers.length === 0) {
    const message = "no controller takes part in the work: nothing is reconciled, placed or stored";
    out.push(finding({ area: "control", reason: "NobodyWorks", subject: "controllers", message }));
  }
  const { outbox, oldestOutboxAt } = backlog;
  if (oldestOutboxAt !== undefined && now.getTime() - oldestOutboxAt.getTime() > OUTBOX_BEHIND_MS) {
    const message = `${counted(outbox, "job")} wait to be put into the nodes' queues: is Redis well?`;
    const about = { area: "control", reason: "DispatchBehind", subject: "dispatch" } as const;
    out.push(finding({ ...about, message, count: outbox, ...sinceOf(oldestOutboxAt) }));
  }
  const behind = lags.filter(({ storedAt }) => {
    return storedAt === undefined || now.getTime() - storedAt.getTime() > JOURNAL_BEHIND_MS;
  });
  for (const { node, lag, storedAt } of behind.slice(0, MOST_JOURNALS)) {
    const message = `its journal is ${counted(lag, "entry", "entries")} ahead of what is stored: what is shown of it is old`;
    const about = { area: "uncertain", reason: "JournalBehind", subject: `node/${node}` } as const;
    out.push(finding({ ...about, message, count: lag, ...sinceOf(storedAt), hint: `berth describe node ${node}` }));
  }
  return out;
}

const MOST_JOURNALS = 10;

/** What a store that was put back waits for before it begins again what must never run twice. */
function holdFindings({ meta, holdWaits }: FindingsInput): Finding[] {
  if (!meta.held) return [];
  const nodes = holdWaits.filter(({ node }) => node !== "");
  const named = nodes.slice(0, MOST_WAITS).map(waitText);
  const more = nodes.length > named.length ? `; ${nodes.length - named.length} more` : "";
  const unknown = holdWaits.filter(({ node }) => node === "").map(waitText);
  const what = [...named, ...unknown].join("; ") + more;
  const waits = what === "" ? "it is released as soon as it is confirmed" : `it waits: ${what}`;
  const message = `was put back from a copy: no stopThenReplace task is begun yet; ${waits}`;
  const silent = nodes.filter((wait) => wait.silent).map(({ node }) => node);
  const hint =
    silent.length === 0
      ? "berth store status"
      : `berth store release ${meta.storeEpoch} ${silent.join(" ")} (hosts that are off for good)`;
  const about = { area: "held", reason: "StoreHeld", subject: "store" } as const;
  return [finding({ ...about, message, hint, count: nodes.length, ...sinceOf(meta.restoredAt) })];
}

const MOST_WAITS = 3;
