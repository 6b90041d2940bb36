/**
 * Disruption budgets: how many more tasks of a workload an operator may take down. Pure.
 *
 * Invariant: whoever takes down no more than {@link DisruptionBudget.left} keeps the workload within its budget, whatever
 * else of it is down already, and for whatever reason.
 */
import { StatusError } from "@berth/base";

/** `2`, or `25%`. */
export type CountOrPercent = { readonly count: number } | { readonly percent: number };

/** @throws INVALID_ARGUMENT that says how to write it */
export function parseCountOrPercent(text: string): CountOrPercent {
  const match = /^(\d{1,5})(%?)$/.exec(text);
  const value = Number(match?.[1]);
  if (match === null || (match[2] === "%" && value > 100)) {
    const message = `${JSON.stringify(text)} is neither a number such as "2" nor a share such as "25%"`;
    throw new StatusError("INVALID_ARGUMENT", message, { reason: "SHARE_INVALID" });
  }
  return match[2] === "%" ? { percent: value } : { count: value };
}

/** Of so many; shares are rounded up, so that a share of a small workload is not none of it. */
export function shareOf(text: string, total: number): number {
  const parsed = parseCountOrPercent(text);
  return "count" in parsed ? parsed.count : Math.ceil((parsed.percent * total) / 100);
}

export interface DisruptionRule {
  /** Empty: not given. */
  readonly maxUnavailable: string;
  readonly minAvailable: string;
}

export interface DisruptionBudget {
  /** How many may be down. */
  readonly allowed: number;
  /** How many are. */
  readonly down: number;
  /** How many more may be taken down. */
  readonly left: number;
}

/** @param wanted how many tasks the workload should have; @param up how many of them run and are heard of */
export function disruptionBudget(rule: DisruptionRule, wanted: number, up: number): DisruptionBudget {
  const allowed =
    rule.minAvailable === ""
      ? Math.min(wanted, shareOf(rule.maxUnavailable || "1", wanted))
      : Math.max(0, wanted - shareOf(rule.minAvailable, wanted));
  const down = Math.max(0, wanted - up);
  return { allowed, down, left: Math.max(0, allowed - down) };
}
