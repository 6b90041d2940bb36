/**
 * The start of an agent that did not begin with an empty host (flow D).
 *
 * First what belongs to nobody goes (`sweep.ts`): nothing is being started yet, so whatever no record names is a leftover.
 * Then every execution is decided by its row and by what the runtime says: one that runs is watched again, one that ended
 * meanwhile is reported with its code, one that was being started or stopped goes on from there. That is the lifecycle's
 * ordinary work; this only looks at each once.
 */
import { StatusError, type Logger } from "@berth/base";
import type { Journal } from "@berth/journal";
import { containerOf, type EnginePaths } from "./container.ts";
import { describeKey, isLive, type Execution } from "./execution.ts";
import { agentEntry } from "./journal-entries.ts";
import type { EngineRows } from "./rows.ts";
import type { Sweep } from "./sweep.ts";
import type { TaskLifecycle } from "./task-lifecycle.ts";

export interface RecoverDeps {
  readonly journal: Journal;
  readonly rows: EngineRows;
  readonly lifecycle: TaskLifecycle;
  readonly sweep: Pick<Sweep, "run">;
  readonly paths: EnginePaths;
  readonly logger: Logger;
}

export interface Recovery {
  readonly executions: number;
  readonly live: number;
  readonly swept: number;
}

export async function recoverEngine(deps: RecoverDeps): Promise<Recovery> {
  const open = deps.rows.open();
  const swept = await sweepQuietly(deps, open);
  for (const taskUid of new Set(open.map((execution) => execution.taskUid))) deps.lifecycle.kick(taskUid);
  const live = open.filter((execution) => isLive(execution.state)).length;
  const recovery = { executions: open.length, live, swept };
  if (open.length > 0 || swept > 0) {
    const message = `took up ${open.length} executions, ${live} of them live; removed ${swept} leftovers`;
    await deps.journal.append([agentEntry("recovered", "Restarted", message)]);
    deps.logger.info({ ...recovery, keys: open.slice(0, 20).map(describeKey) }, message);
  }
  return recovery;
}

/** A leftover that cannot be removed is reported; it must not keep the agent from its work. */
async function sweepQuietly(deps: RecoverDeps, open: readonly Execution[]): Promise<number> {
  const owned = open.flatMap((execution) =>
    execution.plan === undefined ? [] : [containerOf(execution, execution.plan, deps.paths)],
  );
  try {
    return await deps.sweep.run(owned);
  } catch (error) {
    const status = StatusError.from(error);
    deps.logger.error({ err: status }, `leftovers could not be removed: ${status.message}`);
    await deps.journal.append([agentEntry("warning", "SweepFailed", status.message)]);
    return 0;
  }
}
