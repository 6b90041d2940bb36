/**
 * How long leases last, by the size of the fleet. Pure.
 *
 * Renewals cost the controllers and Postgres work in proportion to the nodes; beyond a set rate they are made rarer, and leases
 * longer in proportion, so that as many renewals as before may be lost until a lease runs out. Agents are told in each reply.
 */
export interface LeaseTerms {
  readonly ttlMs: number;
  readonly renewMs: number;
}

export function leaseTerms(least: LeaseTerms, nodes: number, maxRenewalsPerSecond: number): LeaseTerms {
  const renewMs = Math.max(least.renewMs, Math.ceil((nodes * 1_000) / maxRenewalsPerSecond));
  return { renewMs, ttlMs: Math.ceil((renewMs / least.renewMs) * least.ttlMs) };
}
