/**
 * What tasks are and become, from one watch of their workload, for any number who wait on one of them. Who is slow sees the newest
 * version only: what was between is over.
 */
import { hasCode, withSignal } from "@berth/base";
import type { Task } from "@berth/proto";
import { follow } from "../follow.ts";
import type { Change } from "../kind.ts";
import { taskKind } from "../kinds.ts";
import { persistCall } from "../persist.ts";
import type { Session } from "../session.ts";

/** A task as it is and as it changes, until it is gone; nothing of one that is gone already. */
export type VersionsOf = (name: string) => AsyncIterable<Task>;

/** Of tasks that somebody else watches. */
export class TaskVersions {
  readonly #signal: AbortSignal;
  readonly #tasks = new Map<string, Task>();
  #changed = Promise.withResolvers<void>();

  constructor(signal: AbortSignal, tasks: readonly Task[]) {
    this.#signal = signal;
    for (const task of tasks) this.#tasks.set(task.metadata!.name, task);
  }

  saw({ event, object }: Change<Task>): void {
    const { name } = object.metadata!;
    if (event.type === "DELETED") this.#tasks.delete(name);
    else this.#tasks.set(name, object);
    this.#changed.resolve();
    this.#changed = Promise.withResolvers();
  }

  async *of(name: string): AsyncGenerator<Task> {
    for (let told: Task | undefined; ;) {
      const { promise: changed } = this.#changed;
      const task = this.#tasks.get(name);
      if (task === undefined) return;
      if (task === told) await withSignal(changed, this.#signal);
      else {
        told = task;
        yield task;
      }
    }
  }
}

/** Of a single task, with a watch of its own: of its workload's tasks, not of the whole namespace. */
export async function* watchTask(session: Session, namespace: string, name: string): AsyncGenerator<Task> {
  const workload = await persistCall(session, () => workloadOf(session, namespace, name));
  if (workload === undefined) return;
  const scope = { namespace, selector: "", workload };
  const listing = await persistCall(session, () => taskKind.list(session, scope));
  const present = listing.items.find((task) => task.metadata?.name === name);
  if (present === undefined) return;
  yield present;
  for await (const { event, object } of follow(session, taskKind, scope, listing)) {
    if (object.metadata?.name !== name) continue;
    if (event.type === "DELETED") return;
    yield object;
  }
}

async function workloadOf(session: Session, namespace: string, name: string): Promise<string | undefined> {
  try {
    return (await taskKind.get(session, namespace, name)).spec?.workload ?? "";
  } catch (error) {
    if (hasCode(error, "NOT_FOUND")) return undefined;
    throw error;
  }
}
