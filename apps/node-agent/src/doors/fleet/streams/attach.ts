/**
 * A running task's own standard input and output.
 *
 * Output is read from the task's log, where the supervisor writes it, from the moment of attaching: a reader that stalls falls
 * behind there and holds up nobody. One that is so slow that the log has been rotated away is told so. Input goes through the
 * supervisor (libs/runtime, oci/input.ts).
 */
import { stat } from "node:fs/promises";
import { StatusError } from "@berth/base";
import type { ServedStream } from "@berth/bus";
import type { StreamAttach } from "@berth/proto";
import { readLog, type ContainerInput } from "@berth/runtime";
import type { Engine, RunningTask, TaskOutput } from "../../../engine/engine.ts";

export async function openAttach(
  engine: Pick<Engine, "enter" | "output">,
  open: StreamAttach,
): Promise<(stream: ServedStream) => Promise<number>> {
  const task = engine.enter(open.taskUid);
  if (open.stdin && (task.container.plan.container.input ?? "none") === "none") {
    const text = `task ${task.name} has no standard input: give its workload spec.container.stdin, or attach without -i`;
    throw new StatusError("FAILED_PRECONDITION", text, { reason: "TASK_WITHOUT_STDIN" });
  }
  const { size } = open;
  if (size !== undefined && task.container.plan.container.terminal !== true) {
    const text = `task ${task.name} has no terminal: give its workload spec.container.tty, or attach without -t`;
    throw new StatusError("FAILED_PRECONDITION", text, { reason: "TASK_WITHOUT_TERMINAL" });
  }
  if (size !== undefined) await resize(task, size.columns, size.rows);
  // Before any input, so that all it brings about is seen.
  const fromOffset = await sizeOf(task.container.logPath);
  using opened = new DisposableStack();
  const output = opened.use(engine.output(open.taskUid));
  const input = open.stdin ? opened.use(await task.runtime.openInput(task.container)) : undefined;
  const held = opened.move();
  return async (stream) => {
    using _held = held;
    return await runAttach(task, { input, output, fromOffset }, stream);
  };
}

interface Attachment {
  readonly input: ContainerInput | undefined;
  readonly output: TaskOutput;
  readonly fromOffset: number;
}

async function runAttach(task: RunningTask, attachment: Attachment, stream: ServedStream): Promise<number> {
  const { fromOffset, input, output } = attachment;
  stream.onResize((columns, rows) => void resize(task, columns, rows).catch(() => {}));
  stream.started();
  if (input !== undefined) void feed(input, stream);
  const options = { follow: true, live: true, fromOffset, ended: output.ended, signal: stream.signal };
  for await (const { stream: from, text } of readLog(output.path, options)) {
    await (from === "stderr" ? stream.stderr(text) : stream.stdout(text));
  }
  const exit = output.exit();
  if (exit?.kind === "exited") return exit.exitCode;
  const text =
    exit === undefined
      ? `the agent of task ${task.name} is stopping; the task goes on`
      : `task ${task.name} has ended, and nobody knows how: ${exit.reason}`;
  throw new StatusError("UNAVAILABLE", text, { reason: exit === undefined ? "STOPPING" : "EXIT_UNKNOWN" });
}

/** The end of the caller's input is the end of ours; what that means to the container its spec says. */
async function feed(input: ContainerInput, stream: ServedStream): Promise<void> {
  try {
    for await (const chunk of stream.input) await input.write(chunk, stream.signal);
  } catch {
    // The stream broke; who reads the output is told.
  }
  input[Symbol.dispose]();
}

async function resize({ container, runtime }: RunningTask, columns: number, rows: number): Promise<void> {
  if (container.plan.container.terminal === true) await runtime.resize(container, columns, rows);
}

async function sizeOf(path: string): Promise<number> {
  return await stat(path).then(
    (info) => info.size,
    () => 0,
  );
}
