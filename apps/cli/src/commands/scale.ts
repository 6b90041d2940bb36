/** `berth scale`. */
import { WorkloadService } from "@berth/proto";
import { parseDurationMs } from "../output/units.ts";
import type { Session } from "../session.ts";
import { waitForWorkload } from "../wait.ts";
import { parseCount } from "./arguments.ts";

export async function scale(
  session: Session,
  workload: string,
  replicas: string,
  options: { readonly wait?: boolean; readonly timeout: string },
): Promise<void> {
  const timeoutMs = parseDurationMs(options.timeout, "--timeout");
  const name = workload.replace(/^(workload|wl)\//, "");
  const client = session.client(WorkloadService);
  await client.scaleWorkload({ namespace: session.namespace(), name, replicas: parseCount(replicas, "replicas") });
  session.out(`workload/${name} ${session.paint.green("scaled")} to ${replicas}`);
  if (options.wait === true) await waitForWorkload(session, session.namespace(), name, timeoutMs);
}
