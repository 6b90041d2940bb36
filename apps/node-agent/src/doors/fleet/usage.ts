/** Answers what this node and its running tasks use, as counters: whoever asks twice knows the rate (`berth top`). */
import { cpus, freemem, totalmem } from "node:os";
import { create } from "@bufbuild/protobuf";
import type { Logger } from "@berth/base";
import { usageEndpoint, type Bus } from "@berth/bus";
import { TaskCountersSchema, UsageReplySchema, type TaskCounters } from "@berth/proto";
import type { Engine } from "../../engine/engine.ts";

export interface UsageDeps {
  readonly engine: Pick<Engine, "running">;
  /** New for every start of the agent: its clock begins anew with it. */
  readonly instance: string;
  readonly logger: Logger;
}

export function serveUsage(bus: Pick<Bus, "serve">, node: string, deps: UsageDeps): Disposable {
  return bus.serve(usageEndpoint, { node }, async (request) => {
    const running = deps.engine.running();
    const tasks = request.tasks ? await Promise.all(running.map((each) => countersOf(deps, each))) : [];
    return create(UsageReplySchema, {
      sampledAtMs: performance.now(),
      instance: deps.instance,
      cpuSeconds: busySeconds(),
      cpus: cpus().length,
      memoryUsedBytes: BigInt(totalmem() - freemem()),
      memoryBytes: BigInt(totalmem()),
      runningTasks: running.length,
      tasks: tasks.filter((each) => each !== undefined),
    });
  });
}

/** Undefined for one that is gone meanwhile. */
async function countersOf(
  { logger }: UsageDeps,
  { container, runtime }: ReturnType<Engine["running"]>[number],
): Promise<TaskCounters | undefined> {
  try {
    const { cpuUsageSeconds, memoryUsageBytes, pids } = await runtime.stats(container);
    const { namespace, name, taskUid, generation, attempt } = container;
    return create(TaskCountersSchema, {
      namespace,
      name,
      execution: `${taskUid}/${generation}/${attempt}`,
      cpuSeconds: cpuUsageSeconds,
      memoryBytes: BigInt(memoryUsageBytes),
      pids: BigInt(pids),
    });
  } catch (error) {
    logger.debug({ id: container.id, err: error }, "a container was not measured");
    return undefined;
  }
}

/** What all processors have worked since the host was started. */
function busySeconds(): number {
  const ms = cpus().reduce((sum, { times }) => sum + times.user + times.nice + times.sys + times.irq, 0);
  return ms / 1_000;
}
