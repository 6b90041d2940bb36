/**
 * `berth attach`: a running task's own standard input and output. It ends with the task, with its exit code; ctrl-p ctrl-q (or
 * what `--detach-keys` says) leaves it running.
 */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { StatusError } from "@berth/base";
import { TaskService, type AttachRequestSchema } from "@berth/proto";
import { ExitWith, UsageError } from "../exit-code.ts";
import type { Session } from "../session.ts";
import { createDetachFilter, parseDetachKeys } from "./detach-keys.ts";
import { connectTerminal, createInput, printOutput, sizeOf, type TalkMessage } from "./talk.ts";
import { runningTask } from "./tasks-named.ts";

export interface AttachOptions {
  readonly stdin?: boolean;
  readonly tty?: boolean;
  readonly detachKeys: string;
}

export async function attach(session: Session, target: string, options: AttachOptions): Promise<void> {
  const [stdin, terminal] = [options.stdin === true, options.tty === true];
  if (terminal && !session.stdin.isTTY) throw new UsageError("-t needs a terminal; leave it out in scripts");
  if (terminal && !stdin) throw new UsageError("-t without -i would keep the keys from you; say -it");
  const keys = parseDetachKeys(options.detachKeys);
  const namespace = session.namespace();
  const name = await runningTask(session, namespace, target);
  const input = createInput<MessageInitShape<typeof AttachRequestSchema>>();
  const size = terminal ? { size: sizeOf(session) } : {};
  input.push({ message: { case: "open", value: { namespace, name, stdin, ...size } } });
  const detach = new AbortController();
  const talk = { ...input, push: (message: TalkMessage) => input.push({ message }) };
  const filter = createDetachFilter(keys, () => detach.abort());
  let exitCode: number | undefined;
  try {
    using _terminal = connectTerminal(session, talk, { stdin, terminal, ...(session.stdin.isTTY ? { filter } : {}) });
    const signal = AbortSignal.any([session.signal, detach.signal]);
    exitCode = await printOutput(session, session.client(TaskService).attach(input.stream, { signal }));
  } catch (error) {
    if (!detach.signal.aborted) throw error;
    session.note(`detached from task ${name}; it goes on`);
    return;
  }
  if (exitCode === undefined) throw new StatusError("UNAVAILABLE", "the connection ended before the task did");
  if (exitCode !== 0) throw new ExitWith(exitCode);
}
