/** `berth exec`: a command in a running task, through the controller. With `-t` the terminal is raw until it ends. */
import type { MessageInitShape } from "@bufbuild/protobuf";
import { TaskService, type ExecRequestSchema } from "@berth/proto";
import { StatusError } from "@berth/base";
import { ExitWith, UsageError } from "../exit-code.ts";
import type { Session } from "../session.ts";
import { parseAssignments } from "./arguments.ts";
import { connectTerminal, createInput, printOutput, sizeOf, type TalkMessage } from "./talk.ts";
import { runningTask } from "./tasks-named.ts";

export interface ExecOptions {
  readonly stdin?: boolean;
  readonly tty?: boolean;
  readonly user?: string;
  readonly workdir?: string;
  readonly env?: readonly string[];
}

export async function exec(
  session: Session,
  task: string,
  command: readonly string[],
  options: ExecOptions,
): Promise<void> {
  const words = command[0] === "--" ? command.slice(1) : command;
  if (words.length === 0) throw new UsageError(`name a command: berth exec ${task} -- COMMAND`);
  if (command[0] !== "--" && words[0]!.startsWith("-")) {
    throw new UsageError(`options go before the task: berth exec ${words[0]} … ${task} -- COMMAND`);
  }
  const terminal = options.tty === true;
  if (terminal && !session.stdin.isTTY) throw new UsageError("-t needs a terminal; leave it out in scripts");
  const environment = Object.entries(parseAssignments(options.env ?? [], "--env"));
  const namespace = session.namespace();
  const input = createInput<MessageInitShape<typeof ExecRequestSchema>>();
  input.push({
    message: {
      case: "open",
      value: {
        namespace,
        name: await runningTask(session, namespace, task),
        command: [...words],
        terminal,
        stdin: options.stdin === true,
        ...(terminal ? { size: sizeOf(session) } : {}),
        user: options.user ?? "",
        workdir: options.workdir ?? "",
        env: environment.map(([name, value]) => ({ name, value })),
      },
    },
  });
  const client = session.client(TaskService);
  const talk = { ...input, push: (message: TalkMessage) => input.push({ message }) };
  using _terminal = connectTerminal(session, talk, { stdin: options.stdin === true, terminal });
  const exitCode = await printOutput(session, client.exec(input.stream, { signal: session.signal }));
  if (exitCode === undefined) throw new StatusError("UNAVAILABLE", "the connection ended before the command did");
  if (exitCode !== 0) throw new ExitWith(exitCode);
}
