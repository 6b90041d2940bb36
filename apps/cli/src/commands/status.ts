/** `berth status`: one screen that tells whether the fleet is healthy, what is uncertain, and what is stuck and why. */
import { HealthService } from "@berth/proto";
import { nodeKind, taskKind, workloadKind } from "../kinds.ts";
import { taskStatus } from "../output/columns.ts";
import type { Session } from "../session.ts";
import { isSettled } from "../wait.ts";

const MOST_NAMED = 10;

export async function status(session: Session): Promise<void> {
  const { paint } = session;
  const health = await session.client(HealthService).getHealth({});
  const everywhere = { namespace: "-", selector: "" };
  const [nodes, workloads, tasks] = await Promise.all([
    nodeKind.list(session, everywhere),
    workloadKind.list(session, everywhere),
    taskKind.list(session, everywhere),
  ]);
  const good = (ok: boolean, text: string): string => (ok ? paint.green(text) : paint.yellow(text));
  session.out(`controller  ${good(health.status === "ready", health.status)}  version ${health.version}`);
  for (const check of health.checks) {
    if (!check.ok) session.out(`            ${paint.red(`${check.name}: ${check.message}`)}`);
  }
  if (!health.stopsConfirmed) {
    session.out(
      paint.yellow(`store       restored: nothing is stopped until berth store confirm ${health.storeEpoch}`),
    );
  }
  const ready = nodes.items.filter((node) => node.status?.phase === "Ready").length;
  session.out(`nodes       ${good(ready === nodes.items.length, `${ready} of ${nodes.items.length} ready`)}`);
  const settled = workloads.items.filter(isSettled).length;
  session.out(
    `workloads   ${good(settled === workloads.items.length, `${settled} of ${workloads.items.length} as desired`)}`,
  );
  const running = tasks.items.filter(
    (task) => task.status?.phase === "Running" && task.status.certainty !== "unreachable",
  ).length;
  session.out(`tasks       ${running} running of ${tasks.items.length}`);
  const odd = tasks.items.filter(
    (task) => task.status?.certainty === "unreachable" || ["Pending", "Failed"].includes(task.status?.phase ?? ""),
  );
  for (const task of odd.slice(0, MOST_NAMED)) {
    const { namespace, name } = task.metadata!;
    session.out(`            ${namespace}/${name}  ${paint.yellow(taskStatus(task))}  ${task.status?.message ?? ""}`);
  }
  if (odd.length > MOST_NAMED) session.out(paint.dim(`            … and ${odd.length - MOST_NAMED} more`));
}
