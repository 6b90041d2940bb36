/**
 * The brakes on replacing what silent nodes run (flow C). Pure.
 *
 *  1. A node is due some time after it fell silent: the others' leases may be about to run out, too.
 *  2. Nothing is evicted while more than half of the fleet fell silent together: it is rather we who are cut off. They stay held
 *     until they are back, or until an operator forgets them.
 *  3. The same of each failure domain (the values of one node label) for its own nodes.
 *  4. Of those that are left, so many a minute at the most, in the order in which they fell silent.
 *
 * All follows from the rows, so every controller comes to the same answer, also after a restart.
 */
export interface EvictionConfig {
  /** How long a node is silent before its tasks are replaced. */
  readonly evictAfterMs: number;
  /** Nodes that fall silent within so long of each other fell silent together. */
  readonly evictWindowMs: number;
  /** How many nodes a minute; the larger of this and one in a hundred of the fleet. */
  readonly evictPerMinute: number;
  /** The node label whose values are failure domains. */
  readonly domainLabel: string;
}

/** Why a silent node's tasks are not replaced though it is due. */
export type EvictionHold = "MostOfFleetSilent" | "MostOfDomainSilent" | "RateLimited";

export interface SilentNode {
  readonly name: string;
  readonly silentSince: Date | null;
  readonly phase: string;
  readonly effectiveLabels: Readonly<Record<string, string>>;
}

export type EvictionVerdict =
  /** `at`: from then on. */
  | { readonly evict: true; readonly at: Date }
  | { readonly evict: false; readonly at: Date; readonly hold: "RateLimited" | undefined }
  | { readonly evict: false; readonly at: undefined; readonly hold: EvictionHold };

/** Fewer than this are no domain: a host alone in its zone is lost like any other. All of a fleet are a fleet, even one. */
const LEAST_OF_DOMAIN = 3;
const MINUTE_MS = 60_000;

/** For each silent node. */
export function evictionVerdicts(
  rows: readonly SilentNode[],
  config: EvictionConfig,
  now: Date,
): ReadonlyMap<string, EvictionVerdict> {
  const verdicts = new Map<string, EvictionVerdict>();
  const silent = rows
    .filter((row) => row.phase === "Unknown" && row.silentSince !== null)
    .sort((a, b) => a.silentSince!.getTime() - b.silentSince!.getTime() || (a.name < b.name ? -1 : 1));
  if (silent.length === 0) return verdicts;
  const { domainLabel, evictAfterMs, evictWindowMs } = config;
  const fleetHeld = isMostSilent(rows, evictWindowMs);
  const domains = Map.groupBy(rows, (row) => row.effectiveLabels[domainLabel] ?? "");
  const domainHeld = new Map([...domains].map(([domain, nodes]) => [domain, domain !== "" && nodes.length >= LEAST_OF_DOMAIN && isMostSilent(nodes, evictWindowMs)])); // prettier-ignore
  const perMinute = Math.max(config.evictPerMinute, Math.ceil(rows.length / 100));
  const times: number[] = [];
  for (const { name, silentSince, effectiveLabels } of silent) {
    const hold = fleetHeld
      ? "MostOfFleetSilent"
      : domainHeld.get(effectiveLabels[domainLabel] ?? "") === true
        ? "MostOfDomainSilent"
        : undefined;
    if (hold !== undefined) {
      verdicts.set(name, { evict: false, at: undefined, hold });
      continue;
    }
    const dueMs = silentSince!.getTime() + evictAfterMs;
    const before = times.at(-perMinute);
    const atMs = before === undefined ? dueMs : Math.max(dueMs, before + MINUTE_MS);
    times.push(atMs);
    const at = new Date(atMs);
    if (atMs <= now.getTime()) verdicts.set(name, { evict: true, at });
    else verdicts.set(name, { evict: false, at, hold: dueMs <= now.getTime() ? "RateLimited" : undefined });
  }
  return verdicts;
}

/** Did more than half of them fall silent together, and are still? */
function isMostSilent(rows: readonly SilentNode[], windowMs: number): boolean {
  const times = rows
    .flatMap((row) => (row.phase === "Unknown" && row.silentSince !== null ? [row.silentSince.getTime()] : []))
    .sort((a, b) => a - b);
  let first = 0;
  for (const [index, time] of times.entries()) {
    while (time - times[first]! > windowMs) first += 1;
    if ((index - first + 1) * 2 > rows.length) return true;
  }
  return false;
}
