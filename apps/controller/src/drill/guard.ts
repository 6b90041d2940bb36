/** What a drill is refused for, before anything happens. Pure: each refusal names the field and the way out. */
import { StatusError } from "@berth/base";

export interface GuardedNode {
  readonly name: string;
  readonly phase: string;
  readonly draining: boolean;
}

export interface DrillTerms {
  readonly selector: string;
  readonly durationMs: number;
  /** 0: the default. */
  readonly maxNodes: number;
  /** It has a duration. */
  readonly lasts: boolean;
}

const SHORTEST_MS = 5_000;
const LONGEST_MS = 600_000;
const DEFAULT_MAX_NODES = 1;

/** @throws INVALID_ARGUMENT `FIELD_INVALID`; FAILED_PRECONDITION `DRILL_REFUSED` */
export function guardDrill(terms: DrillTerms, chosen: readonly GuardedNode[], readyNodes: number): void {
  guardTerms(terms);
  const { selector, maxNodes } = terms;
  if (chosen.length === 0) throw wrong("selector", `matches no node: \`berth nodes -o wide\` shows their labels`);
  const most = maxNodes === 0 ? DEFAULT_MAX_NODES : maxNodes;
  if (chosen.length > most) {
    const names = chosen.slice(0, 3).map(({ name }) => name).join(", "); // prettier-ignore
    throw wrong(
      "maxNodes",
      `${selector} matches ${chosen.length} nodes (${names}${chosen.length > 3 ? ", …" : ""}), at most ${most} may be hit: choose fewer, or raise --max-nodes`,
    );
  }
  for (const { name, phase, draining } of chosen) {
    if (phase !== "Ready") throw refused(`node ${name} is ${phase}: wait until it is Ready, or select others`);
    if (draining) throw refused(`node ${name} is being drained: berth uncordon ${name}, or select others`);
  }
  if (chosen.length * 2 > readyNodes) {
    throw wrong(
      "selector",
      `matches ${chosen.length} of ${readyNodes} Ready nodes: a drill may hit no more than half of them; choose fewer`,
    );
  }
}

/** What can be said without looking at the fleet. */
function guardTerms({ selector, durationMs, maxNodes, lasts }: DrillTerms): void {
  if (selector.trim() === "") throw wrong("selector", "is required: say which nodes by labels, such as zone=z1");
  if (!lasts && durationMs !== 0) throw wrong("duration", "is none of a kill's: it lasts until the agent is back");
  if (lasts && (durationMs < SHORTEST_MS || durationMs > LONGEST_MS)) {
    throw wrong("duration", `is ${durationMs / 1_000} s: choose from 5s to 10m (--for)`);
  }
  if (maxNodes < 0) throw wrong("maxNodes", "is negative: leave it out, or say how many nodes may be hit");
}

function wrong(field: string, description: string): StatusError {
  return StatusError.invalid([{ field, description }]);
}

function refused(message: string): StatusError {
  return new StatusError("FAILED_PRECONDITION", `selector: ${message}`, { reason: "DRILL_REFUSED" });
}
