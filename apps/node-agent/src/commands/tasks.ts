/** `berthd tasks`: what this node runs, and what the controller can say of it now. */
import { TaskSchema, TaskService, NodeService, type Task } from "@berth/proto/host";
import { printFields, printJson, printList, timeOf, type Session } from "./session.ts";
import { standingLines } from "./status.ts";

export async function list(
  session: Session,
  name: string | undefined,
  { allNamespaces = false }: { readonly allNamespaces?: boolean },
): Promise<void> {
  if (name !== undefined) return await one(session, name);
  const { tasks } = await session.client(TaskService).listTasks({ namespace: allNamespaces ? "-" : session.namespace });
  if (!session.json) {
    const node = await session.client(NodeService).getStatus({});
    if (!node.leaseHeld) for (const [, line] of standingLines(node)) session.note(line);
  }
  printList(session, TaskSchema, tasks, [
    ...(allNamespaces ? [{ heading: "NAMESPACE", cell: ({ namespace }: Task) => namespace }] : []),
    { heading: "NAME", cell: (task) => task.name },
    { heading: "STATE", cell: ({ state }) => state },
    { heading: "HEALTH", cell: ({ health }) => health || "-" },
    { heading: "FENCED", cell: ({ fenced }) => (fenced ? "yes" : "no") },
    { heading: "CERTAINTY", cell: ({ certainty }) => certainty },
    { heading: "UNTIL", cell: ({ possiblyUntil }) => timeOf(possiblyUntil) },
    { heading: "IMAGE", cell: ({ image }) => image || "-" },
  ]);
}

async function one(session: Session, name: string): Promise<void> {
  const task = await session.client(TaskService).getTask({ namespace: session.namespace, task: name });
  if (session.json) return printJson(session, TaskSchema, task);
  const { generation, attempt, state, desired, image, health, healthMessage, fenced, certainty } = task;
  const until = task.possiblyUntil === undefined ? "" : ` until ${timeOf(task.possiblyUntil)}`;
  const why = task.certaintyWhy === "" ? "" : `: ${task.certaintyWhy}`;
  printFields(session, [
    ["Task", `${task.namespace}/${task.name}`],
    ["Uid", task.taskUid],
    ["Execution", `generation ${generation}, attempt ${attempt}`],
    ["State", `${state} (to ${desired})`],
    ["Image", image || "-"],
    ["Health", health === "" ? "no probes" : `${health}${healthMessage === "" ? "" : `: ${healthMessage}`}`],
    ["Fenced", fenced ? "yes: the stopper ends it when the lease runs out" : "no: it goes on without the controller"],
    ["Certainty", `${certainty}${until}${why}`],
  ]);
}
