/**
 * TaskService: what runs where. Tasks are made by the reconciler; here they are shown, ended (restart), read (logs) and
 * entered (exec, attach, port-forward, copies: `streams/`).
 */
import { create } from "@bufbuild/protobuf";
import { StatusError } from "@berth/base";
import type { FrameBus } from "@berth/bus";
import { selectorMatches } from "@berth/model";
import {
  ListTasksResponseSchema,
  TaskSchema,
  TaskService,
  WatchTasksResponseSchema,
  type Task,
  type Watermark,
} from "@berth/proto";
import { implement, type Implementation } from "@berth/rpc";
import {
  announceTasks,
  getTask,
  insertEvents,
  listTasks,
  lockTask,
  taskMessage,
  lockHold,
  numberedAfterRestore,
  raiseRevisions,
  updateTasks,
  type TaskRow,
  type Tx,
} from "@berth/store";
import { nextAttempt, placedAgain } from "../reconcile/execution.ts";
import { gaveRoomBack } from "../reconcile/plan-room.ts";
import { getAsOf, listAsOf } from "./as-of.ts";
import { allPages, listPage } from "./list.ts";
import { goingAway, notFound } from "./refusals.ts";
import { namespaceScope, selectorScope } from "./scope.ts";
import { copyIn, copyOut } from "./streams/copy.ts";
import { portForward } from "./streams/forward.ts";
import { logs } from "./streams/logs.ts";
import { attach, exec } from "./streams/process.ts";
import type { StreamDeps } from "./streams/relay.ts";
import { markTasks } from "./watermark.ts";
import { watchResources, type WatchDeps } from "./watch.ts";

export interface TaskDeps extends WatchDeps {
  /** A connection of its own: bulk bytes must not stand before leases and journals. */
  readonly streamBus: FrameBus;
}

interface TaskQuery {
  readonly namespace: string;
  readonly selector: string;
  readonly workload: string;
  readonly node: string;
}

export function taskService(deps: TaskDeps): Implementation {
  const { store } = deps;
  const find: StreamDeps["find"] = (namespace, name) => existingTask(store.db, namespace, name);
  const streams: StreamDeps = { bus: deps.streamBus, find };
  return implement(TaskService, {
    async getTask({ namespace, name, asOf }) {
      if (asOf !== undefined) return await getAsOf(store, { kind: "Task", schema: TaskSchema, asOf, namespace, name });
      const task = taskMessage(await existingTask(store.db, namespace, name));
      await markTasks(store.db, [task]);
      return task;
    },
    async listTasks(request) {
      const query = { pageSize: request.pageSize, pageToken: request.pageToken, ...taskScope(request) };
      const { asOf } = request;
      if (asOf !== undefined) {
        return create(
          ListTasksResponseSchema,
          await listAsOf(store, { kind: "Task", schema: TaskSchema, asOf, ...query }),
        );
      }
      let watermark: Watermark | undefined;
      const page = await listPage(store, async (tx) => {
        const { items, nextPageToken } = await listTasks(tx, query);
        const tasks = items.map(taskMessage);
        watermark = await markTasks(tx, tasks);
        return { items: tasks, nextPageToken };
      });
      return create(ListTasksResponseSchema, { ...page, items: [...page.items], ...(watermark && { watermark }) });
    },
    async *watchTasks(request, { signal }) {
      const scope = taskScope(request);
      const watch = watchResources(
        deps,
        {
          kind: "Task",
          schema: TaskSchema,
          cursor: request.cursor,
          ...namespaceScope(request.namespace),
          list: async (tx) => (await allPages((page) => listTasks(tx, { ...page, ...scope }))).map(taskMessage),
          ...(isNarrow(request) ? { matches: (task: Task) => inScope(task, scope) } : {}),
        },
        signal,
      );
      for await (const { event, resource } of watch) {
        yield create(WatchTasksResponseSchema, { event, ...(resource && { task: resource }) });
      }
    },
    restartTask: ({ namespace, name }) => store.transaction((tx) => restart(tx, namespace, name)),
    async *logs(request, { signal }) {
      yield* logs(deps.streamBus, await existingTask(store.db, request.namespace, request.name), request, signal);
    },
    exec: (requests, { signal }) => exec(streams, requests, signal),
    attach: (requests, { signal }) => attach(streams, requests, signal),
    portForward: (requests, { signal }) => portForward(streams, requests, signal),
    copyOut: (request, { signal }) => copyOut(streams, request, signal),
    copyIn: (requests, { signal }) => copyIn(streams, requests, signal),
  });
}

async function existingTask(tx: Tx, namespace: string, name: string): Promise<TaskRow> {
  const row = await getTask(tx, namespace, name);
  if (row === undefined) throw notFound("task", name, namespace);
  return row;
}

function taskScope({ namespace, selector, workload, node }: TaskQuery) {
  return {
    ...namespaceScope(namespace),
    ...selectorScope(selector),
    ...(workload === "" ? {} : { workload }),
    ...(node === "" ? {} : { node }),
  };
}

function isNarrow({ selector, workload, node }: TaskQuery): boolean {
  return selector !== "" || workload !== "" || node !== "";
}

function inScope({ metadata, spec }: Task, scope: ReturnType<typeof taskScope>): boolean {
  return (
    (scope.workload === undefined || spec?.workload === scope.workload) &&
    (scope.node === undefined || spec?.node === scope.node) &&
    (scope.selector === undefined || selectorMatches(scope.selector, metadata!.labels))
  );
}

/** Names the next execution; its node ends the one before it when it hears of it (D2). The backoff begins anew. */
async function restart(tx: Tx, namespace: string, name: string): Promise<Task> {
  const row = await lockTask(tx, namespace, name);
  if (row === undefined) throw notFound("task", name, namespace);
  if (row.desired !== "Run") throw goingAway("task", name);
  if (row.node === null) {
    const why = row.message || row.reason || row.phase;
    const message = `task "${name}" has not been placed on a node yet (${why}); there is nothing to end`;
    throw new StatusError("FAILED_PRECONDITION", message, { reason: "TASK_NOT_PLACED" });
  }
  if (row.fence && (await lockHold(tx))) {
    const message =
      `task "${name}" must never run twice, and this store was put back from a copy: it is begun again when every node has ` +
      "shown what it runs; berth status tells for which it waits";
    throw new StatusError("FAILED_PRECONDITION", message, { reason: "STORE_HELD" });
  }
  const again = gaveRoomBack(row);
  const patch = again ? placedAgain(row) : nextAttempt(row);
  const updated = await updateTasks(tx, await numberedAfterRestore(tx, [{ before: row, patch: { ...patch, failures: 0 } }])); // prettier-ignore
  await announceTasks(tx, updated);
  // Its node is to let go of what is left of it.
  if (again) await raiseRevisions(tx, [row.node]);
  const message = `attempt ${row.attempt + 1}, asked for${again ? "; it had given its room back, and is placed anew" : ""}`;
  await insertEvents(tx, [
    {
      namespace,
      topic: "/tasks/retry",
      kind: "Task",
      name,
      uid: row.uid,
      node: row.node,
      reason: "Restarted",
      message,
    },
  ]);
  return taskMessage(updated[0]!);
}
