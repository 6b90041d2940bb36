/**
 * One TCP connection to a task's own loopback. The socket is made in the task's network namespace and lives on this side of it;
 * nothing runs in the container. Each half closes on its own; a reset on either side resets the other.
 */
import { once } from "node:events";
import type { Socket } from "node:net";
import { aborted, StatusError } from "@berth/base";
import type { ServedStream } from "@berth/bus";
import { connectInNetns, processStartTicks } from "@berth/linux";
import type { StreamForward } from "@berth/proto";
import type { Engine, RunningTask } from "../../../engine/engine.ts";
import { firstProcess, hasEnded, type FirstProcess } from "./first-process.ts";

const CONNECT_MS = 10_000;

export async function openForward(
  engine: Pick<Engine, "enter">,
  { taskUid, port }: StreamForward,
): Promise<(stream: ServedStream) => Promise<void>> {
  const task = engine.enter(taskUid);
  const socket = await connectTo(task, port);
  return (stream) => runForward(socket, task, stream);
}

/** By IPv4, then by IPv6: a program may listen on one of them only. */
async function connectTo(task: RunningTask, port: number): Promise<Socket> {
  const process = await firstProcess(task, "network");
  try {
    return await connect(task, process, 4, port);
  } catch (first) {
    if ((first as NodeJS.ErrnoException).code !== "ECONNREFUSED") throw refused(task, port, first);
    return await connect(task, process, 6, port).catch(() => {
      throw refused(task, port, first);
    });
  }
}

async function connect(task: RunningTask, process: FirstProcess, family: 4 | 6, port: number): Promise<Socket> {
  const { pid, startTicks } = process;
  const host = family === 4 ? "127.0.0.1" : "::1";
  const socket = connectInNetns(`/proc/${pid}/ns/net`, { host, port, family, allowHalfOpen: true });
  try {
    // The namespace was entered by the pid: it was this process's, if that is still here.
    if (processStartTicks(pid) !== startTicks) throw hasEnded(task.name);
    await once(socket, "connect", { signal: AbortSignal.timeout(CONNECT_MS) });
    return socket.setNoDelay(true);
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

function refused({ name }: RunningTask, port: number, cause: unknown): StatusError {
  if (cause instanceof StatusError) return cause;
  const { code, message } = cause as NodeJS.ErrnoException;
  const text =
    code === "ECONNREFUSED"
      ? `nothing listens on port ${port} of task ${name}`
      : `port ${port} of task ${name} cannot be connected to: ${message}`;
  return new StatusError("FAILED_PRECONDITION", text, { reason: "PORT_CLOSED", cause });
}

async function runForward(socket: Socket, task: RunningTask, stream: ServedStream): Promise<void> {
  void aborted(stream.signal).then(() => socket.resetAndDestroy());
  socket.on("error", () => {}); // both loops below see it
  stream.started();
  try {
    await Promise.all([send(socket, stream), receive(socket, stream)]);
  } catch (error) {
    socket.resetAndDestroy();
    if (!(error instanceof Error) || !("code" in error) || stream.signal.aborted) throw error;
    if (error instanceof StatusError) throw error;
    const text = `task ${task.name} has broken the connection off: ${error.message}`;
    throw new StatusError("ABORTED", text, { reason: "CONNECTION_RESET", cause: error });
  }
}

async function send(socket: Socket, stream: ServedStream): Promise<void> {
  for await (const chunk of stream.input) {
    if (!socket.write(chunk)) await once(socket, "drain", { signal: stream.signal });
  }
  socket.end();
}

async function receive(socket: Socket, stream: ServedStream): Promise<void> {
  for await (const chunk of socket.iterator({ destroyOnReturn: false })) await stream.stdout(chunk as Buffer);
  stream.closeOutput();
}
