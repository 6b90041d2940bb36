/**
 * A stream between a caller and a task's node, through this controller.
 *
 * Invariants: bytes move only as fast as the slower side reads (the bus's credit one way, the caller's reading the other), so
 * that a stream costs at most a window of memory each way; the node's side ends when the caller goes away, and the caller is
 * told when the node does. Nothing is raced against a promise that outlives a message: each such race would keep its message.
 */
import { hasCode, StatusError } from "@berth/base";
import { openStream, type FrameBus, type OpenedStream, type StreamEvent, type StreamKind } from "@berth/bus";
import type { TaskRow } from "@berth/store";

export interface StreamDeps {
  readonly bus: FrameBus;
  /** The task, or throws. */
  readonly find: (namespace: string, name: string) => Promise<TaskRow>;
}

/** @throws what the agent answered; FAILED_PRECONDITION `TASK_NOT_PLACED`; UNAVAILABLE `NODE_UNREACHABLE`. */
export async function openOnNode(
  bus: FrameBus,
  task: TaskRow,
  kind: StreamKind,
  signal: AbortSignal,
): Promise<OpenedStream> {
  const { name, node } = task;
  if (node === null) {
    const why = task.message || task.reason || task.phase;
    const message = `task "${name}" has not been placed on a node yet (${why}); try again once it is`;
    throw new StatusError("FAILED_PRECONDITION", message, { reason: "TASK_NOT_PLACED" });
  }
  try {
    return await openStream(bus, node, kind, { signal });
  } catch (error) {
    if (!hasCode(error, "UNAVAILABLE", "DEADLINE_EXCEEDED") || signal.aborted) throw error;
    throw new StatusError(
      "UNAVAILABLE",
      `node "${node}" of task "${name}" cannot be reached (${error.message}); \`berth nodes\` shows its state`,
      { reason: "NODE_UNREACHABLE", details: { node }, cause: error },
    );
  }
}

/** The running task of that name. @throws FAILED_PRECONDITION `TASK_NOT_RUNNING`. */
export async function runningTask(
  { find }: StreamDeps,
  open: { readonly namespace: string; readonly name: string },
  verb: string,
): Promise<TaskRow> {
  const task = await find(open.namespace, open.name);
  if (task.phase === "Running") return task;
  const message = `task "${task.name}" is ${task.phase}; ${verb} needs a running one`;
  throw new StatusError("FAILED_PRECONDITION", message, { reason: "TASK_NOT_RUNNING" });
}

type Message = { readonly message: { readonly case: string | undefined; readonly value?: unknown } };
type OpenOf<M extends Message> = Extract<M["message"], { case: "open" }>["value"];

/** The opening message of a call. @throws INVALID_ARGUMENT when it is another one. */
export async function firstMessage<M extends Message>(input: AsyncIterator<M>, verb: string): Promise<OpenOf<M>> {
  const first = await input.next();
  const message = first.done === true ? undefined : first.value.message;
  if (message?.case === "open") return message.value;
  throw StatusError.invalid([{ field: "open", description: `must be the first message of ${verb}` }]);
}

export interface Relay<Request, Response> {
  /** Gives a message of the caller to the node. */
  take(request: Request, stream: OpenedStream): Promise<void> | void;
  /** The caller has closed its half. */
  atEnd(stream: OpenedStream): void;
  answer(event: StreamEvent): Response | undefined;
}

/** Carries both directions until the node's side has ended. What goes wrong with the caller's half ends the other, too. */
export async function* relay<M extends Message, Response>(
  input: AsyncIterator<M>,
  stream: OpenedStream,
  sides: Relay<M, Response>,
): AsyncGenerator<Response> {
  const pump = async (): Promise<void> => {
    for (;;) {
      const next = await input.next();
      if (next.done === true) return sides.atEnd(stream);
      if (next.value.message.case === "open") {
        throw StatusError.invalid([
          { field: "open", description: "was sent twice; it must be the first message only" },
        ]);
      }
      await sides.take(next.value, stream);
    }
  };
  pump().catch((error: unknown) => stream.fail(StatusError.from(error)));
  for await (const event of stream.events) {
    const response = sides.answer(event);
    if (response !== undefined) yield response;
  }
}
