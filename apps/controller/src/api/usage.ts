/**
 * UsageService: what nodes and tasks use now. Each look asks the agents that are heard, a bounded number at a time, and each
 * within a bound: one that does not answer is named and holds up nobody. Two looks make a rate; nothing is stored (D1).
 */
import { create } from "@bufbuild/protobuf";
import { durationMs, timestampNow } from "@bufbuild/protobuf/wkt";
import { Semaphore, systemClock, throwIfAborted, type Clock } from "@berth/base";
import { usageEndpoint, type FrameBus } from "@berth/bus";
import {
  NodeUsageSchema,
  TaskUsageSchema,
  UsageRequestSchema,
  UsageSchema,
  UsageService,
  type NodeUsage,
  type TaskUsage,
  type Usage,
  type UsageReply,
  type WatchUsageRequest,
} from "@berth/proto";
import { implement, type Implementation } from "@berth/rpc";
import { listNodes, type Store } from "@berth/store";
import { allPages } from "./list.ts";
import { namespaceScope, selectorScope } from "./scope.ts";

export interface UsageDeps {
  readonly store: Store;
  readonly bus: Pick<FrameBus, "request">;
  readonly clock?: Clock;
}

const DEFAULT_INTERVAL_MS = 2_000;
const LEAST_INTERVAL_MS = 500;
const ANSWER_MS = 2_000;
const ASKED_AT_ONCE = 64;

export function usageService(deps: UsageDeps): Implementation {
  return implement(UsageService, { watchUsage: (request, { signal }) => watchUsage(deps, request, signal) });
}

type Answers = ReadonlyMap<string, UsageReply>;

export async function* watchUsage(
  deps: UsageDeps,
  request: WatchUsageRequest,
  signal: AbortSignal,
): AsyncGenerator<Usage> {
  const { clock = systemClock } = deps;
  const wanted = request.interval === undefined ? DEFAULT_INTERVAL_MS : durationMs(request.interval);
  const intervalMs = Math.max(LEAST_INTERVAL_MS, wanted);
  let before: Answers = (await ask(deps, request, signal)).answers;
  for (;;) {
    await clock.sleep(intervalMs, signal);
    throwIfAborted(signal);
    const { answers, unanswered } = await ask(deps, request, signal);
    yield usageOf(request, before, answers, unanswered);
    before = answers;
  }
}

async function ask(
  { store, bus }: UsageDeps,
  { selector, namespace }: WatchUsageRequest,
  signal: AbortSignal,
): Promise<{ readonly answers: Answers; readonly unanswered: string[] }> {
  const rows = await allPages((page) => listNodes(store.db, { ...page, ...selectorScope(selector) }));
  const permits = new Semaphore(ASKED_AT_ONCE);
  const message = create(UsageRequestSchema, { tasks: namespace !== "" });
  const answers = new Map<string, UsageReply>();
  const unanswered: string[] = [];
  await Promise.all(
    rows
      .filter((row) => row.phase !== "Unknown")
      .map(async ({ name }) => {
        using _permit = await permits.acquire(signal);
        const reply = await bus
          .request(usageEndpoint, name, message, { timeoutMs: ANSWER_MS, signal })
          .catch(() => undefined);
        if (reply === undefined) unanswered.push(name);
        else answers.set(name, reply);
      }),
  );
  throwIfAborted(signal);
  return { answers, unanswered: unanswered.sort() };
}

/** Of those that answered both times; pure. */
export function usageOf(
  request: Pick<WatchUsageRequest, "namespace">,
  before: Answers,
  after: Answers,
  unanswered: readonly string[],
): Usage {
  const nodes: NodeUsage[] = [];
  const tasks: TaskUsage[] = [];
  const { namespace } = namespaceScope(request.namespace === "" ? "-" : request.namespace);
  for (const [name, now] of after) {
    const then = before.get(name);
    if (then === undefined || then.instance !== now.instance) continue;
    const seconds = (now.sampledAtMs - then.sampledAtMs) / 1_000;
    if (seconds <= 0) continue;
    nodes.push(nodeUsage(name, now, then, seconds));
    const counted = new Map(then.tasks.map((task) => [task.execution, task.cpuSeconds]));
    for (const task of now.tasks) {
      const cpu = counted.get(task.execution);
      if (cpu === undefined || (namespace !== undefined && task.namespace !== namespace)) continue;
      const { namespace: of, name: task_, memoryBytes, pids } = task;
      const cpuMillis = rate(task.cpuSeconds - cpu, seconds);
      tasks.push(create(TaskUsageSchema, { namespace: of, name: task_, node: name, cpuMillis, memoryBytes, pids }));
    }
  }
  return create(UsageSchema, { at: timestampNow(), nodes, tasks, unanswered: [...unanswered] });
}

function nodeUsage(name: string, now: UsageReply, then: UsageReply, seconds: number): NodeUsage {
  return create(NodeUsageSchema, {
    name,
    cpuMillis: rate(now.cpuSeconds - then.cpuSeconds, seconds),
    cpuCapacityMillis: BigInt(now.cpus * 1_000),
    memoryBytes: now.memoryUsedBytes,
    memoryCapacityBytes: now.memoryBytes,
    tasks: now.runningTasks,
  });
}

/** In thousandths of a core. */
function rate(cpuSeconds: number, seconds: number): bigint {
  return BigInt(Math.max(0, Math.round((cpuSeconds / seconds) * 1_000)));
}
