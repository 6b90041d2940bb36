/** Where a task is meant, the name of a workload stands for its tasks. */
import { hasCode, StatusError } from "@berth/base";
import type { Task } from "@berth/proto";
import { taskKind, workloadKind } from "../kinds.ts";
import type { Session } from "../session.ts";

/**
 * The task of that name, else the tasks of the workload of that name; `task/NAME` and `workload/NAME` say which is meant.
 * @throws NOT_FOUND when there is none
 */
export async function tasksNamed(session: Session, namespace: string, target: string): Promise<readonly Task[]> {
  const found = await taskOrWorkload(session, namespace, target);
  if (found.task !== undefined) return [found.task];
  const { workload: name } = found;
  const { items } = await taskKind.list(session, { namespace, selector: "", workload: name });
  if (items.length > 0) return items;
  throw new StatusError("NOT_FOUND", `workload "${name}" has no tasks; see berth describe workload ${name}`);
}

export type Named =
  | { readonly task: Task; readonly workload?: undefined }
  | { readonly task?: undefined; readonly workload: string };

/** Which of the two is meant. @throws NOT_FOUND when there is neither */
export async function taskOrWorkload(session: Session, namespace: string, target: string): Promise<Named> {
  const [, kind, name = ""] = /^(?:(task|t|workload|wl)\/)?(.*)$/.exec(target) ?? [];
  const isTask = kind === "task" || kind === "t";
  if (kind === undefined || isTask) {
    try {
      return { task: await taskKind.get(session, namespace, name) };
    } catch (error) {
      if (isTask || !hasCode(error, "NOT_FOUND")) throw error;
    }
  }
  try {
    await workloadKind.get(session, namespace, name);
  } catch (error) {
    if (!hasCode(error, "NOT_FOUND") || error.reason === "NAMESPACE_NOT_FOUND") throw error;
    throw new StatusError(
      "NOT_FOUND",
      `neither a task nor a workload "${name}" in namespace "${namespace}"; see berth get tasks`,
    );
  }
  return { workload: name };
}

/** The task of that name, else the first running one of the workload of that name; which one is said. */
export async function runningTask(session: Session, namespace: string, target: string): Promise<string> {
  const tasks = await tasksNamed(session, namespace, target);
  const found = tasks.find((task) => task.status?.phase === "Running") ?? tasks[0]!;
  if (tasks.length > 1) session.note(`in task ${found.metadata!.name}`);
  return found.metadata!.name;
}
