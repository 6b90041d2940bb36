/**
 * What this node knows of its tasks and of its own standing, for whoever asks on the host itself: the host door's answers and
 * the metrics. It needs nobody else: it is as true for a node that is cut off. Pure.
 */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate, type Timestamp } from "@bufbuild/protobuf/wkt";
import type { NodeStatusSchema } from "@berth/proto/host";
import { isLive, type Execution } from "./engine/execution.ts";
import { taskStandingOf, type Standing, type TaskStanding } from "./stopper/standing.ts";

export interface LocalTask {
  readonly execution: Execution;
  readonly fence: boolean;
  readonly standing: TaskStanding;
}

/** @param standing undefined: the agent is still starting, and cannot say */
export function localTasks(
  executions: readonly Execution[],
  standing: Standing | undefined,
  stopperProblem: string | undefined,
  now = new Date(),
): LocalTask[] {
  return executions.map((execution) => {
    const { fence = false, stopGraceMs: graceMs = 0 } = execution.plan ?? {};
    if (standing === undefined) {
      const why = "the agent is starting";
      return { execution, fence, standing: { certainty: "unreachable", possiblyUntil: undefined, why } };
    }
    return {
      execution,
      fence,
      standing: taskStandingOf(standing, { fence, graceMs, ended: !isLive(execution.state) }, stopperProblem, now),
    };
  });
}

/** Fenced containers that have not ended: how many, and T, when the last of them has. */
export function fencedOf(tasks: readonly LocalTask[]): { readonly count: number; readonly until: Date | undefined } {
  const open = tasks.filter(({ fence, execution }) => fence && isRunning(execution));
  const times = open.flatMap(({ standing }) => standing.possiblyUntil?.getTime() ?? []);
  return { count: open.length, until: times.length === 0 ? undefined : new Date(Math.max(...times)) };
}

const isRunning = ({ state }: Execution): boolean => state === "running" || state === "stopping";

export function standingFields(
  standing: Standing | undefined,
  tasks: readonly LocalTask[],
): Omit<MessageInitShape<typeof NodeStatusSchema>, "$typeName"> {
  const { count, until } = fencedOf(tasks);
  return {
    ...time("leaseUntil", standing?.leaseUntil),
    ...time("heardAt", standing?.heardAt),
    ...time("cutOffSince", standing?.cutOffSince),
    leaseRefused: standing?.refused ?? "",
    fenced: count,
    ...time("fencedUntil", until),
  };
}

function time<K extends string>(key: K, date: Date | undefined): { readonly [P in K]?: Timestamp } {
  return date === undefined ? {} : ({ [key]: timestampFromDate(date) } as { [P in K]?: Timestamp });
}
