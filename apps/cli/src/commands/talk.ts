/** Talking to a process through the controller: what is typed goes in, what it says comes out. For `exec` and `attach`. */
import type { ExecResponse } from "@berth/proto";
import { once } from "node:events";
import type { Session } from "../session.ts";

/** What the caller's half of such a call is made of, whichever call it is. */
export type TalkMessage =
  | { readonly case: "stdin"; readonly value: Uint8Array }
  | { readonly case: "stdinClosed"; readonly value: true }
  | { readonly case: "resize"; readonly value: TerminalSize };

export interface TerminalSize {
  readonly columns: number;
  readonly rows: number;
}

export interface Input<T> {
  push(message: T): void;
  end(): void;
  readonly stream: AsyncIterable<T>;
  /** Resolves when all that was pushed has been taken. */
  drained(): Promise<void>;
}

/** A queue that is the request stream; whoever reads standard input waits for `drained`, so that memory stays bounded. */
export function createInput<T>(): Input<T> {
  const queue: T[] = [];
  let ended = false;
  let wake = Promise.withResolvers<void>();
  let empty = Promise.withResolvers<void>();
  async function* stream(): AsyncIterable<T> {
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
    push(message) {
      queue.push(message);
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

export interface TerminalOptions {
  readonly stdin: boolean;
  /** Raw until it is disposed. */
  readonly terminal: boolean;
  /** Sees what is typed first; what it gives is passed on, undefined ends the talk. */
  readonly filter?: (typed: Buffer) => Buffer | undefined;
}

/** Connects standard input and the window's size to the request stream. Disposing gives the terminal back as it was. */
export function connectTerminal(
  session: Session,
  input: Pick<Input<TalkMessage>, "push" | "end" | "drained">,
  { stdin, terminal, filter = (typed) => typed }: TerminalOptions,
): Disposable {
  const { stdin: source, stdout } = session;
  const onData = (chunk: Buffer): void => {
    const value = filter(chunk);
    if (value === undefined) return;
    if (value.length > 0) input.push({ case: "stdin", value });
    source.pause();
    void input.drained().then(() => source.resume());
  };
  const onEnd = (): void => input.push({ case: "stdinClosed", value: true });
  const onResize = (): void => input.push({ case: "resize", value: sizeOf(session) });
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

/** Prints until the process has ended; undefined when the call ended before. */
export async function printOutput(
  session: Session,
  responses: AsyncIterable<ExecResponse>,
): Promise<number | undefined> {
  let exitCode: number | undefined;
  for await (const { message } of responses) {
    if (message.case === "exitCode") exitCode = message.value;
    else if (message.case === "stdout" || message.case === "stderr") {
      const sink = message.case === "stdout" ? session.stdout : session.stderr;
      if (!sink.write(message.value)) await once(sink, "drain");
    }
  }
  return exitCode;
}

export function sizeOf(session: Session): TerminalSize {
  const { columns = 80, rows = 24 } = session.stdout as { columns?: number; rows?: number };
  return { columns, rows };
}
