/** What `berth status` would say of a test fleet. */
import type { Finding } from "@berth/proto";
import { eventually } from "@berth/testkit/servers";
import { findingsOf } from "../status/findings.ts";
import { readFleet } from "../status/readings.ts";
import { EVICTION, LEASE, type TestFleet } from "./test-fleet.ts";

const GOOD = [{ name: "postgres", ok: true, message: "", latencyMs: 1 }];

export async function findings(fleet: TestFleet, checks = GOOD, eviction = EVICTION): Promise<Finding[]> {
  const terms = { ttlMs: LEASE.ttlMs, slackMs: LEASE.fenceSlackMs };
  const readings = await fleet.store.snapshot((tx) => readFleet(tx, terms));
  return findingsOf({ ...readings, checks, eviction, now: new Date() });
}

export async function found(fleet: TestFleet, reason: string, subject?: string): Promise<Finding> {
  return await eventually(
    `a finding ${reason}`,
    async () => {
      const all = await findings(fleet);
      const it = all.find((each) => each.reason === reason && (subject ?? each.subject) === each.subject);
      return it ?? Promise.reject(new Error(all.map((each) => `${each.reason} ${each.subject}`).join()));
    },
    { timeoutMs: 15_000 },
  );
}
