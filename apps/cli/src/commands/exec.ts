/** `berth exec`: a command in a running task, through the controller. With `-t` the terminal is raw until it ends. */
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { ExecRequestSchema, TaskService, type ExecRequest } from "@berth/proto";
import { StatusError } from "@berth/base";
import { ExitWith, UsageError } from "../exit-code.ts";
import type { Session } from "../session.ts";
import { parseAssignments } from "./arguments.ts";
import { tasksNamed } from "./tasks-named.ts";

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
  const input = createInput();
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
  using _terminal = connectTerminal(session, input, options.stdin === true, terminal);
  let exitCode: number | undefined;
  for await (const { message } of client.exec(input.stream, { signal: session.signal })) {
    if (message.case === "exitCode") exitCode = message.value;
    else if (message.case === "stdout" || message.case === "stderr") {
      const sink = message.case === "stdout" ? session.stdout : session.stderr;
      if (!sink.write(message.value)) await new Promise((resolve) => sink.once("drain", resolve));
    }
  }
  if (exitCode === undefined) throw new StatusError("UNAVAILABLE", "the connection ended before the command did");
  if (exitCode !== 0) throw new ExitWith(exitCode);
}

/** The task of that name, else the first running one of the workload of that name. */
async function runningTask(session: Session, namespace: string, target: string): Promise<string> {
  const tasks = await tasksNamed(session, namespace, target);
  const found = tasks.find((task) => task.status?.phase === "Running") ?? tasks[0]!;
  if (tasks.length > 1) session.note(`in task ${found.metadata!.name}`);
  return found.metadata!.name;
}

type RequestInit = MessageInitShape<typeof ExecRequestSchema>;

interface Input {
  push(request: RequestInit): void;
  end(): void;
  readonly stream: AsyncIterable<ExecRequest>;
  /** Resolves when all that was pushed has been taken. */
  drained(): Promise<void>;
}

/** A queue that is the request stream; whoever reads standard input waits for `drained`, so that memory stays bounded. */
function createInput(): Input {
  const queue: ExecRequest[] = [];
  let ended = false;
  let wake = Promise.withResolvers<void>();
  let empty = Promise.withResolvers<void>();
  async function* stream(): AsyncIterable<ExecRequest> {
    for (;;) {
      const next = queue.shift();
      if (next !== undefined) yield next;
      else if (ended) return;
      else {
        empty.resolve();
        await wake.promise;
        wake = Promise.withResolvers();
        empty = Promise.withResolvers();
      }
    }
  }
  return {
    push(request) {
      queue.push(create(ExecRequestSchema, request));
      wake.resolve();
    },
    end() {
      ended = true;
      wake.resolve();
    },
    drained: () => (queue.length === 0 ? Promise.resolve() : empty.promise),
    stream: stream(),
  };
}

function connectTerminal(session: Session, input: Input, stdin: boolean, terminal: boolean): Disposable {
  const { stdin: source, stdout } = session;
  const onData = (chunk: Buffer): void => {
    input.push({ message: { case: "stdin", value: chunk } });
    source.pause();
    void input.drained().then(() => source.resume());
  };
  const onEnd = (): void => input.push({ message: { case: "stdinClosed", value: true } });
  const onResize = (): void => input.push({ message: { case: "resize", value: sizeOf(session) } });
  if (terminal) source.setRawMode(true);
  if (stdin) {
    source.on("data", onData);
    source.on("end", onEnd);
  }
  if (terminal) stdout.on("resize", onResize);
  return {
    [Symbol.dispose]() {
      source.off("data", onData);
      source.off("end", onEnd);
      stdout.off("resize", onResize);
      if (terminal) source.setRawMode(false);
      source.pause();
      source.unref?.();
      input.end();
    },
  };
}

function sizeOf(session: Session): { columns: number; rows: number } {
  const { columns = 80, rows = 24 } = session.stdout as { columns?: number; rows?: number };
  return { columns, rows };
}
