/** A command in a running task. */
import { once } from "node:events";
import { aborted, StatusError } from "@berth/base";
import type { ServedStream } from "@berth/bus";
import type { StreamExec } from "@berth/proto";
import type { ExecProcess, ExecRequest } from "@berth/runtime";
import type { Engine } from "../../../engine/engine.ts";

export async function openExec(
  engine: Pick<Engine, "exec">,
  open: StreamExec,
): Promise<(stream: ServedStream) => Promise<number>> {
  const request = execRequest(open);
  // Begun before the answer, so that "not running" and "no such program" are the answer.
  const process = await engine.exec(open.taskUid, request);
  return (stream) => runExec(process, stream, open);
}

function execRequest({ open }: StreamExec): ExecRequest {
  if (open === undefined || open.command.length === 0) {
    throw StatusError.invalid([{ field: "open.command", description: "is empty" }]);
  }
  return {
    args: open.command,
    env: open.env.map(({ name, value }) => `${name}=${value}`),
    ...(open.workdir === "" ? {} : { cwd: open.workdir }),
    ...(open.user === "" ? {} : { user: open.user }),
    terminal: open.terminal,
    ...(open.size === undefined ? {} : { columns: open.size.columns, rows: open.size.rows }),
  };
}

async function runExec(process: ExecProcess, stream: ServedStream, { open }: StreamExec): Promise<number> {
  await using _process = process;
  void aborted(stream.signal).then(() => process[Symbol.asyncDispose]());
  stream.onResize((columns, rows) => process.resize(columns, rows));
  stream.started();
  if (open?.stdin === true) void feed(process, stream);
  else process.stdin.end();
  const outputs = [
    drain(process.stdout, (data) => stream.stdout(data)),
    ...(open?.terminal === true ? [] : [drain(process.stderr, (data) => stream.stderr(data))]),
  ];
  await Promise.all(outputs);
  return await process.exitCode;
}

/** Input until its end; a process that no longer reads is no fault of the stream. */
async function feed(process: ExecProcess, stream: ServedStream): Promise<void> {
  const { stdin } = process;
  stdin.on("error", () => {});
  try {
    for await (const chunk of stream.input) {
      if (!stdin.write(chunk)) await once(stdin, "drain", { signal: stream.signal });
    }
  } catch {
    // The stream broke: its signal ends the process.
  }
  stdin.end();
}

async function drain(source: NodeJS.ReadableStream, send: (data: Uint8Array) => Promise<void>): Promise<void> {
  for await (const chunk of source) await send(chunk as Buffer);
}
