/** `berth wait`: until a workload runs as its spec says, or a job has ended. */
import { parseDurationMs } from "../output/units.ts";
import type { Session } from "../session.ts";
import { followRollout } from "./rollout.ts";

export async function wait(session: Session, target: string, options: { readonly timeout: string }): Promise<void> {
  const timeoutMs = parseDurationMs(options.timeout, "--timeout");
  const name = target.replace(/^(workloads?|wl)\//, "");
  await followRollout(session, session.namespace(), name, timeoutMs);
}
