/**
 * The choice of a node by a look at every node: what placement means, in its plainest form. `class-index.ts` answers the same
 * faster, and a property test holds it to this. Also for a task that only one node will do for.
 */
import { compareBest, type Best } from "./class-index.ts";
import { firstMisfit, misfits, staticMisfits, type SpreadFloors } from "./filter.ts";
import type { Candidate } from "./node.ts";
import { scoreParts, type WarmNodes } from "./score.ts";
import type { TaskClass } from "./task-class.ts";

export function bestByLook(cls: TaskClass, candidates: readonly Candidate[], warm: WarmNodes): Best | undefined {
  const floors = floorsByLook(cls, candidates);
  let best: Best | undefined;
  for (const candidate of candidates) {
    if (firstMisfit(misfits(cls, candidate, floors)) !== undefined) continue;
    const one = { candidate, parts: scoreParts(cls, candidate, warm) };
    if (best === undefined || compareBest(one, best) < 0) best = one;
  }
  return best;
}

/** The least count among the domains that have a node which the class might ever use, for each hard spread rule. */
export function floorsByLook(cls: TaskClass, candidates: readonly Candidate[]): SpreadFloors {
  if (!cls.spread.some(({ hard }) => hard)) return cls.spread.map(() => 0);
  const usable = candidates.filter(({ node }) => firstMisfit(staticMisfits(cls, node)) === undefined);
  return cls.spread.map(({ counter, hard }) => {
    if (!hard) return 0;
    return usable.reduce((least, { node }) => Math.min(least, counter.on(node)), Number.POSITIVE_INFINITY);
  });
}
