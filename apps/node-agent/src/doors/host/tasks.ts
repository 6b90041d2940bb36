/** Tasks by the host door: what the agent runs, with what the controller can say of it now. Reads only. */
import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { StatusError } from "@berth/base";
import { ListTasksResponseSchema, TaskSchema, TaskService, type Task } from "@berth/proto/host";
import { implement, type Implementation } from "@berth/rpc";
import type { LocalTask } from "../../local-tasks.ts";

export interface TaskDeps {
  readonly tasks: () => readonly LocalTask[];
}

const ALL = "-";

export function taskService({ tasks }: TaskDeps): Implementation {
  return implement(TaskService, {
    listTasks: async ({ namespace }) => {
      const found = tasks().filter(({ execution }) => namespace === ALL || execution.namespace === namespace);
      return create(ListTasksResponseSchema, { tasks: found.map(toTask).sort(byName) });
    },
    getTask: async ({ namespace, task }) => {
      const mine = tasks().filter(({ execution }) => execution.namespace === namespace);
      const found = mine.findLast(({ execution }) => execution.name === task || execution.taskUid === task);
      if (found !== undefined) return toTask(found);
      const message = `task "${task}" is not on this node, in namespace "${namespace}"; berthd tasks -A lists all`;
      throw new StatusError("NOT_FOUND", message, { reason: "TASK_MISSING", details: { task, namespace } });
    },
  });
}

const byName = (a: Task, b: Task): number =>
  a.namespace.localeCompare(b.namespace) || a.name.localeCompare(b.name) || Number(a.generation - b.generation);

function toTask({ execution, fence, standing }: LocalTask): Task {
  const { namespace, name, taskUid, generation, attempt, state, desired, plan, health, healthMessage } = execution;
  const { certainty, possiblyUntil, why } = standing;
  return create(TaskSchema, {
    namespace,
    name,
    taskUid,
    generation: BigInt(generation),
    attempt,
    state,
    desired,
    image: plan?.image ?? "",
    health,
    healthMessage,
    fenced: fence,
    certainty,
    ...(possiblyUntil === undefined ? {} : { possiblyUntil: timestampFromDate(possiblyUntil) }),
    certaintyWhy: why,
  });
}
